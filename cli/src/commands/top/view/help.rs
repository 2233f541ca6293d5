//! Which key does what, in a box over everything else.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Widget};

use super::theme::Theme;

const KEYS: [(&str, &str); 10] = [
    ("/", "show only what a part or a glob matches"),
    ("Esc", "show everything again"),
    ("Tab, Shift-Tab", "next panel, previous panel"),
    ("↑ ↓ PgUp PgDn Home End", "scroll"),
    ("s", "sort by name, rate, queue, trouble"),
    ("p, Space", "pause, continue"),
    ("q, Ctrl-C", "quit"),
    ("", ""),
    ("rates", "of the last minute; discarded: of the hour"),
    ("+", "at least so many"),
];
const KEY_CELLS: usize = 24;
const WIDTH: u16 = 72;

pub fn draw(buffer: &mut Buffer, theme: Theme) {
    let area = buffer.area;
    let (width, height) = (WIDTH.min(area.width), (KEYS.len() as u16 + 2).min(area.height));
    let area = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    let line = |(key, meaning): (&'static str, &'static str)| {
        Line::from(vec![Span::styled(format!(" {key:<KEY_CELLS$}"), theme.strong()), Span::raw(meaning)])
    };
    let lines: Vec<Line<'_>> = KEYS.into_iter().map(line).collect();
    Clear.render(area, buffer);
    Paragraph::new(lines).block(Block::bordered().title(" Keys ")).render(area, buffer);
}
