//! What a format has to tell: where its records end, and whether the file is what it claims to be.

use mysimbdp_model::column::Column;
use mysimbdp_model::reason::Objection;

use super::cutter::Cutter;

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
