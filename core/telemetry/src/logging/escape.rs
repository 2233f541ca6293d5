//! Escapes text from outside in a line: one event is one line, whatever the name of a file.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes every character that could end the line, control a terminal, or change the direction of reading; and, so that the
/// text can be quoted, quotation marks and backslashes.
///
/// The escapes are Rust's: `\n`, `\t`, `\r`, `\\`, `\"` and `\u{…}`. [`unescape`] restores the text.
pub fn escape(text: &str) -> Cow<'_, str> {
    replace(text, needs_escape, write_escape)
}

/// Escapes text for people that must be one line: as [`escape`], but keeps quotation marks and backslashes unchanged.
pub fn one_line(text: &str) -> Cow<'_, str> {
    replace(text, is_control, write_escape)
}

/// Escapes text for people that must be one line and show what it is: as [`one_line`], and every character without width or shape.
pub fn visible(text: &str) -> Cow<'_, str> {
    replace(text, |letter| is_control(letter) || is_invisible(letter), write_escape)
}

/// Escapes text for people that may have several lines: as [`one_line`], but keeps line breaks unchanged.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    replace(text, is_control_within_lines, write_escape)
}

/// Makes JSON safe to print without changing its meaning: escapes the control and direction characters that JSON allows
/// unescaped in its strings.
pub fn escape_controls_in_json(json: &str) -> Cow<'_, str> {
    replace(json, is_control_within_lines, |escaped, letter| {
        // Four digits are enough for all of these characters.
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

/// A logfmt value: unchanged if it is unambiguous, otherwise escaped and between quotation marks.
pub fn quote(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.contains([' ', '=']) || text.contains(needs_escape) {
        Cow::Owned(format!("\"{}\"", escape(text)))
    } else {
        Cow::Borrowed(text)
    }
}

/// Restores text from what [`escape`] has written; `None` for anything that it would not write.
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
                    let remainder = letters.as_str().strip_prefix('{')?;
                    let (digits, remainder) = remainder.split_once('}')?;
                    letters = remainder.chars();
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
    matches!(letter, '"' | '\\') || is_control(letter)
}

fn is_control_within_lines(letter: char) -> bool {
    letter != '\n' && is_control(letter)
}

/// Whether a terminal or a viewer interprets the character instead of showing it.
fn is_control(letter: char) -> bool {
    letter.is_control()
        // Line and paragraph separators, at which some viewers break lines; marks and overrides of the direction.
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether nothing is seen of the character: it only joins, separates, annotates or changes others, or takes space.
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}'
        | '\u{202f}' | '\u{205f}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_ambiguous_text_is_quoted() {
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
    fn text_for_people_keeps_its_quotation_marks_and_has_no_control_characters() {
        let text = "a \"b\" \\ \u{1b}[2J\u{9b}31m\r\u{202e}\u{61c}\u{7f}\nmore";
        assert_eq!(one_line(text), "a \"b\" \\ \\u{1b}[2J\\u{9b}31m\\r\\u{202e}\\u{61c}\\u{7f}\\nmore");
        assert_eq!(escape_controls(text), one_line(text).replace("\\nmore", "\nmore"));
        assert!(matches!(escape_controls("a \"b\"\nc"), Cow::Borrowed(_)));
    }

    #[test]
    fn text_that_must_be_visible_has_no_characters_of_which_nothing_is_seen() {
        for (text, shown) in [
            ("größe 1.csv", "größe 1.csv"),
            ("天気 e\u{301}.csv", "天気 e\u{301}.csv"),
            ("a\u{200b}\u{feff}b\u{ad}", "a\\u{200b}\\u{feff}b\\u{ad}"),
            ("\u{1b}[2J\n\u{202e}", "\\u{1b}[2J\\n\\u{202e}"),
            ("👩\u{200d}🔬\u{fe0f}\u{e0041}", "👩\\u{200d}🔬\\u{fe0f}\\u{e0041}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    proptest! {
        #[test]
        fn escaped_json_has_the_same_meaning_and_no_control_characters(text in any::<String>()) {
            let json = serde_json::to_string_pretty(&[&text, "\u{9b}\u{202e}\u{7f}"]).expect("JSON");
            let harmless = escape_controls_in_json(&json);
            prop_assert!(!harmless.contains(is_control_within_lines), "{harmless:?}");
            let [back, _] = serde_json::from_str::<[String; 2]>(&harmless).expect("JSON still");
            prop_assert_eq!(back, text);
        }

        #[test]
        fn escaped_text_is_one_harmless_line_and_can_be_restored(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(char::is_control), "{escaped:?}");
            prop_assert_eq!(unescape(&escaped), Some(text));
        }

        #[test]
        fn a_quoted_value_ends_where_it_should(text in any::<String>()) {
            let quoted = quote(&text);
            match quoted.strip_prefix('"') {
                Some(remainder) => {
                    let inner = remainder.strip_suffix('"').expect("a closing mark");
                    prop_assert_eq!(unescape(inner), Some(text));
                }
                None => prop_assert!(!quoted.contains([' ', '=', '"'])),
            }
        }
    }
}
