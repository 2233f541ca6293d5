//! Reads lines of bounded length from arbitrary bytes.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Longer lines are cut: no line of the app contract comes close to this length.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The lines of a stream. [`Lines::next`] may be dropped and called again.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    /// The line that is being read has been cut.
    cut: bool,
}

/// A line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutputLine {
    pub(super) bytes: Vec<u8>,
    pub(super) cut: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(LINE_BYTES_MAX, reader), line: Vec::new(), cut: false }
    }

    /// Returns the next line; `None` at the end. A stream that cannot be read any more has ended.
    pub(super) async fn next(&mut self) -> Option<OutputLine> {
        // A buffer may hold tens of thousands of lines. Without this, a flood of them would block its own time-out and
        // the tasks of other clients for many seconds.
        tokio::task::consume_budget().await;
        loop {
            let buffer = self.reader.fill_buf().await.unwrap_or_default();
            if buffer.is_empty() {
                return (!self.line.is_empty() || self.cut).then(|| self.take());
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let capacity = LINE_BYTES_MAX - self.line.len();
            self.cut |= part.len() > capacity;
            self.line.extend_from_slice(&part[..part.len().min(capacity)]);
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Some(self.take());
            }
        }
    }

    fn take(&mut self) -> OutputLine {
        OutputLine { bytes: std::mem::take(&mut self.line), cut: std::mem::take(&mut self.cut) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_short_lines_lets_other_tasks_run() {
        let other = tokio::spawn(async {});
        let text = b"y\n".repeat(1000);
        let mut lines = Lines::new(text.as_slice());
        while lines.next().await.is_some() {}
        assert!(other.is_finished(), "1,000 lines were read in one go");
    }

    #[tokio::test]
    async fn lines_are_separated_and_long_ones_cut() {
        let long = vec![b'x'; LINE_BYTES_MAX * 3];
        let text = [b"a\n\n".as_slice(), &long, b"\nlast"].concat();
        let mut lines = Lines::new(text.as_slice());
        let whole = |bytes: &[u8]| Some(OutputLine { bytes: bytes.to_vec(), cut: false });
        assert_eq!(lines.next().await, whole(b"a"));
        assert_eq!(lines.next().await, whole(b""));
        let cut = lines.next().await.expect("the long line");
        assert!(cut.cut && cut.bytes.len() == LINE_BYTES_MAX);
        assert_eq!(lines.next().await, whole(b"last"));
        assert_eq!(lines.next().await, None);
    }
}
