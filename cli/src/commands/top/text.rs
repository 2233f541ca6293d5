//! Text from outside, made safe to be shown in cells.

use std::fmt;
use std::ops::Deref;

use mysimbdp_telemetry::logging;
use serde::Deserialize;
use unicode_width::UnicodeWidthChar;

/// The longest text that is kept; a row shows less of it.
const CHARS_MAX: usize = 400;
/// How many marks are drawn over a letter; further ones would be drawn over other rows.
const MARKS_MAX: usize = 2;

/// Text from outside: one line without characters that control, reorder or hide, and of a width that terminals agree about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub struct Text(String);

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let beginning: String = text.chars().take(CHARS_MAX).collect();
        let mut safe = String::with_capacity(beginning.len());
        let mut marks = MARKS_MAX;
        for letter in logging::visible(&beginning).chars() {
            let is_mark = letter.width() == Some(0);
            marks = if is_mark { marks + 1 } else { 0 };
            if changes_width(letter) || marks > MARKS_MAX {
                safe.extend(letter.escape_unicode());
            } else {
                safe.push(letter);
            }
        }
        if beginning.len() < text.len() {
            safe.push('…');
        }
        Self(safe)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether it makes one symbol with its neighbour on some terminals: letters of flags, and colours of skin.
fn changes_width(letter: char) -> bool {
    matches!(letter, '\u{1f1e6}'..='\u{1f1ff}' | '\u{1f3fb}'..='\u{1f3ff}')
}

/// How many cells a text takes.
pub fn width(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

/// Returns as much of the text as fits, with an ellipsis if that is not all.
pub fn cut(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let mut left = cells.saturating_sub(1);
    let mut fits = String::new();
    for letter in text.chars() {
        let cells = letter.width().unwrap_or(0);
        if cells > left {
            break;
        }
        left -= cells;
        fits.push(letter);
    }
    if cells > 0 {
        fits.push('…');
    }
    fits
}

/// Returns the text in exactly so many cells, at their left.
pub fn left(text: &str, cells: usize) -> String {
    let text = cut(text, cells);
    let space = cells - width(&text);
    text + &" ".repeat(space)
}

/// Returns the text in exactly so many cells, at their right.
pub fn right(text: &str, cells: usize) -> String {
    let text = cut(text, cells);
    " ".repeat(cells - width(&text)) + &text
}

/// A number in at most five cells.
pub fn compact(number: f64) -> String {
    let scaled = |value: f64, unit: &str| match value < 99.95 {
        true => format!("{value:.1}{unit}"),
        false => format!("{value:.0}{unit}"),
    };
    match number {
        number if number < 0.05 => "0".to_owned(),
        number if number < 9.95 => format!("{number:.1}"),
        number if number < 9_999.5 => format!("{number:.0}"),
        number if number < 999_500.0 => scaled(number / 1e3, "k"),
        number if number < 999.5e6 => scaled(number / 1e6, "M"),
        number => scaled(number / 1e9, "G"),
    }
}

/// A duration in seconds, in one unit.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{} min", seconds / 60),
        6_000..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_one_line_of_a_certain_width() {
        for (text, expected) in [
            ("größe 天気.csv", "größe 天気.csv"),
            ("a\n\u{1b}[31m\u{202e}\u{200b}", r"a\n\u{1b}[31m\u{202e}\u{200b}"),
            ("e\u{301}\u{302}\u{303}\u{304}", "e\u{301}\u{302}\\u{303}\\u{304}"),
            ("\u{301}x", "\\u{301}x"),
            ("🇫🇮", r"\u{1f1eb}\u{1f1ee}"),
            ("👍\u{1f3ff}", r"👍\u{1f3ff}"),
        ] {
            assert_eq!(&*Text::from(text), expected);
        }
        let long = Text::from("x".repeat(1_000_000));
        assert_eq!((long.len(), long.chars().last()), (CHARS_MAX + '…'.len_utf8(), Some('…')));
    }

    #[test]
    fn text_is_cut_between_letters_and_fills_its_cells() {
        for (text, cells, expected) in [
            ("weather.csv", 20, "weather.csv         "),
            ("weather.csv", 8, "weather…"),
            ("天気予報", 8, "天気予報"),
            ("天気予報", 7, "天気予…"),
            ("天気予報", 6, "天気… "),
            ("天気", 1, "…"),
            ("x", 0, ""),
        ] {
            let shown = left(text, cells);
            assert_eq!((shown.as_str(), width(&shown)), (expected, cells), "{text:?} in {cells}");
            assert_eq!(width(&right(text, cells)), cells);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.0, "0"),
            (0.31, "0.3"),
            (9.99, "10"),
            (4_711.2, "4711"),
            (12_345.0, "12.3k"),
            (999_499.0, "999k"),
            (999_600.0, "1.0M"),
            (2.5e9, "2.5G"),
        ] {
            assert_eq!(compact(number), expected);
        }
        for (seconds, expected) in [(99, "99 s"), (100, "1 min"), (7_300, "2 h"), (200_000, "2 d")] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
