//! The encodings that text files may have.

use std::borrow::Cow;
use std::io::{self, BufRead, Cursor, Read};

use mysimbdp_sdk::Failure;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// How bytes are read as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    Latin1,
}

impl Encoding {
    /// The encoding that the unit's header names.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        match name {
            "utf-8" => Ok(Self::Utf8),
            "iso-8859-1" => Ok(Self::Latin1),
            _ => Err(Failure::Config(format!(
                "encoding {name:?} is not known, allowed are utf-8 and iso-8859-1"
            ))),
        }
    }

    /// `bytes` as text, or `None` where they are none in this encoding.
    pub(crate) fn to_text<'a>(self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Latin1 => Some(latin1(bytes)),
        }
    }

    /// `bytes` in UTF-8, as far as they are text.
    pub(crate) fn to_utf8<'a>(self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            Self::Utf8 => Cow::Borrowed(bytes),
            Self::Latin1 => match latin1(bytes) {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
        }
    }

    /// `input` without the byte order mark that some programs put in front of UTF-8.
    pub(crate) fn without_mark<R: BufRead>(self, mut input: R) -> io::Result<impl BufRead> {
        let mut start = Vec::with_capacity(BYTE_ORDER_MARK.len());
        if self == Self::Utf8 {
            input.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
        }
        if start == BYTE_ORDER_MARK {
            start.clear();
        }
        Ok(Cursor::new(start).chain(input))
    }
}

/// ISO 8859-1 has a character for each byte, with the same number as in Unicode.
fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mark_at_the_start_is_taken_away() {
        for (bytes, text) in [
            ("\u{feff}a", "a"),
            ("a\u{feff}", "a\u{feff}"),
            ("", ""),
            ("a", "a"),
            ("abcd", "abcd"),
            ("\u{feff}", ""),
        ] {
            let mut read = String::new();
            let mut input = Encoding::Utf8.without_mark(bytes.as_bytes()).expect("memory can be read");
            input.read_to_string(&mut read).expect("text");
            assert_eq!(read, text);
        }
    }

    #[test]
    fn every_byte_is_a_character_of_iso_8859_1() {
        assert_eq!(Encoding::Latin1.to_text(b"gr\xfc\xdfe").as_deref(), Some("grüße"));
        assert_eq!(Encoding::Latin1.to_utf8(b"\xc3\xbc").as_ref(), "Ã¼".as_bytes());
        assert_eq!(Encoding::Utf8.to_text(b"gr\xfc"), None);
    }
}
