//! NDJSON: each line that is not blank is a record. Whether it is JSON is for the app to inspect.
//!
//! With one exception: if the first value spans several lines, no line is a record, and each would be rejected.

use memchr::memchr;
use mysimbdp_model::reason::{Objection, ReasonCode};
use serde::de::IgnoredAny;

use super::cutter::Cutter;
use super::scanner::RecordScanner;

/// How much of the file is inspected for its first value. A longer one is left to the app.
const FIRST_VALUE_BYTES_MAX: usize = 64 << 10;

pub(super) struct Ndjson {
    begun: bool,
    /// Whether the line so far is nothing but ASCII white space.
    blank: bool,
    /// The beginning of the file, until its first value has been inspected.
    head: Option<Vec<u8>>,
}

impl Ndjson {
    /// `is_read`: whether an app reads the records.
    pub(super) fn new(is_read: bool) -> Self {
        Self { begun: false, blank: true, head: is_read.then(Vec::new) }
    }

    fn check_first_value(&mut self) -> Result<(), Objection> {
        match self.head.take() {
            Some(head) => several_lines(head.trim_ascii_start()).map_or(Ok(()), Err),
            None => Ok(()),
        }
    }
}

impl RecordScanner for Ndjson {
    fn feed(&mut self, chunk: &[u8], mut at: usize, cutter: &mut Cutter) -> Result<(), Objection> {
        if !self.begun {
            self.begun = true;
            cutter.end_prefix(at);
        }
        if let Some(head) = &mut self.head {
            let rest = &chunk[at..];
            head.extend_from_slice(&rest[..rest.len().min(FIRST_VALUE_BYTES_MAX - head.len())]);
            if head.len() == FIRST_VALUE_BYTES_MAX {
                self.check_first_value()?;
            }
        }
        while let Some(length) = memchr(b'\n', &chunk[at..]) {
            let end = at + length;
            self.blank = self.blank && is_blank(&chunk[at..end]);
            at = end + 1;
            cutter.boundary(chunk, at, u64::from(!self.blank));
            self.blank = true;
        }
        self.blank = self.blank && is_blank(&chunk[at..]);
        Ok(())
    }

    fn end(&mut self, cutter: &mut Cutter) -> Result<(), Objection> {
        cutter.boundary(&[], 0, u64::from(!self.blank));
        self.check_first_value()
    }
}

/// The fault if the first value spans several lines. A truncated line is not such a value: it has no end.
fn several_lines(text: &[u8]) -> Option<Objection> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    let is_whole = matches!(values.next(), Some(Ok(_)));
    let value = &text[..values.byte_offset()];
    if !is_whole || !value.contains(&b'\n') {
        return None;
    }
    let remedy = match value.first() {
        Some(b'[') => "a JSON array is named .json, or the app has \"format\": \"json\"",
        _ => "each value must be on one line",
    };
    let text = format!("is not NDJSON: its first value spans several lines; {remedy}");
    Some(ReasonCode::InvalidJson.because(text))
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}
