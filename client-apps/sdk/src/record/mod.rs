//! Converts records to documents.
//!
//! A converter fills [`Fields`]: the elements of a BSON document, written as bytes directly, because building a tree of
//! values first costs three to five times as much. [`json`] fills it from JSON text and [`mod@column`] from values of a CSV
//! column, [`number`] and [`date`] decide what is exact, and [`Identity`](crate::identity::Identity) adds the `_id` in front.

pub mod column;
pub mod date;
mod fields;
pub mod json;
pub mod number;

pub use fields::{Element, Fields, Name};

use crate::Rejection;

/// The largest document that MongoDB stores.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest text that is parsed as one record: twice the largest document, because text is longer than BSON.
///
/// A longer record is rejected without being held in memory.
pub const RECORD_BYTES_MAX: usize = 2 * DOCUMENT_BYTES_MAX;

/// The most levels of nesting that MongoDB accepts.
pub const NESTING_MAX: usize = 100;

/// Checks that `name` can be the name of a field.
///
/// MongoDB would store most of the names that are refused here, but its queries read `a.b` as a path and `$a` as an operator,
/// so that the field could not be found again. The platform's own names are checked by [`crate::identity`].
///
/// # Errors
///
/// The reason, for the record's reject.
pub fn check_name(name: &str) -> Result<(), Rejection> {
    if name.starts_with('$') || name.contains(['.', '\0']) {
        return Err(
            format!("field name {name:?} is not allowed: expected no $ in front, no dot and no NUL").into()
        );
    }
    Ok(())
}
