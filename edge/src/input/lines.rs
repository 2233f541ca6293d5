//! Splits bytes into lines, without I/O.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// How many bytes before a line's end are compared to decide whether a file is still the one that the line was read from.
pub const TAIL_BYTES: usize = 256;

/// A line that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLine {
    /// The line without surrounding white space.
    pub payload: Bytes,
    pub end: LineEnd,
    /// How many NUL bytes in front of it were skipped.
    pub nuls: u64,
}

/// Where a line ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineEnd {
    /// The offset in the input, after the line feed.
    pub offset: u64,
    /// How many lines the input has up to there, including empty ones.
    pub line: u64,
    /// How many bytes before it `tail` covers: [`TAIL_BYTES`], or the whole line if that is shorter.
    pub tail_bytes: u16,
    /// The XXH3 of these bytes.
    pub tail: u64,
}

/// A line is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    pub line: u64,
    pub offset: u64,
}

/// The bytes that have not been returned as lines yet.
#[derive(Debug)]
pub struct Lines {
    bytes_max: usize,
    buffer: Vec<u8>,
    /// The part of `buffer` before this has been returned.
    start: usize,
    /// The part of `buffer` before this has been searched for a line feed.
    searched: usize,
    end: LineEnd,
    /// How many NUL bytes at the start of the line have been skipped. A file has them if it was truncated while a program
    /// continued to write at its old offset. They are not kept, because there may be gigabytes of them.
    nuls: u64,
}

impl Lines {
    /// Splits the bytes that follow `end` into lines of at most `bytes_max` bytes each.
    pub fn after(end: LineEnd, bytes_max: usize) -> Self {
        Self { bytes_max, buffer: Vec::new(), start: 0, searched: 0, end, nuls: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete line that is not empty.
    ///
    /// # Errors
    ///
    /// The line is too long. Every further call returns the same error.
    pub fn next(&mut self) -> Result<Option<InputLine>, TooLong> {
        loop {
            self.skip_nuls();
            let found = memchr::memchr(b'\n', &self.buffer[self.searched..]);
            let end = found.map_or(self.buffer.len(), |at| self.searched + at + 1);
            if end - self.start > self.bytes_max + usize::from(found.is_some()) {
                return Err(TooLong { line: self.end.line + 1, offset: self.end.offset });
            }
            if found.is_none() {
                self.searched = end;
                return Ok(None);
            }
            if let Some(line) = self.take(end) {
                return Ok(Some(line));
            }
        }
    }

    /// Returns the remaining bytes as a line, though they have no line feed, because the input has ended. [`Lines::next`] must
    /// have been called until it returned no line.
    pub fn remainder(&mut self) -> Option<InputLine> {
        self.skip_nuls();
        if self.start < self.buffer.len() { self.take(self.buffer.len()) } else { None }
    }

    /// Where the last line that was returned or skipped ended.
    pub fn end(&self) -> LineEnd {
        self.end
    }

    /// How many bytes are not a complete line yet.
    pub fn partial_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn skip_nuls(&mut self) {
        let nuls = self.buffer[self.start..].iter().take_while(|byte| **byte == 0).count();
        self.nuls += nuls as u64;
        self.start += nuls;
        self.searched = self.searched.max(self.start);
    }

    fn take(&mut self, end: usize) -> Option<InputLine> {
        let line = &self.buffer[self.start..end];
        let tail = &line[line.len().saturating_sub(TAIL_BYTES)..];
        self.end = LineEnd {
            offset: self.end.offset + self.nuls + line.len() as u64,
            line: self.end.line + 1,
            tail_bytes: tail.len() as u16,
            tail: xxh3_64(tail),
        };
        let payload = Bytes::copy_from_slice(line.trim_ascii());
        (self.start, self.searched) = (end, end);
        let nuls = std::mem::take(&mut self.nuls);
        (!payload.is_empty()).then_some(InputLine { payload, end: self.end, nuls })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<InputLine> {
        std::iter::from_fn(|| lines.next().expect("short lines")).collect()
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_are_split(text in "[ab \r\n]{0,60}", cuts in prop::collection::vec(1usize..9, 0..40)) {
            let mut lines = Lines::after(LineEnd::default(), 100);
            let (mut read, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts {
                let (bytes, after) = rest.split_at(cut.min(rest.len()));
                lines.push(bytes);
                read.extend(all(&mut lines));
                rest = after;
            }
            lines.push(rest);
            read.extend(all(&mut lines));
            read.extend(lines.remainder());
            let expected: Vec<&[u8]> =
                text.as_bytes().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(read.iter().map(|line| &line.payload[..]).collect::<Vec<_>>(), expected);
            // Reading that continues after any line returns the lines after it.
            for (index, line) in read.iter().enumerate() {
                let mut later = Lines::after(line.end, 100);
                later.push(&text.as_bytes()[line.end.offset as usize..]);
                let mut after = all(&mut later);
                after.extend(later.remainder());
                prop_assert_eq!(&after, &read[index + 1..]);
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_after_the_lines_before_it() {
        let mut lines = Lines::after(LineEnd::default(), 4);
        lines.push(b"abcd\n\nabcde");
        assert_eq!(lines.next().expect("short").map(|line| line.payload), Some(Bytes::from_static(b"abcd")));
        for _ in 0..2 {
            assert_eq!(lines.next(), Err(TooLong { line: 3, offset: 6 }));
        }
    }
}
