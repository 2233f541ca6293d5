//! Refuses documents that no store accepts, before anything is sent: one of them would fail a whole message.

use bson::raw::RawBsonRef;
use bson::spec::ElementType;
use bson::{Bson, RawDocument, RawDocumentBuf, doc};

/// MongoDB's limit for a document.
pub(super) const DOCUMENT_BYTES_MAX: usize = 16 << 20;

/// MongoDB's limit for nested documents, including the outermost one.
const DEPTH_MAX: usize = 100;

/// Returns why a document cannot be stored, or `None` if it can.
pub(super) fn refusal(document: &RawDocument) -> Option<String> {
    let bytes = document.as_bytes().len();
    if bytes > DOCUMENT_BYTES_MAX {
        return Some(format!("document has {bytes} bytes: the limit is {DOCUMENT_BYTES_MAX}"));
    }
    refusal_of_id(document)
        .or_else(|| if is_flat(document.as_bytes()) { None } else { refusal_of_depth(document, DEPTH_MAX) })
}

/// Returns whether nothing in the document is nested, as in most documents; false if that cannot be determined quickly.
/// Decoding all fields just for this would cost more than reading them from a CSV row did.
fn is_flat(document: &[u8]) -> bool {
    let mut remaining = document.get(4..).unwrap_or_default();
    while let Some((&kind, element)) = remaining.split_first() {
        if kind == 0 {
            return element.is_empty();
        }
        let Some(name) = element.iter().position(|byte| *byte == 0) else { return false };
        let value = &element[name + 1..];
        let length = || value.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let bytes = match ElementType::from(kind) {
            Some(ElementType::Null | ElementType::MinKey | ElementType::MaxKey) => Some(0),
            Some(ElementType::Boolean) => Some(1),
            Some(ElementType::Int32) => Some(4),
            Some(
                ElementType::Int64 | ElementType::Double | ElementType::DateTime | ElementType::Timestamp,
            ) => Some(8),
            Some(ElementType::ObjectId) => Some(12),
            Some(ElementType::Decimal128) => Some(16),
            Some(ElementType::String) => length().map(|length| length.saturating_add(4)),
            Some(ElementType::Binary) => length().map(|length| length.saturating_add(5)),
            _ => None,
        };
        match bytes.and_then(|bytes| value.get(bytes..)) {
            Some(following) => remaining = following,
            None => return false,
        }
    }
    false
}

/// Returns whether a document can have this `_id`.
pub(super) fn can_identify(id: &Bson) -> bool {
    RawDocumentBuf::try_from(&doc! { "_id": id }).is_ok_and(|document| refusal(&document).is_none())
}

fn refusal_of_id(document: &RawDocument) -> Option<String> {
    match document.iter().next() {
        Some(Ok((key, value))) if key == "_id" => match value {
            RawBsonRef::Array(_) | RawBsonRef::RegularExpression(_) | RawBsonRef::Undefined => Some(
                "the _id is an array, a regular expression or undefined, which MongoDB does not allow"
                    .to_owned(),
            ),
            RawBsonRef::Document(id) => id.iter_elements().find_map(|element| match element {
                Ok(element) if element.key().as_str().starts_with('$') => Some(format!(
                    "the _id has the field {:?}: its fields cannot begin with $",
                    element.key().as_str()
                )),
                Ok(_) => None,
                Err(error) => Some(malformed(&error)),
            }),
            _ => None,
        },
        Some(Ok((key, _))) => Some(format!("the first field is {:?}, expected the _id", key.as_str())),
        Some(Err(error)) => Some(malformed(&error)),
        None => Some("the document is empty, it must have an _id".to_owned()),
    }
}

