//! Decodes text in the encoding of the client's files.

use std::borrow::Cow;
use std::io::{self, BufRead, Cursor, Read};

use mysimbdp_sdk::Encoding;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Returns `bytes` in UTF-8, or `None` if they are not text in their encoding. UTF-8 itself is not checked: the parser does
/// that.
pub(crate) fn to_utf8(encoding: Encoding, bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    if encoding == Encoding::Utf8 {
        return Some(Cow::Borrowed(bytes));
    }
    encoding.to_text(bytes).map(|text| match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

/// Returns `input` without the byte order mark that some programs put in front of UTF-8.
pub(crate) fn without_mark<R: BufRead>(encoding: Encoding, mut input: R) -> io::Result<impl BufRead> {
    let mut start = Vec::with_capacity(BYTE_ORDER_MARK.len());
    if encoding == Encoding::Utf8 {
        input.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
    }
    if start == BYTE_ORDER_MARK {
        start.clear();
    }
    Ok(Cursor::new(start).chain(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mark_at_the_start_is_removed() {
        for (bytes, text) in [
            ("\u{feff}a", "a"),
            ("a\u{feff}", "a\u{feff}"),
            ("", ""),
            ("a", "a"),
            ("abcd", "abcd"),
            ("\u{feff}", ""),
        ] {
            let mut read = String::new();
            let mut input = without_mark(Encoding::Utf8, bytes.as_bytes()).expect("memory can be read");
            input.read_to_string(&mut read).expect("text");
            assert_eq!(read, text);
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        assert_eq!(to_utf8(Encoding::Latin1, b"\xc3\xbc").as_deref(), Some("Ã¼".as_bytes()));
        assert_eq!(to_utf8(Encoding::Windows1252, b"\x80").as_deref(), Some("€".as_bytes()));
        assert_eq!(to_utf8(Encoding::Latin1, b"\x80"), None);
    }
}
