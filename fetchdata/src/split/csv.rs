//! CSV as the `csv` crate reads it. Here only the ends of records matter, and what is between them.
//!
//! `\n`, `\r\n` and a lone `\r` end a record; blank lines are not records. A quote opens a quoted field only at the
//! beginning of the field, and is a character like any other elsewhere; in a quoted field `""` is a quote. The first
//! record is the header.
//!
//! In one respect this is stricter, if an app reads the records: after the closing quote of a field only its end may
//! follow. A writer of `"say \"hi\""` means other fields, and often other records, than a reader finds, so nothing
//! after that position could be trusted.

use memchr::{memchr, memchr_iter, memchr3};
use mysimbdp_model::column::Column;
use mysimbdp_model::encoding::Encoding;
use mysimbdp_model::reason::{Objection, ReasonCode};

use super::cutter::Cutter;
use super::header::{HeaderLine, OTHER_SEPARATORS};
use super::rows::Rows;
use super::scanner::RecordScanner;

/// The header is fed to the app before each micro-batch; one of this size could name a hundred thousand columns.
const HEADER_BYTES_MAX: usize = 1 << 20;

pub(super) struct Csv {
    state: State,
    /// From 1.
    line: u64,
    header: Header,
    /// What the header must be.
    expected: Option<Vec<String>>,
    encoding: Encoding,
    /// Whether an app reads the records.
    is_read: bool,
    rows: Option<Rows>,
    escape: Option<Escape>,
}

#[derive(Clone, Copy)]
enum State {
    /// Nothing of the record has come yet.
    RecordStart,
    /// In a field without quotes, or at the start of a field that is not the record's first.
    Unquoted {
        previous: u8,
    },
    Quoted {
        line: u64,
        previous: u8,
    },
    /// After a quote in a quoted field: its end, or the first half of `""`.
    QuoteInQuoted {
        line: u64,
        previous: u8,
    },
    /// After `\r`, which ends the line with or without a `\n`.
    AfterReturn {
        is_record: bool,
    },
}

enum Header {
    /// The bytes so far.
    Open(Vec<u8>),
    /// With its fault, if any.
    Complete(Option<Objection>),
}

/// A quoted field that ended with a backslash, which is legal. If a quote soon follows where none should be, the
/// backslash and the quote meant `\"`.
#[derive(Clone, Copy)]
struct Escape {
    line: u64,
    /// Ends of records until it is forgotten.
    records: u8,
}

impl Csv {
    pub(super) fn new(expected: Option<&[String]>, encoding: Encoding, is_read: bool) -> Self {
        Self {
            state: State::RecordStart,
            line: 1,
            header: Header::Open(Vec::new()),
            expected: expected.map(<[String]>::to_vec),
            encoding,
            is_read,
            rows: None,
            escape: None,
        }
    }

    /// Follows a field without quotes to its end, or to that of the chunk. Returns where to continue.
    fn unquoted(
        &mut self,
        chunk: &[u8],
        at: usize,
        previous: u8,
        cutter: &mut Cutter,
    ) -> Result<usize, Objection> {
        let rest = &chunk[at..];
        let length = memchr3(b'"', b'\n', b'\r', rest);
        let piece = &rest[..length.unwrap_or(rest.len())];
        if let Some(rows) = &mut self.rows {
            rows.unquoted(piece);
        }
        let before = piece.last().copied().unwrap_or(previous);
        let at = at + piece.len();
        Ok(match length {
            None => {
                self.state = State::Unquoted { previous: before };
                at
            }
            Some(length) if rest[length] == b'"' => {
                self.quote(before)?;
                at + 1
            }
            Some(_) => self.end_line(chunk, at, true, cutter),
        })
    }

    /// Follows a quoted field to the next quote, or to the end of the chunk. Returns where to continue.
    fn quoted(&mut self, chunk: &[u8], at: usize, line: u64, previous: u8) -> usize {
        let rest = &chunk[at..];
        let length = memchr(b'"', rest).unwrap_or(rest.len());
        let piece = &rest[..length];
        if let Some(rows) = &mut self.rows {
            rows.quoted(piece);
        }
        self.line += memchr_iter(b'\n', piece).count() as u64;
        let previous = piece.last().copied().unwrap_or(previous);
        self.state = if length < rest.len() {
            State::QuoteInQuoted { line, previous }
        } else {
            State::Quoted { line, previous }
        };
        at + length + 1
    }

    /// At a quote in a field without quotes, or at the start of one.
    fn quote(&mut self, before: u8) -> Result<(), Objection> {
        if before == b',' {
            self.state = State::Quoted { line: self.line, previous: 0 };
            return Ok(());
        }
        if let (Some(escape), true) = (self.escape, self.is_read) {
            return Err(backslash(escape.line));
        }
        if let Some(rows) = &mut self.rows {
            rows.unquoted(b"\"");
        }
        self.state = State::Unquoted { previous: b'"' };
        Ok(())
    }

    fn close_quote(&mut self, previous: u8) {
        if previous == b'\\' {
            self.escape = Some(Escape { line: self.line, records: 2 });
        }
    }

