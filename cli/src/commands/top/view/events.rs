//! The panel of what happens, the latest first.

use ratatui::text::{Line, Span};

use super::theme::Theme;
use super::{Drawn, Heading, client_cells, table, word};
use crate::commands::top::model::{LoggedEvent, Model};
use crate::commands::top::text;
use crate::local_time;

const KIND_CELLS: usize = 9;

pub fn draw(model: &Model, theme: Theme, width: usize, heading: Heading) -> Drawn {
    let mut rows: Vec<Line<'static>> = Vec::new();
    // Those above and below are only counted.
    let mut count = 0;
    for event in model.events() {
        let is_seen = count >= heading.offset && count < heading.offset + heading.visible;
        rows.push(if is_seen { row(event, theme, width) } else { Line::default() });
        count += 1;
    }
    let note = (String::new(), theme.plain());
    let title = table::title_with_note(&heading.text("Events", count), note, width, heading.has_focus, theme);
    if rows.is_empty() {
        let text = if model.filter.is_empty() {
            " nothing has happened since top was started"
        } else {
            " no event that the filter shows"
        };
        rows.push(Line::styled(text, theme.faint()));
    }
    Drawn { title, rows }
}

fn row(event: &LoggedEvent, theme: Theme, width: usize) -> Line<'static> {
    let at = format!(" {} ", local_time::of(event.at));
    let client = word(event.client.as_deref().unwrap_or("–"), client_cells(width), width);
    let kind = format!(" {} ", word(&event.kind, KIND_CELLS, width));
    let left = width.saturating_sub(text::width(&at) + text::width(&client) + text::width(&kind));
    Line::from(vec![
        Span::styled(at, theme.faint()),
        Span::raw(client),
        Span::styled(kind, theme.of_kind(&event.kind)),
        Span::raw(text::cut(&event.text, left)),
    ])
}
