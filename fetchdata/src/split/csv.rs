//! CSV as the `csv` crate reads it, of which only the ends of records matter here.
//!
//! `\n`, `\r\n` and a lone `\r` end a record; blank lines are none. A quote opens a quoted field only where the field
//! begins, and is a character like any other elsewhere; in a quoted field `""` is a quote. The first record is the header.

use memchr::{memchr, memchr_iter, memchr3};
use mysimbdp_core::config::settings::Encoding;

use super::cutter::Cutter;

/// The header is fed to the app in front of each micro-batch: one of this size could name a hundred thousand columns.
const HEADER_BYTES_MAX: usize = 1 << 20;
/// Of a wrong header, as much as a person reads in a reason.
const HEADER_SHOWN_MAX: usize = 200;

pub(super) struct Csv {
    state: State,
    /// From 1.
    line: u64,
    header: Header,
    /// What the header must be.
    expected: Option<Vec<String>>,
    encoding: Encoding,
}

enum State {
    /// Nothing of the record has come yet.
    RecordStart,
    /// In a field without quotes, or at the start of a field that is not the record's first.
    Unquoted {
        previous: u8,
    },
    Quoted {
        line: u64,
    },
    /// Behind a quote in a quoted field: its end, or the first half of `""`.
    QuoteInQuoted {
        line: u64,
    },
    /// Behind `\r`, which ends the line with or without a `\n`.
    AfterReturn {
        is_record: bool,
    },
}

enum Header {
    /// The bytes so far.
    Open(Vec<u8>),
    Complete(Vec<u8>),
}

impl Csv {
    pub(super) fn new(expected: Option<&[String]>, encoding: Encoding) -> Self {
        let header = Header::Open(Vec::new());
        Self {
            state: State::RecordStart,
            line: 1,
            header,
            expected: expected.map(<[String]>::to_vec),
            encoding,
        }
    }

    pub(super) fn feed(&mut self, chunk: &[u8], mut at: usize, cutter: &mut Cutter) -> Result<(), String> {
        while at < chunk.len() {
            let byte = chunk[at];
            match self.state {
                State::RecordStart => match byte {
                    b'\n' | b'\r' => at = self.end_line(chunk, at, false, cutter),
                    b'"' => {
                        self.state = State::Quoted { line: self.line };
                        at += 1;
                    }
                    _ => self.state = State::Unquoted { previous: 0 },
                },
                State::Unquoted { previous } => {
                    let rest = &chunk[at..];
                    let Some(length) = memchr3(b'"', b'\n', b'\r', rest) else {
                        self.state = State::Unquoted { previous: rest[rest.len() - 1] };
                        break;
                    };
                    let before = if length > 0 { rest[length - 1] } else { previous };
                    at += length;
                    if rest[length] == b'"' {
                        self.state = match before {
                            b',' => State::Quoted { line: self.line },
                            _ => State::Unquoted { previous: b'"' },
                        };
                        at += 1;
                    } else {
                        at = self.end_line(chunk, at, true, cutter);
                    }
                }
                State::Quoted { line } => {
                    let rest = &chunk[at..];
                    let length = memchr(b'"', rest).unwrap_or(rest.len());
                    self.line += memchr_iter(b'\n', &rest[..length]).count() as u64;
                    if length < rest.len() {
                        self.state = State::QuoteInQuoted { line };
                    }
                    at += length + 1;
                }
                State::QuoteInQuoted { line } => match byte {
                    b'\n' | b'\r' => at = self.end_line(chunk, at, true, cutter),
                    _ => {
                        self.state = match byte {
                            b'"' => State::Quoted { line },
                            other => State::Unquoted { previous: other },
                        };
                        at += 1;
                    }
                },
                State::AfterReturn { is_record } => {
                    at += usize::from(byte == b'\n');
                    self.end_record(chunk, at, is_record, cutter);
                }
            }
        }
        self.keep_header(chunk)
    }

    pub(super) fn end(&mut self, cutter: &mut Cutter) -> Result<(), String> {
        match self.state {
            State::Quoted { line } => {
                return Err(format!("the quoted field that begins at line {line} is never closed"));
            }
            State::Unquoted { .. } | State::QuoteInQuoted { .. } => self.end_record(&[], 0, true, cutter),
            State::AfterReturn { is_record } => self.end_record(&[], 0, is_record, cutter),
            State::RecordStart => {}
        }
        if matches!(self.header, Header::Open(_)) {
            return Err("has no header line".to_owned());
        }
        Ok(())
    }

    /// What is wrong with the header, where the client wants a certain one.
    pub(super) fn header_fault(&self) -> Option<String> {
        let (Header::Complete(line), Some(expected)) = (&self.header, &self.expected) else { return None };
        let mut reader =
            ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_slice());
        let record = reader.byte_records().next().and_then(Result::ok).unwrap_or_default();
        let columns: Vec<String> = record.iter().map(|column| self.decode(column)).collect();
        if columns == *expected {
            return None;
        }
        let shown: String = columns.join(",").chars().take(HEADER_SHOWN_MAX).collect();
        Some(format!("header is {shown:?}, allowed is {:?}", expected.join(",")))
    }

    fn decode(&self, bytes: &[u8]) -> String {
        match self.encoding {
            Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Encoding::Latin1 => bytes.iter().copied().map(char::from).collect(),
        }
    }

    /// At a `\n` or `\r`: returns the position behind it.
    fn end_line(&mut self, chunk: &[u8], at: usize, is_record: bool, cutter: &mut Cutter) -> usize {
        self.line += 1;
        if chunk[at] == b'\r' {
            self.state = State::AfterReturn { is_record };
        } else {
            self.end_record(chunk, at + 1, is_record, cutter);
        }
        at + 1
    }

    fn end_record(&mut self, chunk: &[u8], at: usize, is_record: bool, cutter: &mut Cutter) {
        self.state = State::RecordStart;
        match &mut self.header {
            Header::Complete(_) => cutter.boundary(chunk, at, u64::from(is_record)),
            Header::Open(_) if !is_record => {}
            Header::Open(line) => {
                let mut line = std::mem::take(line);
                line.extend_from_slice(&chunk[..at]);
                self.header = Header::Complete(line);
                cutter.end_prefix(at);
            }
        }
    }

    fn keep_header(&mut self, chunk: &[u8]) -> Result<(), String> {
        let bytes = match &mut self.header {
            Header::Open(line) => {
                if line.len() <= HEADER_BYTES_MAX {
                    line.extend_from_slice(chunk);
                }
                line.len()
            }
            Header::Complete(line) => line.len(),
        };
        if bytes > HEADER_BYTES_MAX {
            return Err(format!("header line is larger than {HEADER_BYTES_MAX} bytes"));
        }
        Ok(())
    }
}
