//! NDJSON: each line that is not blank is a record. Whether it is JSON is for the app to judge.

use memchr::memchr;

use super::cutter::Cutter;

pub(super) struct Ndjson {
    begun: bool,
    /// Whether the line so far is nothing but ASCII white space.
    blank: bool,
}

impl Ndjson {
    pub(super) fn new() -> Self {
        Self { begun: false, blank: true }
    }

    pub(super) fn feed(&mut self, chunk: &[u8], mut at: usize, cutter: &mut Cutter) {
        if !self.begun {
            self.begun = true;
            cutter.end_prefix(at);
        }
        while let Some(length) = memchr(b'\n', &chunk[at..]) {
            let end = at + length;
            self.blank = self.blank && is_blank(&chunk[at..end]);
            at = end + 1;
            cutter.boundary(chunk, at, u64::from(!self.blank));
            self.blank = true;
        }
        self.blank = self.blank && is_blank(&chunk[at..]);
    }

    pub(super) fn end(&mut self, cutter: &mut Cutter) {
        cutter.boundary(&[], 0, u64::from(!self.blank));
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}
