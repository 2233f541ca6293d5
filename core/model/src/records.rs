//! Finds where the records of a micro-batch begin and end.
//!
//! Pure: bytes in, ranges out. The splitter (in fetchdata) finds the same boundaries with code of its own, because it has to be
//! fast and to find faults, and does not need single records. A property test checks that the two agree.

use std::ops::Range;

use crate::manifest::Format;

/// Scans a micro-batch from its first byte, which is the first byte of a record.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// Bytes that have been read.
    position: u64,
    /// The position at which the current record begins.
    begin: u64,
    /// The position after the current record's last byte so far, without bytes that belong to no record.
    end: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Csv(Csv),
    /// Whether the line so far holds nothing but white space.
    Line {
        blank: bool,
    },
    Element {
        within: Json,
        depth: u64,
        begun: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Csv {
    RecordStart,
    Unquoted {
        previous: u8,
    },
    Quoted,
    /// After a quote in a quoted field.
    Quote,
    /// After `\r`, which ends the line with or without a `\n`.
    Return {
        is_record: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Json {
    Value,
    String,
    Escape,
}

impl Scanner {
    /// `None` for a format without record boundaries, in which the whole file is one record.
    pub fn new(format: Format) -> Option<Self> {
        let state = match format {
            Format::Csv => State::Csv(Csv::RecordStart),
            Format::Ndjson => State::Line { blank: true },
            Format::Json => State::Element { within: Json::Value, depth: 0, begun: false },
            Format::Binary => return None,
        };
        Some(Self { state, position: 0, begin: 0, end: 0 })
    }

    /// Reads up to the end of the next record. Returns how many bytes it has read, and the record if one has ended.
    ///
    /// The record's range excludes its line ending, or the comma after it.
    pub fn read(&mut self, bytes: &[u8]) -> (usize, Option<Range<u64>>) {
        for (count, &byte) in (1..).zip(bytes) {
            let record = match self.state {
                State::Csv(csv) => self.csv(csv, byte),
                State::Line { blank } => self.line(blank, byte),
                State::Element { within, depth, begun } => self.element(within, depth, begun, byte),
            };
            self.position += 1;
            if record.is_some() {
                return (count, record);
            }
        }
        (bytes.len(), None)
    }

    /// Returns the record that ends with the micro-batch, if one is open. Nothing may be read afterwards.
    pub fn finish(&mut self) -> Option<Range<u64>> {
        match std::mem::replace(&mut self.state, State::Line { blank: true }) {
            State::Csv(Csv::Return { is_record }) => is_record.then_some(self.begin..self.end),
            State::Csv(Csv::Unquoted { .. } | Csv::Quoted | Csv::Quote) => Some(self.begin..self.position),
            State::Line { blank: false } => Some(self.begin..self.end),
            State::Csv(Csv::RecordStart) | State::Line { blank: true } | State::Element { .. } => None,
        }
    }

    fn csv(&mut self, mut state: Csv, byte: u8) -> Option<Range<u64>> {
        let mut record = None;
        if let Csv::Return { is_record } = state {
            record = is_record.then_some(self.begin..self.end);
            state = Csv::RecordStart;
            self.begin = self.position;
        }
        let next = match (state, byte) {
            (Csv::RecordStart, b'\n') => self.next_line(),
            (Csv::RecordStart, b'\r') => Csv::Return { is_record: false },
            (Csv::RecordStart | Csv::Unquoted { previous: b',' }, b'"') | (Csv::Quote, b'"') => Csv::Quoted,
            (Csv::Quoted, b'"') => Csv::Quote,
            (Csv::Quoted, _) => Csv::Quoted,
            (_, b'\n') => {
                record = Some(self.begin..self.position);
                self.next_line()
            }
            (_, b'\r') => {
                self.end = self.position;
                Csv::Return { is_record: true }
            }
            (_, previous) => Csv::Unquoted { previous },
        };
        self.state = State::Csv(next);
        record
    }

    fn line(&mut self, blank: bool, byte: u8) -> Option<Range<u64>> {
        if byte == b'\n' {
            let record = (!blank).then_some(self.begin..self.end);
            self.state = State::Line { blank: true };
            self.begin = self.position + 1;
            return record;
        }
        if byte != b'\r' {
            self.end = self.position + 1;
        }
        self.state = State::Line { blank: blank && byte.is_ascii_whitespace() };
        None
    }

    fn element(&mut self, within: Json, depth: u64, begun: bool, byte: u8) -> Option<Range<u64>> {
        let is_end = depth == 0 && matches!((within, byte), (Json::Value, b',' | b']'));
        if is_end {
            self.state = State::Element { within: Json::Value, depth: 0, begun: false };
            return begun.then_some(self.begin..self.end);
        }
        let is_significant = !byte.is_ascii_whitespace();
        if is_significant {
            self.begin = if begun { self.begin } else { self.position };
            self.end = self.position + 1;
        }
        let (within, depth) = match (within, byte) {
            (Json::Escape, _) => (Json::String, depth),
            (Json::String, b'\\') => (Json::Escape, depth),
            (Json::String, b'"') => (Json::Value, depth),
            (Json::Value, b'"') => (Json::String, depth),
            (Json::Value, b'{' | b'[') => (Json::Value, depth + 1),
            (Json::Value, b'}' | b']') => (Json::Value, depth.saturating_sub(1)),
            (same, _) => (same, depth),
        };
        self.state = State::Element { within, depth, begun: begun || is_significant };
        None
    }

    /// The state before the first byte of a line.
    fn next_line(&mut self) -> Csv {
        self.begin = self.position + 1;
        Csv::RecordStart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a micro-batch that is read in pieces of `piece` bytes.
    fn records(format: Format, text: &str, piece: usize) -> Vec<&str> {
        let mut scanner = Scanner::new(format).expect("a format with boundaries");
        let mut found = Vec::new();
        for mut piece in text.as_bytes().chunks(piece) {
            while !piece.is_empty() {
                let (count, record) = scanner.read(piece);
                piece = &piece[count..];
                found.extend(record);
            }
        }
        found.extend(scanner.finish());
        found.into_iter().map(|record| &text[record.start as usize..record.end as usize]).collect()
    }

    #[test]
    fn each_record_is_found_without_the_bytes_between_records() {
        for (format, text, expected) in [
            (Format::Csv, "1,2\n3,4\n", &["1,2", "3,4"][..]),
            (
                Format::Csv,
                "\n\r\n1,2\r\n\r3,4\r\"a\"\"\r\n\",5\r\n6,\"7",
                &["1,2", "3,4", "\"a\"\"\r\n\",5", "6,\"7"],
            ),
            (Format::Csv, "a\"b\nc,\"d\n\"e\n\r", &["a\"b", "c,\"d\n\"e"]),
            (Format::Csv, "", &[]),
            (Format::Ndjson, "{\"a\":1}\r\n \t\n\n[2]\n 3", &["{\"a\":1}", "[2]", " 3"]),
            (Format::Json, " {\"a\":[1,\"],\\\"\"]} , 2,\n3 ]\n", &["{\"a\":[1,\"],\\\"\"]}", "2", "3"]),
            (Format::Json, "4,", &["4"]),
            (Format::Json, "]", &[]),
        ] {
            for piece in 1..=text.len().max(1) {
                assert_eq!(records(format, text, piece), expected, "{text:?} by {piece}");
            }
        }
        assert!(Scanner::new(Format::Binary).is_none());
    }
}
