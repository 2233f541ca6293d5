//! The panel of clients.

use ratatui::style::Style;
use ratatui::text::Line;

use super::table::{self, Cell, Column};
use super::theme::Theme;
use super::{Drawn, Heading};
use crate::commands::top::clients::{ClientRow, Count};
use crate::commands::top::model::Model;
use crate::commands::top::text::{compact, duration, width as cells_of};

const NAME_CELLS_MIN: usize = 11;
const NAME_CELLS_MAX: usize = 30;
const TREND_CELLS: usize = 30;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const COLUMNS: [Column; 9] = [
    number("waiting", 7, 4),
    number("staged", 6, 2),
    number("oldest", 6, 8),
    number("ingesting", 9, 5),
    number("files/min", 9, 6),
    number("records/s", 9, 1),
    number("discarded", 9, 3),
    number("held", 4, 0),
    Column { title: "records/s, 10 min", cells: TREND_CELLS, priority: 9, at_left: true },
];

const fn number(title: &'static str, cells: usize, priority: u8) -> Column {
    Column { title, cells, priority, at_left: false }
}

pub fn draw(model: &Model, theme: Theme, width: usize, heading: Heading) -> Drawn {
    let rows = model.client_rows();
    let name = heading.text("Clients", rows.len());
    let longest = rows.iter().map(|row| cells_of(&row.client) + 1).max().unwrap_or(0).max(cells_of(&name));
    let first = longest.clamp(NAME_CELLS_MIN, NAME_CELLS_MAX.min(width / 3).max(NAME_CELLS_MIN));
    let chosen = table::choose(&COLUMNS, width, first);
    let title = table::title(&COLUMNS, &chosen, &name, heading.has_focus, theme);
    let draw = |row: &ClientRow| {
        let style = if row.held.number > 0 { theme.alert() } else { theme.plain() };
        table::row(&COLUMNS, &chosen, (format!(" {}", row.client), style), cells(row, theme))
    };
    let mut drawn: Vec<Line<'static>> = rows.iter().map(draw).collect();
    if drawn.is_empty() {
        let text = match (model.shown().read_at, model.filter.is_empty()) {
            (None, _) => "",
            (_, true) => " no clients",
            (_, false) => " no client that the filter shows",
        };
        drawn.push(Line::styled(text, theme.faint()));
    }
    Drawn { title, rows: drawn }
}

fn cells(row: &ClientRow, theme: Theme) -> Vec<Cell> {
    let number =
        |number: u64, style: Style| (number.to_string(), if number > 0 { style } else { theme.faint() });
    let count = |count: Count, style: Style| {
        (count.to_string(), if count.number > 0 { style } else { theme.faint() })
    };
    let rate = |rate: f64| (compact(rate), if rate > 0.0 { theme.plain() } else { theme.faint() });
    let oldest =
        row.oldest_seconds.map_or_else(|| "–".to_owned(), |seconds| duration(seconds.max(0.0) as u64));
    vec![
        count(row.waiting, theme.plain()),
        number(row.staged, theme.active()),
        (oldest, theme.faint()),
        number(row.ingesting, theme.active()),
        rate(row.files_per_minute),
        rate(row.records_per_second),
        count(row.discarded, theme.notice()),
        count(row.held, theme.alert()),
        (bars(&row.trend), theme.active()),
    ]
}

/// The numbers as bars, the last ones at the right; nothing for 0.
fn bars(trend: &[f64]) -> String {
    let per_bar = trend.len().div_ceil(TREND_CELLS).max(1);
    let sums: Vec<f64> = trend.rchunks(per_bar).rev().map(|part| part.iter().sum()).collect();
    let most = sums.iter().copied().fold(0.0, f64::max);
    let bar = |sum: &f64| match (sum / most * BARS.len() as f64).ceil() {
        height if height >= 1.0 => BARS[(height as usize).min(BARS.len()) - 1],
        _ => ' ',
    };
    let bars: String = sums.iter().map(bar).collect();
    format!("{bars:>TREND_CELLS$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_numbers_relative_to_the_greatest() {
        let of = |trend: &[f64]| bars(trend).trim_start().to_owned();
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[0.0, 0.0]), "");
        assert_eq!(of(&[0.001, 4.0, 8.0]), "▁▄█");
        assert_eq!(bars(&[1.0; 60]), "█".repeat(TREND_CELLS));
        assert_eq!(bars(&[1.0, 0.0, 2.0]).chars().count(), TREND_CELLS);
    }
}
