//! What [`Documents::select`](crate::Documents::select) returns, and in which order; the same in both stores.
//!
//! [`path`] reads the fields of a document that a path such as `a.b` leads to.

pub(crate) mod path;

use bson::raw::RawBsonRef;
use bson::{Bson, Document, RawDocument, RawDocumentBuf};
use futures::stream::BoxStream;

#[cfg(feature = "embedded")]
use crate::key;
use crate::{CoredmsError, Order, precheck};

/// Documents as they are read. The stream holds a bounded number of them, and ends after an error.
pub type Selected = BoxStream<'static, Result<RawDocumentBuf, CoredmsError>>;

/// Which documents are selected, in which order, and what is returned of them.
///
/// Fields are named by paths: `a.b` is the field `b` of the document in `a`. A field whose own name contains a dot or begins
/// with `$` cannot be named.
///
/// A document is selected only if it has a value in `order_by` that has a position in the order: a number (but not NaN), a
/// string, a document, a binary, an ObjectId, a boolean, a date or a timestamp. Without the field, with null, or with an
/// array in the field or on the path to it, it is not. Without bounds, values of several types follow one another in
/// the order of this list; a bound selects only values of its own type, and all types of numbers are one.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Fields and their values, all of which a document must have. An array also equals each of its elements, a path leads
    /// through all documents of an array, and null also equals a missing field.
    pub filter: Document,
    /// The field by which the documents are ordered; those with equal values are ordered by `_id`.
    pub order_by: String,
    /// The least value of `order_by` that is selected.
    pub from: Option<Bson>,
    /// The value of `order_by` below which values are selected.
    pub until: Option<Bson>,
    /// The direction of both `order_by` and `_id`.
    pub order: Order,
    /// Selects only what follows this position in the order.
    pub after: Option<Position>,
    /// Returns only these fields, and always the `_id`; `None` returns all.
    pub fields: Option<Vec<String>>,
    /// The most documents to return; `None` is no limit.
    pub limit: Option<u64>,
    /// How many documents are about to be read, if it is known: a store need not send many more at a time.
    pub read_ahead: Option<u32>,
}

/// Where a document is in the order of a selection.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// The document's value in `order_by`.
    pub value: Bson,
    pub id: Bson,
}

impl Selection {
    /// Selects all documents with a value in this field, in ascending order.
    pub fn ordered_by(field: impl Into<String>) -> Self {
        Self {
            filter: Document::new(),
            order_by: field.into(),
            from: None,
            until: None,
            order: Order::Ascending,
            after: None,
            fields: None,
            limit: None,
            read_ahead: None,
        }
    }

    /// Returns why the selection is invalid, or `None` if it is valid.
    pub(crate) fn refusal(&self) -> Option<String> {
        let fields = self.fields.iter().flatten().map(String::as_str);
        let mut paths = self.filter.keys().map(String::as_str).chain([&*self.order_by]).chain(fields);
        if let Some(path) = paths.find(|path| !path::is_valid(path)) {
            return Some(format!(
                "invalid field {path:?}: expected names separated by dots, none empty or beginning with $"
            ));
        }
        let bounds = [&self.from, &self.until, &self.after.as_ref().map(|after| after.value.clone())];
        if let Some(bound) = bounds.into_iter().flatten().find(|bound| !is_ordered(bound)) {
            return Some(format!(
                "invalid bound {bound}: null, NaN, arrays and the like have no position in the order"
            ));
        }
        let after = self.after.as_ref().filter(|after| !precheck::can_identify(&after.id));
        after.map(|after| format!("invalid position: {} cannot be an _id", after.id))
    }

