//! Finds the micro-batches of a file in one pass, whatever its size, in bounded memory.
//!
//! 1. [`read_ahead`] reads and hashes the content, and looks for NUL, on a thread of its own;
//! 2. [`text`] looks for bytes that are not text in the client's encoding;
//! 3. [`csv`], [`ndjson`] and [`json_array`] follow the format, find the ends of records, and check whether the file
//!    is what it claims;
//! 4. for CSV, [`header`] and [`rows`] inspect the names and the fields, [`number`] recognizes values (the long ones
//!    with a [`value_cache`]), and [`column`] decides the type of each column;
//! 5. [`cutter`] turns ends of records into ranges of at most a block and their checksums.
//!
//! None of them keeps a record: a line of a gigabyte costs no more memory than a short one.

mod binary;
mod column;
mod csv;
mod cutter;
mod header;
mod json_array;
mod ndjson;
mod number;
mod read_ahead;
mod rows;
mod scanner;
mod text;
mod value_cache;

#[cfg(test)]
mod mislabelled;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Seek};
use std::ops::ControlFlow;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::column::Column;
use mysimbdp_model::encoding::Encoding;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::{Format, Prefix};
use mysimbdp_model::reason::{self, Objection, ReasonCode};
use mysimbdp_store::CHUNK_BYTES;

use cutter::Cutter;
use scanner::RecordScanner;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// At a mebibyte the cost of the system call does not matter, and the data stays within the second-level cache of
/// small machines.
const READ_BYTES: usize = 1 << 20;

/// Part files have names of five digits. Ranges are filled greedily, so any two neighbours are together larger than a
/// block. If a file has at most this many blocks, it has at most 99,999 ranges.
const BLOCKS_MAX: u64 = 49_999;

/// What decides how a file is split, and whether it is what it claims to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SplitRules<'a> {
    pub(crate) client: &'a ClientId,
    pub(crate) format: Format,
    pub(crate) encoding: Encoding,
    /// `None`: the whole file is one micro-batch.
    pub(crate) block_bytes_max: Option<u64>,
    /// The columns that a CSV file must have.
    pub(crate) header: Option<&'a [String]>,
    /// Whether the app reads the records. One that keeps files as they are may keep what no reader would understand.
    pub(crate) is_read: bool,
    /// Of the whole file.
    pub(crate) bytes: u64,
}

impl SplitRules<'_> {
    fn is_text(&self) -> bool {
        self.format != Format::Binary
    }
}

/// A file's micro-batches: `prefix` and the ranges cover it exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) prefix: Prefix,
    /// At least one; a file without records has one range without records.
    pub(crate) ranges: Vec<MicroBatchRange>,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    /// For a CSV file in which an app reads records.
    pub(crate) columns: Vec<Column>,
    /// Of the content, hexadecimal.
    pub(crate) blake3: String,
    pub(crate) ingestion: IngestionId,
}

/// The range of one micro-batch: it begins and ends on a record boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MicroBatchRange {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) first_record: u64,
    pub(crate) records: u64,
    pub(crate) xxh3: u64,
}

/// Why there is no [`Split`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum SplitError {
    #[error("cannot read the content")]
    Read(#[source] io::Error),
    /// The content breaks rules: all faults that were found.
    #[error("content breaks rules: {}", reason::joined(.0))]
    Content(Vec<Objection>),
}

/// Splits the content of `reader`, to its end.
///
/// A CSV file with a header and no row has no record, and neither has `[]`: each is one micro-batch without records,
/// so that it is ingested like any other. A file without any bytes is refused.
///
/// # Errors
///
/// [`SplitError::Content`] if it is not text in its encoding, or not of its format as a whole. Whether each single
/// record is valid is for the app to inspect.
pub(crate) fn split(reader: impl Read + Seek + Send, rules: &SplitRules) -> Result<Split, SplitError> {
    split_by(reader, rules, READ_BYTES)
}

