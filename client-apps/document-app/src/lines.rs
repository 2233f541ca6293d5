//! NDJSON: one record per line. Blank lines are not records.

use std::io::{self, BufRead};

use mysimbdp_sdk::record::RECORD_BYTES_MAX;

use crate::Record;

/// The lines of an input.
pub(crate) struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, line: Vec::new() }
    }

    /// Returns the next line that is not blank, without its line break; `None` after the last line.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        loop {
            match self.read_line()? {
                End::Input if self.line.is_empty() => return Ok(None),
                End::TooLarge => return Ok(Some(Record::TooLarge)),
                End::Input | End::Line => {}
            }
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(Record::Text(&self.line)));
            }
        }
    }

    /// Reads up to and including the next line break.
    fn read_line(&mut self) -> io::Result<End> {
        self.line.clear();
        let mut too_large = false;
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(if too_large { End::TooLarge } else { End::Input });
            }
            let line_break = memchr::memchr(b'\n', buffer);
            let piece = &buffer[..line_break.unwrap_or(buffer.len())];
            too_large |= self.line.len() + piece.len() > RECORD_BYTES_MAX;
            if !too_large {
                self.line.extend_from_slice(piece);
            }
            let consumed = piece.len() + usize::from(line_break.is_some());
            self.input.consume(consumed);
            if line_break.is_some() {
                return Ok(if too_large { End::TooLarge } else { End::Line });
            }
        }
    }
}

/// How a line ended.
enum End {
    Line,
    Input,
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], buffer_bytes: usize) -> Vec<String> {
        let mut lines = Lines::new(io::BufReader::with_capacity(buffer_bytes, text));
        let mut all = Vec::new();
        while let Some(line) = lines.next().expect("memory can be read") {
            all.push(match line {
                Record::Text(line) => String::from_utf8_lossy(line).into_owned(),
                Record::TooLarge => "too large".to_owned(),
            });
        }
        all
    }

    #[test]
    fn blank_lines_are_not_records_and_the_last_line_needs_no_break() {
        for buffer_bytes in [1, 3, 100] {
            assert_eq!(all(b"{}\r\n\n \t\r\n{1}\n{2}", buffer_bytes), ["{}\r", "{1}", "{2}"]);
        }
        assert!(all(b"\n\n  ", 100).is_empty());
    }

    #[test]
    fn a_line_that_is_too_large_is_skipped_and_the_next_is_read() {
        let mut text = vec![b'x'; RECORD_BYTES_MAX + 1];
        text.extend_from_slice(b"\n{}\n");
        assert_eq!(all(&text, 64 * 1024), ["too large", "{}"]);
    }
}
