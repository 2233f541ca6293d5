//! How documents are stored: as relaxed Extended JSON, which `sqlite3` can query, or as BSON if JSON would change them.

use bson::{Bson, Document, RawDocument, RawDocumentBuf};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};

/// Larger documents are stored as BSON. For JSON they are first decoded into a tree of values, which takes up to twenty
/// times their size: 16 MiB of small values would take 400 MB of memory.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A document read from the database.
#[derive(Debug)]
pub(super) struct Stored(pub(super) Document);

/// A document encoded for the database: text, or a blob.
#[derive(Debug)]
pub(super) struct Encoded(Value);

impl Encoded {
    /// Encodes a document that is too large to be decoded first; returns `None` for others.
    pub(super) fn of_large(raw: &RawDocument) -> Option<Self> {
        let bytes = raw.as_bytes();
        (bytes.len() > TEXT_BYTES_MAX).then(|| Self(Value::Blob(bytes.to_vec())))
    }

    /// `document` is the decoded `raw`.
    pub(super) fn of(raw: &RawDocument, document: Bson) -> Self {
        if document.as_document().is_some_and(|document| reads_back(raw, document)) {
            Self(Value::Text(document.into_relaxed_extjson().to_string()))
        } else {
            Self(Value::Blob(raw.as_bytes().to_vec()))
        }
    }
}

/// Returns whether the JSON reads back as the same document, except for the width of integers.
///
/// A field such as `$date` would come back as a date, and of two fields with the same name only one would.
fn reads_back(raw: &RawDocument, document: &Document) -> bool {
    is_plain(document)
        && RawDocumentBuf::try_from(document).is_ok_and(|again| again.as_bytes() == raw.as_bytes())
}

fn is_plain(document: &Document) -> bool {
    document.iter().all(|(field, value)| !field.starts_with('$') && is_plain_value(value))
}

fn is_plain_value(value: &Bson) -> bool {
    match value {
        Bson::Document(document) => is_plain(document),
        Bson::Array(values) => values.iter().all(is_plain_value),
        Bson::JavaScriptCodeWithScope(code) => is_plain(&code.scope),
        _ => true,
    }
}

impl ToSql for Encoded {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(text) => {
                let fields: serde_json::Map<_, _> =
                    serde_json::from_slice(text).map_err(FromSqlError::other)?;
                Document::try_from(fields).map(Self).map_err(FromSqlError::other)
            }
            ValueRef::Blob(bytes) => {
                // Not through serde, which takes a field such as `$date` for a date.
                let raw = RawDocument::from_bytes(bytes).map_err(FromSqlError::other)?;
                Document::try_from(raw).map(Self).map_err(FromSqlError::other)
            }
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, doc, rawdoc};

    use super::*;

    fn round_trip(raw: &RawDocument) -> (bool, Document) {
        let document = Document::try_from(raw).expect("decodable");
        let encoded = Encoded::of(raw, document.into());
        let value = ValueRef::from(&encoded.0);
        (matches!(value, ValueRef::Text(_)), Stored::column_result(value).expect("readable").0)
    }

    #[test]
    fn values_are_preserved_in_text() {
        let document = doc! {
            "_id": "ä\u{1F600}", "double": 0.1 + 0.2, "whole": 5.0, "minus": -0.0, "int": 1, "long": i64::MAX, "null": null,
            "date": DateTime::from_millis(1_357_016_399_123), "old": DateTime::from_millis(-1), "infinite": f64::INFINITY,
            "nested": { "a.b": [1, { "c": true }] }, "": "empty",
        };
        let (text, back) = round_trip(&RawDocumentBuf::try_from(&document).expect("encodable"));
        assert!(text);
        assert_eq!(back, document);
        assert!(back.get_f64("minus").is_ok_and(f64::is_sign_negative));
    }

    #[test]
    fn large_documents_are_stored_as_bson() {
        let small = rawdoc! { "_id": 1, "text": "x".repeat(1_000) };
        assert!(Encoded::of_large(&small).is_none());
        let large = rawdoc! { "_id": 1, "text": "x".repeat(TEXT_BYTES_MAX) };
        let encoded = Encoded::of_large(&large).expect("it is large");
        let back = Stored::column_result(ValueRef::from(&encoded.0)).expect("readable").0;
        assert_eq!(RawDocumentBuf::try_from(&back).expect("encodable"), large);
    }

    #[test]
    fn documents_that_json_would_change_are_stored_as_bson() {
        let raw = rawdoc! { "_id": 1, "when": { "$date": "no date" } };
        let (text, back) = round_trip(&raw);
        assert!(!text);
        assert_eq!(back, doc! { "_id": 1, "when": { "$date": "no date" } });

        let twice = rawdoc! { "_id": 1, "a": 1, "a": 2 };
        assert!(!round_trip(&twice).0);
    }
}
