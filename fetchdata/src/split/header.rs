//! The header line of a CSV file, and whether it is one.
//!
//! A header that the config names (`files.header`) is accepted as it is, so nothing has to be guessed.

use std::collections::HashSet;

use memchr::memchr_iter;
use mysimbdp_model::encoding::Encoding;
use mysimbdp_model::reason::{Objection, ReasonCode};

use super::BYTE_ORDER_MARK;

/// How much of a wrong header a reason shows to a person.
const SHOWN_CHARS: usize = 200;
/// Other separators in files that are called CSV nevertheless.
pub(super) const OTHER_SEPARATORS: [u8; 3] = [b';', b'\t', b'|'];

pub(super) struct HeaderLine {
    pub(super) names: Vec<String>,
    /// What seems to separate the names instead of commas.
    pub(super) separator: Option<Separator>,
    /// Whether it begins as comments do.
    pub(super) is_comment: bool,
    fault: Option<Objection>,
}

#[derive(Clone, Copy)]
pub(super) struct Separator {
    pub(super) byte: u8,
    /// How often it occurs in the header.
    pub(super) count: u64,
}

impl HeaderLine {
    /// `line` is the whole prefix of the file, with its byte order mark and blank lines. `expected` is the header
    /// that the config requires.
    pub(super) fn new(line: &[u8], encoding: Encoding, expected: Option<&[String]>) -> Self {
        let is_utf8 = encoding == Encoding::Utf8;
        let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_utf8).unwrap_or(line);
        // After a blank line, which is skipped, the reader does not take a further mark for a byte order mark.
        let line = [b"\n", line].concat();
        let mut reader =
            ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_slice());
        let record = reader.byte_records().next().and_then(Result::ok).unwrap_or_default();
        let decode = |bytes: &[u8]| match encoding.to_text(bytes) {
            Some(text) => text.into_owned(),
            None => String::from_utf8_lossy(bytes).into_owned(),
        };
        let names: Vec<String> = record.iter().map(decode).collect();
        let is_comment = names.first().is_some_and(|name| name.starts_with('#'));
        match expected {
            Some(expected) => {
                let fault = (names != expected).then(|| {
                    let text = format!("header is {}, expected {:?}", shown(&names), expected.join(","));
                    ReasonCode::HeaderMismatch.because(text)
                });
                Self { names, separator: None, is_comment: false, fault }
            }
            None => {
                let separator = if names.len() == 1 { separator(&line) } else { None };
                let fault = suspicion(&names);
                Self { names, separator, is_comment, fault }
            }
        }
    }

    /// The fault of the header, if any.
    pub(super) fn fault(&self) -> Option<Objection> {
        self.fault.clone()
    }

    pub(super) fn shown(&self) -> String {
        shown(&self.names)
    }
}

fn shown(names: &[String]) -> String {
    let text: String = names.join(",").chars().take(SHOWN_CHARS).collect();
    format!("{text:?}")
}

/// The most frequent other separator in a header of a single name without quotes.
fn separator(line: &[u8]) -> Option<Separator> {
    if line.contains(&b'"') {
        return None;
    }
    let count = |byte| Separator { byte, count: memchr_iter(byte, line).count() as u64 };
    OTHER_SEPARATORS.map(count).into_iter().filter(|it| it.count > 0).max_by_key(|it| it.count)
}

/// Why the names seem to be a row: then the header is missing, and the row would be lost.
fn suspicion(names: &[String]) -> Option<Objection> {
    let remedy = "if the header is missing, add one; if this is the header, set it in \"files.header\"";
    if names.iter().all(|name| is_data(name)) {
        let text = format!("header {} has only numbers and dates: {remedy}", shown(names));
        return Some(ReasonCode::HeaderMissing.because(text));
    }
    let mut seen = HashSet::new();
    let twice = names.iter().find(|name| !name.is_empty() && !seen.insert(name.as_str()))?;
    let text = format!("header has {} twice: {remedy}", shown(std::slice::from_ref(twice)));
    Some(ReasonCode::HeaderDuplicate.because(text))
}

/// Whether it consists of digits and of the characters between them in numbers, dates and times.
fn is_data(name: &str) -> bool {
    let mut letters = name.bytes();
    let is_number = match letters.next() {
        Some(b'0'..=b'9') => true,
        Some(b'+' | b'-' | b'.') => letters.next().is_some_and(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    is_number
        && name.bytes().all(|byte| {
            matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b':' | b'/' | b' ' | b'T' | b'Z' | b'e' | b'E')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> Option<String> {
        HeaderLine::new(line.as_bytes(), Encoding::Utf8, None).fault().map(|objection| objection.text)
    }

    #[test]
    fn a_row_of_numbers_and_dates_is_not_a_header() {
        for line in [
            "1,2\n",
            "5.5\n",
            "-1,+2,.5\n",
            "2013-01-01T06:00:00Z,1E5\n",
            "2013-01-01 06:00,0\n",
            "1.2.2013,7\n",
            "\"1\",\"2\"\n",
        ] {
            assert!(
                fault(line).is_some_and(
                    |fault| fault.contains("numbers and dates") && fault.contains("files.header")
                ),
                "{line:?}"
            );
        }
        for line in [
            "a,b\n",
            "name,2019,2020\n",
            "1,\n",
            ",1\n",
            "2019-Q1,2019-Q2\n",
            "-,+\n",
            "T,Z\n",
            "e\n",
            "1st,2nd\n",
            "# of items,5\n",
        ] {
            assert_eq!(fault(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_duplicate_name_is_reported() {
        assert!(fault("a,b,a\n").is_some_and(|fault| fault.starts_with("header has \"a\" twice")));
        assert_eq!(fault("a,,b,\n"), None);
    }

    #[test]
    fn a_header_that_the_config_names_is_accepted() {
        let expected = ["1".to_owned(), "1".to_owned()];
        assert_eq!(HeaderLine::new(b"1,1\n", Encoding::Utf8, Some(&expected)).fault(), None);
        let other = HeaderLine::new(b"1,2\n", Encoding::Utf8, Some(&expected)).fault();
        let expected = ReasonCode::HeaderMismatch.because("header is \"1,2\", expected \"1,1\"");
        assert_eq!(other, Some(expected));
    }

    #[test]
    fn names_are_decoded_as_the_app_reads_them() {
        let names = |line: &[u8], encoding| HeaderLine::new(line, encoding, None).names;
        assert_eq!(names(b"\xef\xbb\xbf\n\r\n\"a\",b\r\n", Encoding::Utf8), ["a", "b"]);
        // The second mark is text, and so are the same bytes in another encoding.
        assert_eq!(names("\u{feff}\u{feff}\"a,b\n".as_bytes(), Encoding::Utf8), ["\u{feff}\"a", "b"]);
        assert_eq!(names(b"\xef\xbb\xbf\"a,b\n", Encoding::Latin1), ["ï»¿\"a", "b"]);
        assert_eq!(names(b"\x80,b\n", Encoding::Windows1252), ["€", "b"]);
    }
}
