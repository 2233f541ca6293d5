//! What a format has to tell: where its records end, and whether the file is what it claims to be.

use mysimbdp_model::column::Column;
use mysimbdp_model::manifest::Format;
use mysimbdp_model::reason::Objection;

use super::cutter::Cutter;
use super::{Rules, csv, json_array, ndjson};

/// Follows the content of one format, chunk by chunk, and reports each end of a record to the cutter.
pub(super) trait RecordScanner: Send {
    /// Scans `chunk` from position `at`.
    ///
    /// # Errors
    ///
    /// The content is not of this format; nothing more is fed then.
    fn feed(&mut self, chunk: &[u8], at: usize, cutter: &mut Cutter) -> Result<(), Objection>;

    /// Ends the last record.
    ///
    /// # Errors
    ///
    /// The content is not whole.
    fn end(&mut self, cutter: &mut Cutter) -> Result<(), Objection>;

    /// What is wrong with the header, after the end, or after a fault.
    fn header_fault(&self) -> Option<Objection> {
        None
    }

    /// The columns and their types, after the end.
    fn columns(&self) -> Vec<Column> {
        Vec::new()
    }
}

/// The scanner for a file of these rules.
pub(super) fn scanner(rules: &Rules) -> Box<dyn RecordScanner> {
    match rules.format {
        Format::Csv => Box::new(csv::Csv::new(rules.header, rules.encoding, rules.is_read)),
        Format::Ndjson => Box::new(ndjson::Ndjson::new(rules.is_read)),
        Format::Json => Box::new(json_array::JsonArray::new()),
        Format::Binary => Box::new(Binary),
    }
}

/// Has no boundaries but those of the blocks.
struct Binary;

impl RecordScanner for Binary {
    fn feed(&mut self, chunk: &[u8], _: usize, cutter: &mut Cutter) -> Result<(), Objection> {
        cutter.cut_blocks(chunk);
        Ok(())
    }

    fn end(&mut self, cutter: &mut Cutter) -> Result<(), Objection> {
        cutter.end_blocks();
        Ok(())
    }
}