/// `read_bytes` is how much is inspected at a time. It does not change the result, except that a NUL is reported before
/// any other text fault in the same read.
fn split_by(
    mut reader: impl Read + Seek + Send,
    rules: &SplitRules,
    read_bytes: usize,
) -> Result<Split, SplitError> {
    // The byte order mark must be in the first read.
    let chunk_bytes = read_bytes.max(BYTE_ORDER_MARK.len());
    let whole = usize::try_from(rules.bytes).unwrap_or(usize::MAX).saturating_add(1);
    let first_bytes = whole.clamp(BYTE_ORDER_MARK.len(), chunk_bytes);
    let mut pass = Pass::new(rules);
    let nul = |chunk: &[u8]| if rules.is_text() { text::nul(chunk) } else { None };
    let content =
        read_ahead::read(&mut reader, first_bytes, chunk_bytes, nul, |chunk, nul| pass.feed(chunk, nul))
            .map_err(SplitError::Read)?;
    let Passed { cutter, columns, text_fault, mut reasons } = pass.end();
    if let Some(fault) = text_fault {
        reader.rewind().map_err(SplitError::Read)?;
        reasons.insert(0, fault.describe(reader).map_err(SplitError::Read)?);
    }
    if !reasons.is_empty() {
        return Err(SplitError::Content(reasons));
    }
    let cut = cutter.finish();
    Ok(Split {
        prefix: Prefix { offset: 0, length: cut.prefix },
        bytes: cut.bytes,
        records: cut.records,
        ranges: cut.ranges,
        columns,
        blake3: content.to_string(),
        ingestion: IngestionId::new(rules.client, &content),
    })
}

/// The largest block up to this one that ends where a GridFS chunk does: what is verified as one micro-batch is then
/// uploaded as one range.
fn whole_chunks(block: u64) -> u64 {
    let chunk = u64::from(CHUNK_BYTES);
    if block < chunk { block } else { block - block % chunk }
}

/// What is known of the content so far. Text and structure are inspected separately, each up to its first fault.
struct Pass {
    text: Option<text::Text>,
    records: Box<dyn RecordScanner>,
    cutter: Cutter,
    text_fault: Option<text::Fault>,
    structure_fault: Option<Objection>,
}

/// The scanner for a file of these rules.
fn scanner(rules: &SplitRules) -> Box<dyn RecordScanner> {
    match rules.format {
        Format::Csv => Box::new(csv::Csv::new(rules.header, rules.encoding, rules.is_read)),
        Format::Ndjson => Box::new(ndjson::Ndjson::new(rules.is_read)),
        Format::Json => Box::new(json_array::JsonArray::new()),
        Format::Binary => Box::new(binary::Binary),
    }
}

/// The result of a pass: the ranges, the columns, and all faults.
struct Passed {
    cutter: Cutter,
    columns: Vec<Column>,
    text_fault: Option<text::Fault>,
    reasons: Vec<Objection>,
}

impl Pass {
    fn new(rules: &SplitRules) -> Self {
        let block = rules
            .block_bytes_max
            .map_or(u64::MAX, |block| block.max(rules.bytes.div_ceil(BLOCKS_MAX)).max(1));
        let block = if rules.is_text() { block } else { whole_chunks(block) };
        let records = scanner(rules);
        let text = rules.is_text().then(|| text::Text::new(rules.encoding));
        Self { text, records, cutter: Cutter::new(block), text_fault: None, structure_fault: None }
    }

    /// Breaks if nothing more can be learnt.
    fn feed(&mut self, chunk: &[u8], nul: Option<usize>) -> ControlFlow<()> {
        let first = self.cutter.chunk_start() == 0;
        if let Some(text) = &mut self.text
            && self.text_fault.is_none()
        {
            if first && text.is_utf8() && UTF16_MARKS.iter().any(|mark| chunk.starts_with(mark)) {
                self.text_fault = Some(text::Fault::Utf16);
                // All other faults would follow from this one.
                return ControlFlow::Break(());
            }
            self.text_fault = text.feed(chunk, nul).err();
        }
        if self.structure_fault.is_none() {
            // In another encoding the same bytes are text, and the app reads them as such.
            let is_utf8 = self.text.as_ref().is_some_and(text::Text::is_utf8);
            let has_mark = first && is_utf8 && chunk.starts_with(BYTE_ORDER_MARK);
            let at = if has_mark { BYTE_ORDER_MARK.len() } else { 0 };
            self.structure_fault = self.records.feed(chunk, at, &mut self.cutter).err();
        }
        self.cutter.end_chunk(chunk);
        let done = self.structure_fault.is_some() && (self.text.is_none() || self.text_fault.is_some());
        if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn end(mut self) -> Passed {
        if self.cutter.chunk_start() == 0 && self.text_fault.is_none() {
            let (columns, reasons) = (Vec::new(), vec![ReasonCode::Empty.because("is empty")]);
            return Passed { cutter: self.cutter, columns, text_fault: None, reasons };
        }
        if let Some(text) = &self.text
            && self.text_fault.is_none()
        {
            self.text_fault = text.end().err();
        }
        if self.structure_fault.is_none() && self.text_fault.is_none() {
            self.structure_fault = self.records.end(&mut self.cutter).err();
        }
        let (columns, header_fault) = (self.records.columns(), self.records.header_fault());
        let reasons = [header_fault, self.structure_fault].into_iter().flatten().collect();
        Passed { cutter: self.cutter, columns, text_fault: self.text_fault, reasons }
    }
}
