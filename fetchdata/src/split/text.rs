//! Whether bytes are text: no NUL, and valid in the client's encoding.

use memchr::{memchr, memchr_iter};
use mysimbdp_core::config::settings::Encoding;

/// Looks at text that comes in pieces, which may cut a character.
pub(super) struct Text {
    encoding: Encoding,
    /// Line feeds gone by.
    lines: u64,
    /// The beginning of a character whose end has not come yet: at most three bytes, and room for the fourth.
    cut: [u8; 4],
    cut_bytes: usize,
}

impl Text {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self { encoding, lines: 0, cut: [0; 4], cut_bytes: 0 }
    }

    pub(super) fn is_utf8(&self) -> bool {
        self.encoding == Encoding::Utf8
    }

    /// The reason is that of the first place; after it this must not be asked again.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), String> {
        if let Some(at) = memchr(0, chunk) {
            return Err(format!("line {} has a NUL byte", self.line_at(chunk, at)));
        }
        if self.is_utf8()
            && let Err(at) = self.feed_utf8(chunk)
        {
            return Err(format!("line {} is not UTF-8", self.line_at(chunk, at)));
        }
        self.lines += memchr_iter(b'\n', chunk).count() as u64;
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), String> {
        if self.cut_bytes > 0 {
            return Err(format!("line {} is not UTF-8: it ends within a character", self.lines + 1));
        }
        Ok(())
    }

    fn line_at(&self, chunk: &[u8], at: usize) -> u64 {
        self.lines + 1 + memchr_iter(b'\n', &chunk[..at]).count() as u64
    }

    /// The position of the first byte that does not fit.
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

    fn judge(encoding: Encoding, bytes: &[u8], piece: usize) -> Result<(), String> {
        let mut text = Text::new(encoding);
        for chunk in bytes.chunks(piece) {
            text.feed(chunk)?;
        }
        text.end()
    }

    #[test]
    fn a_character_may_be_cut_anywhere() {
        let text = "ä€😀\nüber".repeat(3);
        for piece in 1..=text.len() {
            assert_eq!(judge(Encoding::Utf8, text.as_bytes(), piece), Ok(()), "pieces of {piece}");
        }
    }

    #[test]
    fn the_line_of_the_first_fault_is_named_whatever_the_pieces() {
        for piece in 1..10 {
            assert_eq!(judge(Encoding::Utf8, b"a\nb\xffc\n", piece), Err("line 2 is not UTF-8".to_owned()));
            assert_eq!(
                judge(Encoding::Utf8, b"a\nb\n\xe2\x82x", piece),
                Err("line 3 is not UTF-8".to_owned())
            );
            assert_eq!(judge(Encoding::Utf8, b"a\0\n", piece), Err("line 1 has a NUL byte".to_owned()));
            assert!(
                judge(Encoding::Utf8, b"a\n\xe2\x82", piece)
                    .is_err_and(|reason| reason.contains("within a character"))
            );
        }
    }

    #[test]
    fn any_byte_but_nul_is_a_character_of_latin1() {
        let bytes: Vec<u8> = (1..=255).collect();
        assert_eq!(judge(Encoding::Latin1, &bytes, 7), Ok(()));
        assert!(judge(Encoding::Latin1, b"a\0", 7).is_err());
    }
}
