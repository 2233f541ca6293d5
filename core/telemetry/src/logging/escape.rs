//! Text from outside as part of a line: one event is one line, whatever a file is called.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with everything escaped that could end the line, steer a terminal, or turn the direction of reading.
///
/// The escapes are Rust's: `\n`, `\t`, `\r`, `\\`, `\"` and `\u{…}`. [`unescape`] gives the text back.
pub fn escape(text: &str) -> Cow<'_, str> {
    replace(text, needs_escape, write_escape)
}

/// Text for people that has to be one line: the same, but quotation marks and backslashes stay as they are.
pub fn one_line(text: &str) -> Cow<'_, str> {
    replace(text, steers, write_escape)
}

/// The same of text that may have several lines.
pub fn harmless(text: &str) -> Cow<'_, str> {
    replace(text, steers_within_lines, write_escape)
}

/// JSON that means the same and steers nothing: what JSON leaves as it is within its strings is escaped there.
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    replace(json, steers_within_lines, |escaped, letter| {
        // None of these letters is beyond what four digits can say.
        let _ = write!(escaped, "\\u{:04x}", u32::from(letter));
    })
}

fn replace(
    text: &str,
    is_replaced: impl Fn(char) -> bool,
    write_replacement: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.contains(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match is_replaced(letter) {
            true => write_replacement(&mut replaced, letter),
            false => replaced.push(letter),
        }
    }
    Cow::Owned(replaced)
}

fn write_escape(escaped: &mut String, letter: char) {
    match letter {
        '\n' => escaped.push_str("\\n"),
        '\r' => escaped.push_str("\\r"),
        '\t' => escaped.push_str("\\t"),
        '"' | '\\' => escaped.extend(['\\', letter]),
        letter => {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(letter));
        }
    }
}

/// A logfmt value: as it is where that is clear, else escaped and between quotation marks.
pub fn quote(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.contains([' ', '=']) || text.contains(needs_escape) {
        Cow::Owned(format!("\"{}\"", escape(text)))
    } else {
        Cow::Borrowed(text)
    }
}

/// Turns what [`escape`] has written back; `None` for anything that it would not write.
pub fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let plain_letter = match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                escaped @ ('"' | '\\') => escaped,
                'u' => {
                    let rest = letters.as_str().strip_prefix('{')?;
                    let (digits, rest) = rest.split_once('}')?;
                    letters = rest.chars();
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                _ => return None,
            },
            letter if needs_escape(letter) => return None,
            letter => letter,
        };
        plain.push(plain_letter);
    }
    Some(plain)
}

fn needs_escape(letter: char) -> bool {
    matches!(letter, '"' | '\\') || steers(letter)
}

fn steers_within_lines(letter: char) -> bool {
    letter != '\n' && steers(letter)
}

/// Whether a terminal or a viewer does something at it, in place of showing it.
fn steers(letter: char) -> bool {
    letter.is_control()
        // Line and paragraph separators, which some viewers break lines at; marks and overrides of the direction.
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_clear_stays_as_it_is() {
        for (text, quoted) in [
            ("weather.csv", "weather.csv"),
            ("größe-1", "größe-1"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("a\"b", "\"a\\\"b\""),
            ("a\nTIMING b", "\"a\\nTIMING b\""),
            ("\u{1b}[2J", "\"\\u{1b}[2J\""),
            ("\u{202e}vsc.exe", "\"\\u{202e}vsc.exe\""),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn text_for_people_keeps_its_marks_and_steers_nothing() {
        let text = "a \"b\" \\ \u{1b}[2J\u{9b}31m\r\u{202e}\u{61c}\u{7f}\nmore";
        assert_eq!(one_line(text), "a \"b\" \\ \\u{1b}[2J\\u{9b}31m\\r\\u{202e}\\u{61c}\\u{7f}\\nmore");
        assert_eq!(harmless(text), one_line(text).replace("\\nmore", "\nmore"));
        assert!(matches!(harmless("a \"b\"\nc"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn json_means_the_same_and_steers_nothing(text in any::<String>()) {
            let json = serde_json::to_string_pretty(&[&text, "\u{9b}\u{202e}\u{7f}"]).expect("JSON");
            let harmless = harmless_json(&json);
            prop_assert!(!harmless.contains(steers_within_lines), "{harmless:?}");
            let [back, _] = serde_json::from_str::<[String; 2]>(&harmless).expect("JSON still");
            prop_assert_eq!(back, text);
        }

        #[test]
        fn escaped_text_is_one_harmless_line_and_can_be_turned_back(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(char::is_control), "{escaped:?}");
            prop_assert_eq!(unescape(&escaped), Some(text));
        }

        #[test]
        fn a_quoted_value_ends_where_it_should(text in any::<String>()) {
            let quoted = quote(&text);
            match quoted.strip_prefix('"') {
                Some(rest) => {
                    let inner = rest.strip_suffix('"').expect("a closing mark");
                    prop_assert_eq!(unescape(inner), Some(text));
                }
                None => prop_assert!(!quoted.contains([' ', '=', '"'])),
            }
        }
    }
}
