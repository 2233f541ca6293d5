//! Draws the model.
//!
//! The head, four panels and the foot, in [`layout`](super::layout)'s lines. A panel is a title with the names of its columns and a
//! [`table`] below it.

mod attention;
mod clients;
mod events;
mod foot;
mod head;
mod help;
mod streams;
mod table;
pub mod theme;

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::model::{Mode, Model, Panel};
use super::text;
use theme::Theme;

/// A smaller terminal cannot be used.
const COLUMNS_MIN: u16 = 20;
const LINES_MIN: u16 = 4;

/// With fewer columns, words follow each other without columns.
const ALIGNED_FROM: usize = 60;

/// A panel that can be drawn: its title line, and all of its rows.
struct Drawn {
    title: Line<'static>,
    rows: Vec<Line<'static>>,
}

/// Draws everything. The size of `buffer` is that of the model.
pub fn draw(buffer: &mut Buffer, model: &Model, theme: Theme, now: Timestamp) {
    let area = buffer.area;
    if area.is_empty() {
        return;
    }
    if area.width < COLUMNS_MIN || area.height < LINES_MIN {
        let text = Line::from("too small");
        buffer.set_line(area.x, area.y, &text, area.width);
        return;
    }
    line(buffer, 0, &head::line(model, theme, now, area.width.into()));
    let mut y = 1;
    for (panel, lines) in Panel::ALL.into_iter().zip(model.lines(now)) {
        if lines > 0 {
            draw_panel(buffer, Rect { x: 0, y, width: area.width, height: lines }, model, panel, theme, now);
        }
        y += lines;
    }
    line(buffer, area.height - 1, &foot::line(model, theme, area.width.into()));
    if model.mode == Mode::Help {
        help::draw(buffer, theme);
    }
}

/// A word in cells of its own, or as long as it is on a narrow screen.
fn word(word: &str, cells: usize, width: usize) -> String {
    if width < ALIGNED_FROM { text::cut(word, cells) } else { text::left(word, cells) }
}

/// The cells for the name of a client.
fn client_cells(width: usize) -> usize {
    (width / 8).clamp(8, 24)
}

fn line(buffer: &mut Buffer, y: u16, line: &Line<'_>) {
    buffer.set_line(0, y, line, buffer.area.width);
}

fn draw_panel(buffer: &mut Buffer, area: Rect, model: &Model, panel: Panel, theme: Theme, now: Timestamp) {
    let visible = usize::from(area.height.saturating_sub(1));
    let offset = model.offsets[panel as usize];
    let width = usize::from(area.width);
    let heading = Heading { has_focus: model.focus == panel, offset, visible };
    let drawn = match panel {
        Panel::Attention => attention::draw(model, theme, now, width, heading),
        Panel::Clients => clients::draw(model, theme, width, heading),
        Panel::Streams => streams::draw(model, theme, width, heading),
        Panel::Events => events::draw(model, theme, width, heading),
    };
    buffer.set_line(area.x, area.y, &drawn.title, area.width);
    let rows = drawn.rows.iter().skip(offset).take(visible);
    for (row, y) in rows.zip(area.y + 1..) {
        buffer.set_line(area.x, y, row, area.width);
    }
}

/// What a title says beside its name.
#[derive(Clone, Copy)]
struct Heading {
    has_focus: bool,
    offset: usize,
    visible: usize,
}

impl Heading {
    /// The name of a panel with so many rows, and which of them are shown if that is not all.
    fn text(self, name: &str, rows: usize) -> String {
        let marker = if self.has_focus { '▸' } else { ' ' };
        if rows <= self.visible || self.visible == 0 {
            return format!("{marker}{name} ");
        }
        let last = (self.offset + self.visible).min(rows);
        format!("{marker}{name} {}–{last}/{rows} ", self.offset + 1)
    }
}