    /// Returns the paths of [`Selection::fields`] without those that others include, and without the `_id`.
    pub(crate) fn projected(&self) -> Option<Vec<&str>> {
        let fields = self.fields.as_ref()?;
        let mut paths: Vec<&str> = fields.iter().map(String::as_str).collect();
        // Dots first, so that a path is followed at once by those that it includes.
        paths.sort_unstable_by(|one, other| one.split('.').cmp(other.split('.')));
        let mut projected: Vec<&str> = Vec::with_capacity(paths.len());
        for path in paths {
            if !path::includes("_id", path)
                && !projected.last().is_some_and(|last| path::includes(last, path))
            {
                projected.push(path);
            }
        }
        Some(projected)
    }
}

impl Position {
    /// Returns the position of a document in a selection ordered by this field; `None` if it has no position there, or was
    /// returned without the field.
    pub fn of(document: &RawDocument, order_by: &str) -> Option<Self> {
        let mut value = RawBsonRef::Document(document);
        for name in order_by.split('.') {
            value = value.as_document()?.get(name).ok()??;
        }
        let value = Bson::try_from(value).ok().filter(is_ordered)?;
        let id = Bson::try_from(document.get("_id").ok()??).ok()?;
        Some(Self { value, id })
    }
}

/// Returns whether documents with this value in `order_by` are selected.
pub(crate) fn is_ordered(value: &Bson) -> bool {
    match value {
        Bson::Double(number) => !number.is_nan(),
        Bson::Decimal128(number) => !number.to_string().ends_with("NaN"),
        Bson::Int32(_)
        | Bson::Int64(_)
        | Bson::String(_)
        | Bson::Symbol(_)
        | Bson::Document(_)
        | Bson::Binary(_)
        | Bson::ObjectId(_)
        | Bson::Boolean(_)
        | Bson::DateTime(_)
        | Bson::Timestamp(_) => true,
        _ => false,
    }
}

/// Returns the exact key of a value.
#[cfg(feature = "embedded")]
pub(crate) fn key_of(value: &Bson) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key::encode_exact(&mut key, value);
    key
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    #[test]
    fn invalid_names_and_bounds_are_refused() {
        let valid = Selection::ordered_by("a.b");
        assert_eq!(valid.refusal(), None);
        for name in ["", ".a", "a.", "a..b", "$where", "a.$b", "a\0"] {
            assert!(Selection::ordered_by(name).refusal().is_some(), "{name:?}");
            let filtered = Selection { filter: doc! { name: 1 }, ..valid.clone() };
            assert!(filtered.refusal().is_some(), "{name:?}");
            let projected = Selection { fields: Some(vec![name.to_owned()]), ..valid.clone() };
            assert!(projected.refusal().is_some(), "{name:?}");
        }
        for bound in [Bson::Null, f64::NAN.into(), Bson::MinKey, Bson::Array(vec![])] {
            assert!(Selection { from: Some(bound.clone()), ..valid.clone() }.refusal().is_some());
            let position = Position { value: bound, id: 1.into() };
            assert!(Selection { after: Some(position), ..valid.clone() }.refusal().is_some());
        }
        let position = Position { value: 1.into(), id: Bson::Array(vec![]) };
        assert!(Selection { after: Some(position), ..valid }.refusal().is_some());
    }

    #[test]
    fn fields_that_others_include_are_not_projected_again() {
        let fields = ["b.c.d", "a", "_id.x", "b-c", "b.c", "a", "a.b", "ab"].map(str::to_owned).to_vec();
        let selection = Selection { fields: Some(fields), ..Selection::ordered_by("a") };
        assert_eq!(selection.projected(), Some(vec!["a", "ab", "b.c", "b-c"]));
        assert_eq!(Selection::ordered_by("a").projected(), None);
    }

    #[test]
    fn the_position_of_a_document_is_its_value_and_id() {
        let document = rawdoc! { "_id": 7, "a": { "b": 5_i64, "c": null } };
        assert_eq!(Position::of(&document, "a.b"), Some(Position { value: 5_i64.into(), id: 7.into() }));
        for none in ["a.c", "a.d", "b", "_id.x"] {
            assert_eq!(Position::of(&document, none), None, "{none}");
        }
    }
}
