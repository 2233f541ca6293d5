//! The panel of what needs a person.

use jiff::Timestamp;
use ratatui::text::{Line, Span};

use super::theme::Theme;
use super::{ALIGNED_FROM, Drawn, Heading, client_cells, table, word};
use crate::commands::top::attention::{Level, Matter};
use crate::commands::top::model::Model;
use crate::commands::top::text;

const KIND_CELLS: usize = 11;

pub fn draw(model: &Model, theme: Theme, now: Timestamp, width: usize, heading: Heading) -> Drawn {
    let matters = model.matters(now);
    let alerts = matters.iter().filter(|matter| matter.level == Level::Alert).count();
    let sum = match (alerts, matters.len() - alerts) {
        (0, 0) => String::new(),
        (alerts, 0) => format!("{alerts} to act on"),
        (0, notices) => format!("{notices} to know"),
        (alerts, notices) => format!("{alerts} to act on, {notices} to know"),
    };
    let note = (sum, if alerts > 0 { theme.alert() } else { theme.notice() });
    let name = heading.text("Attention", matters.len());
    let title = table::title_with_note(&name, note, width, heading.has_focus, theme);
    let mut rows: Vec<_> = matters.iter().map(|matter| row(matter, theme, width)).collect();
    if rows.is_empty() {
        rows.push(calm(model, theme));
    }
    Drawn { title, rows }
}

fn calm(model: &Model, theme: Theme) -> Line<'static> {
    match model.shown().read_at {
        None => Line::styled(" nothing is known yet", theme.faint()),
        Some(_) if !model.filter.is_empty() => Line::styled(" nothing that the filter shows", theme.faint()),
        Some(_) => Line::styled(" ✔ nothing needs a person", theme.good()),
    }
}

fn row(matter: &Matter, theme: Theme, width: usize) -> Line<'static> {
    let (mark, style) = match matter.level {
        Level::Alert => ("!", theme.alert()),
        Level::Notice => ("~", theme.notice()),
    };
    let mut before = format!(" {mark} {} ", word(matter.kind, KIND_CELLS, width));
    if width >= ALIGNED_FROM || matter.client.is_some() {
        let client = matter.client.as_deref().unwrap_or("");
        before.push_str(&format!("{} ", word(client, client_cells(width), width)));
    }
    let left = width.saturating_sub(text::width(&before));
    Line::from(vec![Span::styled(before, style), Span::raw(text::cut(&matter.text, left))])
}
