//! How the bytes of a client's text files are read as characters.

use std::borrow::Cow;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Encoding of the client's text files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Encoding {
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "iso-8859-1")]
    Latin1,
    #[serde(rename = "windows-1252")]
    Windows1252,
}

/// The characters of Windows-1252 from 0x80 on, where ISO 8859-1 has control characters. NUL stands for no character.
const WINDOWS_1252: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', //
    '\0', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

impl Encoding {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Latin1 => "iso-8859-1",
            Self::Windows1252 => "windows-1252",
        }
    }

    /// Whether `byte` stands for no text character in this encoding; always false for UTF-8.
    ///
    /// 0x80 to 0x9F are control characters in ISO 8859-1, which no text contains: text with these bytes is really Windows-1252,
    /// and would be stored as other characters than its author sees. Windows-1252 leaves five of these bytes undefined.
    #[inline]
    pub fn lacks(self, byte: u8) -> bool {
        match self {
            Self::Utf8 => false,
            Self::Latin1 => matches!(byte, 0x80..=0x9f),
            Self::Windows1252 => matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d),
        }
    }

    /// Decodes `bytes`; `None` if they are not text in this encoding.
    pub fn to_text(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match std::str::from_utf8(bytes) {
            Ok(text) if self == Self::Utf8 || text.is_ascii() => Some(Cow::Borrowed(text)),
            _ if self == Self::Utf8 || bytes.iter().any(|&byte| self.lacks(byte)) => None,
            _ => Some(Cow::Owned(bytes.iter().map(|&byte| self.character(byte)).collect())),
        }
    }

    fn character(self, byte: u8) -> char {
        match (self, byte) {
            (Self::Windows1252, 0x80..=0x9f) => WINDOWS_1252[usize::from(byte - 0x80)],
            // The bytes of ISO 8859-1 are the code points of Unicode.
            _ => char::from(byte),
        }
    }
}

/// The text is not the name of an encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown encoding {0:?}: expected utf-8, iso-8859-1 or windows-1252")]
pub struct EncodingError(String);

impl FromStr for Encoding {
    type Err = EncodingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Utf8, Self::Latin1, Self::Windows1252]
            .into_iter()
            .find(|known| known.as_str() == name)
            .ok_or_else(|| EncodingError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_one_character_or_refused() {
        for byte in 0..=u8::MAX {
            for encoding in [Encoding::Latin1, Encoding::Windows1252] {
                let bytes = [byte];
                let text = encoding.to_text(&bytes);
                assert_eq!(text.is_none(), encoding.lacks(byte), "{byte:#x} in {}", encoding.as_str());
                assert!(text.is_none_or(|text| text.chars().count() == 1 && (byte == 0 || text != "\0")));
            }
        }
        assert_eq!(Encoding::Latin1.to_text(b"gr\xfc\xdfe").as_deref(), Some("grüße"));
        assert_eq!(Encoding::Latin1.to_text(b"\xc3\xbc").as_deref(), Some("Ã¼"));
        assert_eq!(
            Encoding::Windows1252.to_text(b"5 \x80, O\x92Neil \x931\x94").as_deref(),
            Some("5 €, O’Neil “1”")
        );
        assert_eq!(Encoding::Utf8.to_text(b"gr\xfc"), None);
        assert_eq!(Encoding::Utf8.to_text("€".as_bytes()).as_deref(), Some("€"));
    }

    #[test]
    fn each_encoding_is_parsed_from_its_name_in_the_config() {
        for encoding in [Encoding::Utf8, Encoding::Latin1, Encoding::Windows1252] {
            assert_eq!(encoding.as_str().parse(), Ok(encoding));
            assert_eq!(serde_json::to_value(encoding).expect("JSON"), encoding.as_str());
        }
        assert!("latin1".parse::<Encoding>().is_err_and(|error| error.to_string().contains("windows-1252")));
    }
}
