//! The rows of a CSV file: the types of their columns, and whether they fit the header.

use memchr::{memchr, memchr_iter};
use mysimbdp_model::column::{Column, ColumnValues};
use mysimbdp_model::reason::{Objection, ReasonCode};

use super::column::{self, ColumnScan};
use super::header::{HeaderLine, Separator};
use super::number::NUMBER_BYTES_MAX;
use super::value_cache::ValueCache;

/// If this many of ten rows have the other separator as often as the header, it separates the fields. Not all need to:
/// some files have a few bad lines.
const ALIKE_OF_TEN: u64 = 9;
/// At least this many rows, none of which fits the header, show that it is not the header. A single row that does not
/// fit is rejected like any other.
const MISFITS_MIN: u64 = 2;

/// Gets each field, piece by piece as they come.
pub(super) struct Rows {
    header: HeaderLine,
    columns: Vec<ColumnScan>,
    cache: ValueCache,
    /// Position in the row.
    field: usize,
    /// The beginning of the unfinished field: as many bytes as a number may have, and one more.
    begun: Vec<u8>,
    /// Whether it is quoted and not empty.
    is_quoted: bool,
    /// Whether the row is a comment, like the supposed header, which then is a comment too.
    is_comment: bool,
    /// Other separators in this row.
    separators: u64,
    /// Without comments.
    rows: u64,
    /// Rows that have as many fields as the header.
    fitting: u64,
    /// Rows that have as many other separators as the header.
    separated: u64,
}

impl Rows {
    pub(super) fn new(header: HeaderLine) -> Self {
        let columns =
            header.names.iter().take(ColumnValues::COLUMNS_MAX).map(|_| ColumnScan::default()).collect();
        Self {
            header,
            columns,
            cache: ValueCache::new(),
            field: 0,
            begun: Vec::with_capacity(NUMBER_BYTES_MAX + 1),
            is_quoted: false,
            is_comment: false,
            separators: 0,
            rows: 0,
            fitting: 0,
            separated: 0,
        }
    }

    /// Text outside quotes, with the commas in it.
    pub(super) fn unquoted(&mut self, piece: &[u8]) {
        if self.header.is_comment && self.field == 0 && self.begun.is_empty() && !self.is_quoted {
            self.is_comment = piece.starts_with(b"#");
        }
        if let Some(Separator { byte, .. }) = self.header.separator {
            self.separators += memchr_iter(byte, piece).count() as u64;
        }
        let mut start = 0;
        if !self.begun.is_empty() || self.is_quoted {
            let Some(comma) = memchr(b',', piece) else { return self.begin(piece) };
            self.end_field(&piece[..comma]);
            start = comma + 1;
        }
        start += self.whole_fields(&piece[start..]);
        self.begin(&piece[start..]);
    }

    /// Text within quotes.
    pub(super) fn quoted(&mut self, piece: &[u8]) {
        self.is_quoted |= !piece.is_empty();
    }

    pub(super) fn end_row(&mut self) {
        self.end_field(&[]);
        if !self.is_comment {
            self.rows += 1;
            self.fitting += u64::from(self.field == self.header.names.len());
            self.separated += u64::from(self.header.separator.is_some_and(|it| it.count == self.separators));
        }
        (self.field, self.separators, self.is_comment) = (0, 0, false);
    }

    /// The columns and their types. Rows that an app will reject count too: their values are not known to be wrong.
    pub(super) fn columns(&self) -> Vec<Column> {
        let column =
            |(name, scan): (&String, &ColumnScan)| Column { name: name.clone(), values: scan.values() };
        self.header.names.iter().zip(&self.columns).map(column).collect()
    }

    /// Why the file is not what it claims to be, after its last row.
    pub(super) fn fault(&self) -> Option<Objection> {
        if let Some(Separator { byte, .. }) = self.header.separator
            && self.rows > 0
            && self.separated * 10 >= self.rows * ALIKE_OF_TEN
        {
            let byte = char::from(byte);
            return Some(ReasonCode::WrongSeparator.because(format!(
                "has one column, and {byte:?} in its lines as often as in the header: fields must be separated by commas"
            )));
        }
        if self.rows >= MISFITS_MIN && self.fitting == 0 {
            let (rows, fields, header) = (self.rows, self.header.names.len(), self.header.shown());
            return Some(ReasonCode::HeaderNotFirst.because(format!(
                "none of {rows} rows has as many fields ({fields}) as the header {header}: \
                 what comes before the header, such as comments or a title, must be removed"
            )));
        }
        None
    }

    /// Fields that end with a comma; returns the position after the last one.
    fn whole_fields(&mut self, line: &[u8]) -> usize {
        let mut start = 0;
        while start < line.len() {
            let columns = self.columns.get_mut(self.field..).unwrap_or_default();
            let (fields, bytes) = column::known(columns, &line[start..]);
            self.field += fields;
            start += bytes;
            let rest = &line[start..];
            let Some(length) = memchr(b',', rest) else { break };
            if let Some(column) = columns.get_mut(fields) {
                column.value(&rest[..length], &mut self.cache);
            }
            self.field += 1;
            start += length + 1;
        }
        start
    }

    /// Ends a field that may have begun in an earlier piece.
    fn end_field(&mut self, rest: &[u8]) {
        if !self.is_quoted {
            self.begin(rest);
        }
        if let Some(column) = self.columns.get_mut(self.field) {
            if self.is_quoted {
                column.quoted();
            } else {
                column.value(&self.begun, &mut self.cache);
            }
        }
        self.field += 1;
        self.begun.clear();
        self.is_quoted = false;
    }

    fn begin(&mut self, piece: &[u8]) {
        let capacity = (NUMBER_BYTES_MAX + 1).saturating_sub(self.begun.len());
        self.begun.extend_from_slice(&piece[..piece.len().min(capacity)]);
    }
}
