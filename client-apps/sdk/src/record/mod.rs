//! One record on its way into a document.
//!
//! [`Fields`] is what a converter fills: the elements of a BSON document, written as bytes at once, because building a
//! tree of values first costs three to five times as much. [`json`] fills it from JSON text, [`mod@column`] from a value of a CSV
//! column, [`number`] and [`date`] decide what is exact, and [`Identity`](crate::identity::Identity) puts the `_id` in front.

pub mod column;
pub mod date;
mod fields;
pub mod json;
pub mod number;

pub use fields::{Element, Fields, Name};

/// The largest document that MongoDB stores.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest text that is looked at as one record: twice the largest document, as text is longer than BSON.
///
/// A longer one is rejected without being held in memory.
pub const RECORD_BYTES_MAX: usize = 2 * DOCUMENT_BYTES_MAX;

/// MongoDB refuses documents that are nested deeper.
pub const NESTING_MAX: usize = 100;

/// Whether `name` can be a field's name, and if not, why.
///
/// MongoDB would store most of these, but its queries read `a.b` as a path and `$a` as an operator: such a field could
/// not be found again. The platform's own names are not for records either.
///
/// # Errors
///
/// The reason, for the record's reject.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with('$') || name.contains(['.', '\0']) {
        return Err(format!("field name {name:?} is not allowed: no $ in front, no dot, no NUL"));
    }
    Ok(())
}
