//! Checks whether bytes are text: no NUL, and valid in the client's encoding.
//!
//! Lines are counted only if one must be named: counting all of them takes as long as inspecting them.

use std::io::{self, BufRead, BufReader, Read};

use memchr::{memchr, memchr_iter};
use mysimbdp_model::encoding::Encoding;
use mysimbdp_model::reason::{Objection, ReasonCode};

/// Inspects text that comes in pieces, which may split a character.
pub(super) struct Text {
    encoding: Encoding,
    /// Bytes of earlier pieces.
    passed: u64,
    /// The beginning of a character whose end has not come yet: at most three bytes, and space for the fourth.
    cut: [u8; 4],
    cut_bytes: usize,
}

/// Why it is not text, and the position of the first fault. A NUL in a chunk is found before any other fault of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Utf16,
    Nul {
        at: u64,
    },
    NotUtf8 {
        at: u64,
    },
    EndsWithinCharacter {
        at: u64,
    },
    /// This byte is not a character of the encoding.
    NotInEncoding {
        at: u64,
        byte: u8,
        encoding: Encoding,
    },
}

impl Fault {
    /// A description for people, with the line. `content` is all of it, from the start.
    pub(super) fn describe(&self, content: impl Read) -> io::Result<Objection> {
        Ok(ReasonCode::InvalidEncoding.because(match *self {
            Self::Utf16 => "is UTF-16, expected UTF-8".to_owned(),
            Self::Nul { at } => format!("line {} has a NUL byte", line(content, at)?),
            Self::NotUtf8 { at } => format!("line {} is not UTF-8", line(content, at)?),
            Self::EndsWithinCharacter { at } => {
                format!("line {} is not UTF-8: it ends within a character", line(content, at)?)
            }
            Self::NotInEncoding { at, byte, encoding } => {
                let remedy = match encoding {
                    Encoding::Latin1 => "; if it is Windows-1252, set \"files.encoding\" to \"windows-1252\"",
                    _ => "",
                };
                let (line, encoding) = (line(content, at)?, encoding.as_str());
                format!("line {line} has the byte 0x{byte:02X}, which is not text in {encoding}{remedy}")
            }
        }))
    }
}

/// The line of a position, from 1.
fn line(content: impl Read, at: u64) -> io::Result<u64> {
    let mut before = BufReader::with_capacity(1 << 16, content.take(at));
    let mut line = 1;
    loop {
        let bytes = before.fill_buf()?;
        if bytes.is_empty() {
            return Ok(line);
        }
        line += memchr_iter(b'\n', bytes).count() as u64;
        let bytes = bytes.len();
        before.consume(bytes);
    }
}

/// The first NUL of a chunk.
pub(super) fn nul(chunk: &[u8]) -> Option<usize> {
    memchr(0, chunk)
}

impl Text {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self { encoding, passed: 0, cut: [0; 4], cut_bytes: 0 }
    }

    pub(super) fn is_utf8(&self) -> bool {
        self.encoding == Encoding::Utf8
    }

    /// `nul` is what [`nul`] has found in the chunk. Must not be called again after a fault.
    pub(super) fn feed(&mut self, chunk: &[u8], nul: Option<usize>) -> Result<(), Fault> {
        let passed = self.passed;
        if let Some(at) = nul {
            return Err(Fault::Nul { at: passed + at as u64 });
        }
        if self.is_utf8()
            && let Err(at) = self.feed_utf8(chunk)
        {
            return Err(Fault::NotUtf8 { at: passed + at as u64 });
        }
        let encoding = self.encoding;
        if !self.is_utf8()
            && let Some(at) = chunk.iter().position(|&byte| encoding.lacks(byte))
        {
            return Err(Fault::NotInEncoding { at: passed + at as u64, byte: chunk[at], encoding });
        }
        self.passed += chunk.len() as u64;
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.cut_bytes > 0 { Err(Fault::EndsWithinCharacter { at: self.passed }) } else { Ok(()) }
    }

    /// The error is the position of the first byte that does not fit.
    fn feed_utf8(&mut self, chunk: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while self.cut_bytes > 0 {
            let Some(&byte) = chunk.get(at) else { return Ok(()) };
            self.cut[self.cut_bytes] = byte;
            match std::str::from_utf8(&self.cut[..=self.cut_bytes]) {
                Ok(_) => self.cut_bytes = 0,
                Err(error) if error.error_len().is_none() => self.cut_bytes += 1,
                Err(_) => return Err(at),
            }
            at += 1;
        }
        if let Err(error) = std::str::from_utf8(&chunk[at..]) {
            let valid = at + error.valid_up_to();
            if error.error_len().is_some() {
                return Err(valid);
            }
            let rest = &chunk[valid..];
            self.cut[..rest.len()].copy_from_slice(rest);
            self.cut_bytes = rest.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(encoding: Encoding, bytes: &[u8], piece: usize) -> Result<(), String> {
        let mut text = Text::new(encoding);
        let mut chunks = bytes.chunks(piece);
        let fed = chunks.try_for_each(|chunk| text.feed(chunk, nul(chunk)));
        fed.and_then(|()| text.end()).map_err(|fault| fault.describe(bytes).expect("bytes can be read").text)
    }

    #[test]
    fn a_character_may_be_cut_anywhere() {
        let text = "ä€😀\nüber".repeat(3);
        for piece in 1..=text.len() {
            assert_eq!(inspect(Encoding::Utf8, text.as_bytes(), piece), Ok(()), "pieces of {piece}");
        }
    }

    #[test]
    fn the_line_of_the_first_fault_is_named_whatever_the_pieces() {
        for piece in 1..10 {
            assert_eq!(inspect(Encoding::Utf8, b"a\nb\xffc\n", piece), Err("line 2 is not UTF-8".to_owned()));
            assert_eq!(
                inspect(Encoding::Utf8, b"a\nb\n\xe2\x82x", piece),
                Err("line 3 is not UTF-8".to_owned())
            );
            assert_eq!(inspect(Encoding::Utf8, b"a\0\n", piece), Err("line 1 has a NUL byte".to_owned()));
            assert!(
                inspect(Encoding::Utf8, b"a\n\xe2\x82", piece)
                    .is_err_and(|reason| reason.contains("within a character"))
            );
        }
    }

    #[test]
    fn bytes_outside_the_encoding_are_reported_with_the_likely_encoding() {
        let bytes: Vec<u8> = (1..0x80).chain(0xa0..=0xff).collect();
        for encoding in [Encoding::Latin1, Encoding::Windows1252] {
            assert_eq!(inspect(encoding, &bytes, 7), Ok(()));
            assert!(inspect(encoding, b"a\0", 7).is_err());
        }
        let euro = b"name,price\nM\xfcller,5 \x80\n";
        assert_eq!(inspect(Encoding::Windows1252, euro, 7), Ok(()));
        let reason = "line 2 has the byte 0x80, which is not text in iso-8859-1; if it is Windows-1252, set \
                      \"files.encoding\" to \"windows-1252\"";
        for piece in 1..30 {
            assert_eq!(inspect(Encoding::Latin1, euro, piece), Err(reason.to_owned()));
        }
        let reason = "line 1 has the byte 0x81, which is not text in windows-1252";
        assert_eq!(inspect(Encoding::Windows1252, b"\x81", 1), Err(reason.to_owned()));
    }
}
