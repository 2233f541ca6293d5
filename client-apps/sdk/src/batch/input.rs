//! Reads the bytes of a unit: exactly as many as announced.

use std::io::{self, BufRead, Read};

/// Reads the bytes of a unit.
///
/// An end of file before the announced length is an error: otherwise a broken pipe would look like a shorter file.
pub struct UnitInput<'a> {
    bytes: &'a mut dyn BufRead,
    left: u64,
    length: u64,
}

impl<'a> UnitInput<'a> {
    pub(crate) fn new(bytes: &'a mut dyn BufRead, length: u64) -> Self {
        Self { bytes, left: length, length }
    }

    /// Returns the number of bytes that have not been read yet.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl BufRead for UnitInput<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let buffer = self.bytes.fill_buf()?;
        if buffer.is_empty() {
            return Err(ended_after(self.length - self.left, self.length));
        }
        let end = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        Ok(&buffer[..end])
    }

    fn consume(&mut self, amount: usize) {
        self.bytes.consume(amount);
        self.left -= amount as u64;
    }
}

impl Read for UnitInput<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let end = target.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if end == 0 {
            return Ok(0);
        }
        // Does not use `fill_buf`: stdin reads directly into a large target, without its own small buffer in between.
        let amount = self.bytes.read(&mut target[..end])?;
        if amount == 0 {
            return Err(ended_after(self.length - self.left, self.length));
        }
        self.left -= amount as u64;
        Ok(amount)
    }
}

fn ended_after(read: u64, length: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("stdin ended after {read} of {length} bytes"))
}

impl std::fmt::Debug for UnitInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnitInput")
            .field("left", &self.left)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_ends_where_the_unit_ends() {
        let mut bytes: &[u8] = b"unit and more";
        let mut text = String::new();
        UnitInput::new(&mut bytes, 4).read_to_string(&mut text).expect("four bytes are available");
        assert_eq!((text.as_str(), bytes), ("unit", b" and more".as_slice()));
    }

    #[test]
    fn a_short_stdin_is_an_error() {
        let mut bytes: &[u8] = b"uni";
        let error =
            UnitInput::new(&mut bytes, 4).read_to_end(&mut Vec::new()).expect_err("one byte is missing");
        assert_eq!(error.to_string(), "stdin ended after 3 of 4 bytes");
    }
}