    /// At a `\n` or `\r`: returns the position after it.
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
        self.escape = self.escape.and_then(Escape::after_record);
        match &mut self.header {
            Header::Complete(_) => {
                if let (Some(rows), true) = (&mut self.rows, is_record) {
                    rows.end_row();
                }
                cutter.boundary(chunk, at, u64::from(is_record));
            }
            Header::Open(_) if !is_record => {}
            Header::Open(line) => {
                let mut line = std::mem::take(line);
                line.extend_from_slice(&chunk[..at]);
                self.complete_header(&line);
                cutter.end_prefix(at);
            }
        }
    }

    fn complete_header(&mut self, line: &[u8]) {
        let mut fault = None;
        if line.len() > HEADER_BYTES_MAX {
            fault = Some(header_too_large());
        } else if self.is_read || self.expected.is_some() {
            let header = HeaderLine::new(line, self.encoding, self.expected.as_deref());
            fault = header.fault();
            self.rows = self.is_read.then(|| Rows::new(header));
        }
        self.header = Header::Complete(fault);
    }

    fn keep_header(&mut self, chunk: &[u8]) -> Result<(), Objection> {
        let Header::Open(line) = &mut self.header else { return Ok(()) };
        if line.len() <= HEADER_BYTES_MAX {
            line.extend_from_slice(chunk);
        }
        if line.len() > HEADER_BYTES_MAX {
            return Err(header_too_large());
        }
        Ok(())
    }
}

impl RecordScanner for Csv {
    fn feed(&mut self, chunk: &[u8], mut at: usize, cutter: &mut Cutter) -> Result<(), Objection> {
        while at < chunk.len() {
            let byte = chunk[at];
            match self.state {
                State::RecordStart => match byte {
                    b'\n' | b'\r' => at = self.end_line(chunk, at, false, cutter),
                    b'"' => {
                        self.state = State::Quoted { line: self.line, previous: 0 };
                        at += 1;
                    }
                    _ => self.state = State::Unquoted { previous: 0 },
                },
                State::Unquoted { previous } => at = self.unquoted(chunk, at, previous, cutter)?,
                State::Quoted { line, previous } => at = self.quoted(chunk, at, line, previous),
                State::QuoteInQuoted { line, previous } => match byte {
                    b'\n' | b'\r' => {
                        self.close_quote(previous);
                        at = self.end_line(chunk, at, true, cutter);
                    }
                    b'"' => {
                        if let Some(rows) = &mut self.rows {
                            rows.quoted(b"\"");
                        }
                        self.state = State::Quoted { line, previous: b'"' };
                        at += 1;
                    }
                    b',' => {
                        self.close_quote(previous);
                        // The comma is read again, as the first byte of what follows.
                        self.state = State::Unquoted { previous: 0 };
                    }
                    other => {
                        if self.is_read {
                            return Err(after_closing_quote(self.line, previous, other));
                        }
                        self.state = State::Unquoted { previous: other };
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

    fn end(&mut self, cutter: &mut Cutter) -> Result<(), Objection> {
        match self.state {
            State::Quoted { line, .. } => {
                let text = format!("the quoted field that begins at line {line} is never closed");
                return Err(ReasonCode::InvalidQuotes.because(text));
            }
            State::Unquoted { .. } | State::QuoteInQuoted { .. } => self.end_record(&[], 0, true, cutter),
            State::AfterReturn { is_record } => self.end_record(&[], 0, is_record, cutter),
            State::RecordStart => {}
        }
        if matches!(self.header, Header::Open(_)) {
            return Err(ReasonCode::HeaderMissing.because("has no header line"));
        }
        self.rows.as_ref().and_then(Rows::fault).map_or(Ok(()), Err)
    }

    /// The fault of the header, if any.
    fn header_fault(&self) -> Option<Objection> {
        match &self.header {
            Header::Complete(fault) => fault.clone(),
            Header::Open(_) => None,
        }
    }

    /// The columns and their types, after the end.
    fn columns(&self) -> Vec<Column> {
        self.rows.as_ref().map(Rows::columns).unwrap_or_default()
    }
}

impl Escape {
    fn after_record(self) -> Option<Self> {
        let records = self.records - 1;
        (records > 0).then_some(Self { records, ..self })
    }
}

fn header_too_large() -> Objection {
    ReasonCode::HeaderTooLarge.because(format!("header line is larger than {HEADER_BYTES_MAX} bytes"))
}

/// The fault after the closing quote of a field: `previous` is the byte before the quote, `after` the one after it.
fn after_closing_quote(line: u64, previous: u8, after: u8) -> Objection {
    if OTHER_SEPARATORS.contains(&after) {
        let after = char::from(after);
        let text =
            format!("line {line} has {after:?} after a quoted field: fields must be separated by commas");
        return ReasonCode::WrongSeparator.because(text);
    }
    if previous == b'\\' {
        return backslash(line);
    }
    ReasonCode::InvalidQuotes.because(format!("line {line} has text after a closing quote: {DOUBLED}"))
}

fn backslash(line: u64) -> Objection {
    ReasonCode::InvalidQuotes.because(format!("line {line} has \\\" in a quoted field: {DOUBLED}"))
}

const DOUBLED: &str = "a quote in a quoted field must be written twice, \"\"";
