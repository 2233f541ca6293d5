//! Cuts bytes into lines. Pure.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// So many bytes before a line's end tell whether a file is still the one that the line was read from.
pub const TAIL_BYTES: usize = 256;

/// A line that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Without white space around it.
    pub payload: Bytes,
    pub end: End,
    /// NUL bytes in front of it that were skipped.
    pub nuls: u64,
}

/// Where a line ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Bytes of the input up to there, with the line's own end.
    pub offset: u64,
    /// Lines of the input up to there, empty ones too.
    pub line: u64,
    /// The last bytes before it, [`TAIL_BYTES`] or the whole line if that is shorter: how many, and their XXH3.
    pub tail_bytes: u16,
    pub tail: u64,
}

/// A line is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    pub line: u64,
    pub offset: u64,
}

/// The bytes that are not yet given out as lines.
#[derive(Debug)]
pub struct Lines {
    bytes_max: usize,
    buffer: Vec<u8>,
    /// What of `buffer` has been given out.
    start: usize,
    /// What of `buffer` has been searched for a line's end.
    searched: usize,
    end: End,
    /// NUL bytes at the start of the line that have been skipped: what a file has in place of what was emptied under a
    /// program that goes on writing where it was. They are not kept, as there may be gigabytes of them.
    nuls: u64,
}

impl Lines {
    /// Lines that follow `end`, of at most `bytes_max` bytes each.
    pub fn after(end: End, bytes_max: usize) -> Self {
        Self { bytes_max, buffer: Vec::new(), start: 0, searched: 0, end, nuls: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line that is not empty.
    ///
    /// # Errors
    ///
    /// It is too long; so it stays.
    pub fn next(&mut self) -> Result<Option<Line>, TooLong> {
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

    /// The input has ended: what is left is a line, even without its end.
    ///
    /// # Errors
    ///
    /// As [`Lines::next`], which has to have been called until there was none.
    pub fn rest(&mut self) -> Option<Line> {
        self.skip_nuls();
        if self.start < self.buffer.len() { self.take(self.buffer.len()) } else { None }
    }

    /// Where the last line ended that was given out or skipped.
    pub fn end(&self) -> End {
        self.end
    }

    /// Bytes that are no whole line yet.
    pub fn partial_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn skip_nuls(&mut self) {
        let nuls = self.buffer[self.start..].iter().take_while(|byte| **byte == 0).count();
        self.nuls += nuls as u64;
        self.start += nuls;
        self.searched = self.searched.max(self.start);
    }

    fn take(&mut self, end: usize) -> Option<Line> {
        let line = &self.buffer[self.start..end];
        let tail = &line[line.len().saturating_sub(TAIL_BYTES)..];
        self.end = End {
            offset: self.end.offset + self.nuls + line.len() as u64,
            line: self.end.line + 1,
            tail_bytes: tail.len() as u16,
            tail: xxh3_64(tail),
        };
        let payload = Bytes::copy_from_slice(line.trim_ascii());
        (self.start, self.searched) = (end, end);
        let nuls = std::mem::take(&mut self.nuls);
        (!payload.is_empty()).then_some(Line { payload, end: self.end, nuls })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<Line> {
        std::iter::from_fn(|| lines.next().expect("short lines")).collect()
    }

    proptest! {
        #[test]
        fn however_the_bytes_come_the_lines_are_the_same(text in "[ab \r\n]{0,60}", cuts in prop::collection::vec(1usize..9, 0..40)) {
            let mut lines = Lines::after(End::default(), 100);
            let (mut read, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts {
                let (bytes, after) = rest.split_at(cut.min(rest.len()));
                lines.push(bytes);
                read.extend(all(&mut lines));
                rest = after;
            }
            lines.push(rest);
            read.extend(all(&mut lines));
            read.extend(lines.rest());
            let expected: Vec<&[u8]> =
                text.as_bytes().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(read.iter().map(|line| &line.payload[..]).collect::<Vec<_>>(), expected);
            // Reading that goes on after any line gives the lines after it.
            for (index, line) in read.iter().enumerate() {
                let mut later = Lines::after(line.end, 100);
                later.push(&text.as_bytes()[line.end.offset as usize..]);
                let mut after = all(&mut later);
                after.extend(later.rest());
                prop_assert_eq!(&after, &read[index + 1..]);
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_those_before_it_are_given() {
        let mut lines = Lines::after(End::default(), 4);
        lines.push(b"abcd\n\nabcde");
        assert_eq!(lines.next().expect("short").map(|line| line.payload), Some(Bytes::from_static(b"abcd")));
        for _ in 0..2 {
            assert_eq!(lines.next(), Err(TooLong { line: 3, offset: 6 }));
        }
    }
}