fn refusal_of_depth(document: &RawDocument, levels: usize) -> Option<String> {
    if levels == 0 {
        return Some(format!("documents are nested more than {DEPTH_MAX} levels deep"));
    }
    document.iter_elements().find_map(|element| {
        let element = match element {
            Ok(element) => element,
            Err(error) => return Some(malformed(&error)),
        };
        if !matches!(element.element_type(), ElementType::EmbeddedDocument | ElementType::Array) {
            return None;
        }
        match element.value() {
            Ok(RawBsonRef::Document(inner)) => refusal_of_depth(inner, levels - 1),
            Ok(RawBsonRef::Array(inner)) => match RawDocument::from_bytes(inner.as_bytes()) {
                Ok(inner) => refusal_of_depth(inner, levels - 1),
                Err(error) => Some(malformed(&error)),
            },
            Ok(_) => None,
            Err(error) => Some(malformed(&error)),
        }
    })
}

pub(super) fn malformed(error: &bson::error::Error) -> String {
    format!("the document is not valid BSON: {error}")
}

#[cfg(test)]
mod tests {
    use bson::Document;
    use bson::raw::cstr;

    use super::*;

    fn refused(document: &Document) -> Option<String> {
        refusal(&RawDocumentBuf::try_from(document).expect("encodable"))
    }

    #[test]
    fn the_id_comes_first_and_is_of_an_allowed_type() {
        for good in [doc! { "_id": 1, "a": [] }, doc! { "_id": { "a": 1 } }, doc! { "_id": null }] {
            assert_eq!(refused(&good), None, "{good}");
        }
        let expression = bson::Regex { pattern: cstr!("a").into(), options: cstr!("").into() };
        for bad in [
            doc! {},
            doc! { "a": 1, "_id": 1 },
            doc! { "_id": [1] },
            doc! { "_id": expression },
            doc! { "_id": { "$a": 1 } },
        ] {
            assert!(refused(&bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn flat_documents_are_distinguished_from_nested_ones() {
        let flat = doc! {
            "_id": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![3; 16] }, "text": "\u{3}\u{4}\0", "no": "",
            "null": null, "yes": true, "small": 3_i32, "large": 4_i64, "double": 0.1, "date": bson::DateTime::MIN,
            "oid": bson::oid::ObjectId::new(), "min": Bson::MinKey, "max": Bson::MaxKey,
            "time": bson::Timestamp { time: 3, increment: 4 }, "decimal": bson::Decimal128::from_bytes([4; 16]),
        };
        let bytes = |document: &Document| RawDocumentBuf::try_from(document).expect("encodable").into_bytes();
        assert!(is_flat(&bytes(&flat)) && is_flat(&bytes(&doc! {})));
        for nested in [doc! { "a": {} }, doc! { "a": 1, "b": [] }, doc! { "a": "x", "b": { "c": 1 } }] {
            assert!(!is_flat(&bytes(&nested)), "{nested}");
        }
        let whole = bytes(&flat);
        for end in 0..whole.len() {
            assert!(!is_flat(&whole[..end]), "cut at {end}");
        }
    }

    #[test]
    fn the_limits_of_nesting_and_size_are_those_of_mongodb() {
        let nested = |levels: usize| {
            // The innermost level is the document {x: 1}; arrays count as levels too.
            let inner = (0..levels - 2).fold(Bson::Document(doc! { "x": 1 }), |inner, level| {
                if level % 2 == 0 { Bson::Array(vec![inner]) } else { Bson::Document(doc! { "d": inner }) }
            });
            doc! { "_id": 1, "d": inner }
        };
        assert_eq!(refused(&nested(DEPTH_MAX)), None);
        assert!(refused(&nested(DEPTH_MAX + 1)).is_some());

        let sized = |bytes: usize| {
            let empty = doc! { "_id": 1, "x": "" };
            let fixed = RawDocumentBuf::try_from(&empty).expect("encodable").as_bytes().len();
            doc! { "_id": 1, "x": "x".repeat(bytes - fixed) }
        };
        assert_eq!(refused(&sized(DOCUMENT_BYTES_MAX)), None);
        assert!(refused(&sized(DOCUMENT_BYTES_MAX + 1)).is_some());
    }
}
