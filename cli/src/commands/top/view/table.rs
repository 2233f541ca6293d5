//! Columns: as many as there is space for, the most important ones first.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::theme::Theme;
use crate::commands::top::text;

/// Between two columns.
const GAP: usize = 2;

/// A column of numbers or short words beside the first one, which has names.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    pub cells: usize,
    /// The ones with the lowest number are shown on the smallest terminals.
    pub priority: u8,
    pub at_left: bool,
}

/// A cell: its text and how it looks.
pub type Cell = (String, Style);

/// The columns that are shown, by their places in the list of all, and the cells that are left for the first one.
#[derive(Debug, PartialEq, Eq)]
pub struct Columns {
    pub shown: Vec<usize>,
    pub first: usize,
}

/// Chooses the columns for a line of `width` cells, of which the first column needs at least `first_min`.
pub fn choose(columns: &[Column], width: usize, first_min: usize) -> Columns {
    let mut by_priority: Vec<usize> = (0..columns.len()).collect();
    by_priority.sort_by_key(|index| columns[*index].priority);
    let mut left = width.saturating_sub(first_min);
    let mut shown = Vec::new();
    for index in by_priority {
        let needed = columns[index].cells + GAP;
        if needed > left {
            break;
        }
        left -= needed;
        shown.push(index);
    }
    shown.sort_unstable();
    let used: usize = shown.iter().map(|index| columns[*index].cells + GAP).sum();
    Columns { shown, first: width.saturating_sub(used) }
}

/// The line above the rows: the title of the panel, a rule, and the titles of the columns.
pub fn title(
    columns: &[Column],
    chosen: &Columns,
    title: &str,
    has_focus: bool,
    theme: Theme,
) -> Line<'static> {
    let mut spans = heading(title, chosen.first, has_focus, theme);
    let mut is_after_title = false;
    for index in &chosen.shown {
        let Column { title, cells, at_left, .. } = columns[*index];
        let rest = cells.saturating_sub(text::width(title));
        let before = if at_left { GAP } else { GAP + rest };
        let begin = if is_after_title { " " } else { "─" };
        spans.push(Span::styled(format!("{begin}{} ", "─".repeat(before.saturating_sub(2))), theme.faint()));
        spans.push(Span::styled(text::cut(title, cells), theme.faint()));
        is_after_title = !at_left || rest == 0;
        if at_left && rest > 0 {
            spans.push(Span::styled(format!(" {}", "─".repeat(rest - 1)), theme.faint()));
        }
    }
    Line::from(spans)
}

/// The line above rows without columns: the title of the panel, a rule, and a note.
pub fn title_with_note(
    title: &str,
    note: Cell,
    width: usize,
    has_focus: bool,
    theme: Theme,
) -> Line<'static> {
    let cells = if note.0.is_empty() { 0 } else { text::width(&note.0) + 1 };
    if cells + text::width(title) > width {
        return Line::from(heading(title, width, has_focus, theme));
    }
    let mut spans = heading(title, width - cells, has_focus, theme);
    if cells > 0 {
        spans.push(Span::styled(format!(" {}", note.0), note.1));
    }
    Line::from(spans)
}

fn heading(title: &str, cells: usize, has_focus: bool, theme: Theme) -> Vec<Span<'static>> {
    let name = text::cut(title, cells);
    let rule = "─".repeat(cells - text::width(&name));
    vec![Span::styled(name, theme.title(has_focus)), Span::styled(rule, theme.faint())]
}

/// A row: the first cell, and those of the columns that are shown.
pub fn row(columns: &[Column], chosen: &Columns, first: Cell, cells: Vec<Cell>) -> Line<'static> {
    let mut spans = vec![Span::styled(text::left(&first.0, chosen.first), first.1)];
    for (index, (cell, style)) in
        cells.into_iter().enumerate().filter(|(index, _)| chosen.shown.contains(index))
    {
        let Column { cells, at_left, .. } = columns[index];
        let shown = if at_left { text::left(&cell, cells) } else { text::right(&cell, cells) };
        spans.push(Span::raw(" ".repeat(GAP)));
        spans.push(Span::styled(shown, style));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(title: &'static str, cells: usize, priority: u8) -> Column {
        Column { title, cells, priority, at_left: false }
    }

    #[test]
    fn the_most_important_columns_are_shown_in_their_order() {
        let columns = [column("a", 4, 2), column("b", 4, 0), column("c", 8, 1)];
        for (width, shown, first) in [
            (40, vec![0, 1, 2], 18),
            (32, vec![0, 1, 2], 10),
            (30, vec![1, 2], 14),
            (20, vec![1], 14),
            (9, vec![], 9),
        ] {
            assert_eq!(choose(&columns, width, 10), Columns { shown, first }, "{width}");
        }
    }

    #[test]
    fn title_and_rows_have_the_width_of_the_line() {
        let columns =
            [column("waiting", 7, 0), Column { title: "why", cells: 20, priority: 1, at_left: true }];
        for width in [20, 40, 80] {
            let chosen = choose(&columns, width, 8);
            let title = title(&columns, &chosen, "▸Clients", true, Theme::new(true));
            let style = Style::new();
            let row = row(
                &columns,
                &chosen,
                ("天気予報天気予報天気予報".into(), style),
                vec![("7".into(), style), ("x".repeat(99), style)],
            );
            for line in [title, row] {
                let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
                assert_eq!(text::width(&text), width, "{text:?}");
            }
        }
    }
}
