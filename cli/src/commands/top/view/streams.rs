//! The panel of streams.

use ratatui::style::Style;
use ratatui::text::Line;

use super::table::{self, Cell, Column};
use super::theme::Theme;
use super::{Drawn, Heading};
use crate::commands::top::api::Stream;
use crate::commands::top::model::Model;
use crate::commands::top::streams::{backlog, decision, load, name, running, throughput};
use crate::commands::top::text::{compact, width as cells_of};

const NAME_CELLS_MIN: usize = 12;
const NAME_CELLS_MAX: usize = 30;
/// More instances than this are only a number.
const BOXES_MAX: u64 = 6;

pub fn draw(model: &Model, theme: Theme, width: usize, heading: Heading) -> Drawn {
    let rows = model.stream_rows();
    let longest = rows.iter().map(|stream| cells_of(&name(stream)) + 1).max().unwrap_or(0);
    let first = longest.clamp(NAME_CELLS_MIN, NAME_CELLS_MAX.min(width / 3).max(NAME_CELLS_MIN));
    let columns = columns(width, first);
    let chosen = table::choose(&columns, width, first);
    let title =
        table::title(&columns, &chosen, &heading.text("Streams", rows.len()), heading.has_focus, theme);
    let draw = |stream: &&Stream| {
        let first = (format!(" {}", name(stream)), style(stream, theme));
        table::row(&columns, &chosen, first, cells(stream, theme))
    };
    let mut drawn: Vec<Line<'static>> = rows.iter().map(draw).collect();
    if drawn.is_empty() {
        drawn.push(Line::styled(nothing(model), theme.faint()));
    }
    Drawn { title, rows: drawn }
}

/// The columns; the last one gets all that is left.
fn columns(width: usize, first: usize) -> [Column; 5] {
    let number = |title, cells, priority| Column { title, cells, priority, at_left: false };
    let boxes = Column { title: "instances", cells: 12, priority: 0, at_left: true };
    let mut columns = [
        boxes,
        number("busy", 4, 2),
        number("msg/s", 6, 1),
        number("backlog", 7, 3),
        Column { title: "last decision", cells: 0, priority: 4, at_left: true },
    ];
    let used: usize = columns.iter().map(|column| column.cells + 2).sum();
    let left = width.saturating_sub(first + used);
    columns[4].cells = if left >= 15 { left } else { usize::MAX / 2 };
    columns
}

fn nothing(model: &Model) -> String {
    let data = model.shown();
    match data.unavailable.get("streams") {
        Some(_) if data.clients.iter().any(|client| !client.streams.is_empty()) => {
            " not available".to_owned()
        }
        _ if !model.filter.is_empty() => " no stream that the filter shows".to_owned(),
        _ if data.read_at.is_none() => String::new(),
        _ => " no client has a stream".to_owned(),
    }
}

fn style(stream: &Stream, theme: Theme) -> Style {
    let is_silent = stream.instances.iter().any(|instance| instance.silent_seconds.is_some());
    if is_silent || stream.waits_for.is_some() {
        theme.alert()
    } else if running(stream) < stream.desired {
        theme.notice()
    } else {
        theme.plain()
    }
}

fn cells(stream: &Stream, theme: Theme) -> Vec<Cell> {
    let (running, desired) = (running(stream), stream.desired);
    let boxes = match running.max(desired) <= BOXES_MAX {
        true => {
            "■".repeat(running.min(desired) as usize)
                + &"□".repeat(desired.saturating_sub(running) as usize)
                + " "
        }
        false => String::new(),
    };
    let manual = if stream.is_manual { " m" } else { "" };
    let busy = load(stream);
    let rate = throughput(stream);
    let queued = backlog(stream);
    let or_faint = |is_something: bool, style| if is_something { style } else { theme.faint() };
    vec![
        (format!("{boxes}{running}/{desired}{manual}"), style(stream, theme)),
        (
            busy.map_or_else(|| "–".to_owned(), |busy| format!("{:.0}%", busy * 100.0)),
            or_faint(busy.is_some_and(|busy| busy > 0.0), theme.plain()),
        ),
        (compact(rate), or_faint(rate > 0.0, theme.plain())),
        (queued.to_string(), or_faint(queued > 0, theme.plain())),
        (decision(stream), if stream.waits_for.is_some() { theme.alert() } else { theme.faint() }),
    ]
}
