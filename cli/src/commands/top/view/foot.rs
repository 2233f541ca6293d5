//! The last line: which keys there are, or the filter that is typed.

use ratatui::text::{Line, Span};

use super::theme::Theme;
use crate::commands::top::model::{Mode, Model};
use crate::commands::top::text::{self, Text};

const KEYS: [(&str, &str); 8] = [
    ("q", "quit"),
    ("?", "help"),
    ("/", "filter"),
    ("Tab", "panel"),
    ("↑↓", "scroll"),
    ("s", "sorted by"),
    ("p", "pause"),
    ("Esc", "clear filter"),
];

pub fn line(model: &Model, theme: Theme, width: usize) -> Line<'static> {
    if let Mode::TypeFilter(typed) = &model.mode {
        let hint = "  part or glob of a client, stream or file; Enter keeps it, Esc clears it";
        return Line::from(vec![
            Span::styled(" filter ", theme.reversed()),
            Span::raw(format!(" {}", Text::from(typed.as_str()))),
            Span::styled(" ", theme.reversed()),
            Span::styled(hint, theme.faint()),
        ]);
    }
    let mut spans = Vec::new();
    let mut left = width;
    for (key, meaning) in KEYS {
        let meaning =
            if key == "s" { format!("{meaning} {}", model.sort.name()) } else { meaning.to_owned() };
        let cells = text::width(key) + text::width(&meaning) + 3;
        if cells > left || (key == "Esc" && model.filter.is_empty()) {
            continue;
        }
        left -= cells;
        spans.push(Span::styled(format!(" {key}"), theme.strong()));
        spans.push(Span::styled(format!(" {meaning} "), theme.faint()));
    }
    Line::from(spans)
}
