//! The `_id` of a record, which makes it harmless to store a record twice.

use bson::RawDocumentBuf;
use bson::oid::ObjectId;
use bson::spec::ElementType;
use jiff::Timestamp;
use mysimbdp_model::ingestion::{IngestionId, RecordId};

use crate::Rejection;
use crate::record::{DOCUMENT_BYTES_MAX, Element, Fields};

/// The name of the `_id` field.
pub const ID: &str = "_id";

/// The field that decides which of two documents with the same key is newer.
pub const PROVENANCE: &str = "_ingest";

/// Keys are reported to the platform in lines of up to 64 KiB, in which no byte of a key takes more than six bytes.
const KEY_BYTES_MAX: usize = 8 << 10;

/// What the `_id` of an app's records is made of.
#[derive(Clone, Debug)]
pub enum Identity {
    /// `ids: "platform"`: the ingestion and the record number.
    Platform(IngestionId),
    /// `ids: "key"`: the named fields of the record.
    Key {
        /// Their names, at least one.
        fields: Vec<String>,
        /// Decides which of two documents with the same key is newer.
        provenance: Provenance,
    },
    /// `ids: "none"`: the record's own `_id`, or a new ObjectId if it has none.
    Own,
}

/// The origin of a document with a key id. Documents are ordered by layer, then time, then ingestion, then run, then record;
/// the greater one is newer.
#[derive(Clone, Debug)]
pub enum Provenance {
    /// From a file: it replaces documents of the speed layer.
    Batch {
        /// When the file was dropped.
        received_at: Timestamp,
        /// The ingestion, which identifies the file's content.
        ingestion: IngestionId,
        /// The time of the run, if it replaces what earlier runs of the same content stored.
        run: Option<Timestamp>,
    },
    /// From a message.
    Stream {
        /// When the message arrived.
        received_at: Timestamp,
    },
}

impl Identity {
    /// Returns the document of record number `record`: its `_id` first, then its fields.
    ///
    /// # Errors
    ///
    /// The reason why the record is rejected: it has a field `_id` or `_ingest` that the platform sets itself, a key field is
    /// missing, null or an array, or the document is over 16 MiB.
    pub fn document(&self, record: u64, fields: &Fields) -> Result<RawDocumentBuf, Rejection> {
        match self {
            Self::Platform(ingestion) => with_record_id(ingestion.record_id(record), fields),
            Self::Key { fields: names, provenance } => {
                // If the key is the record's own `_id`, the document has that field only once, in front.
                let is_own_id = names.len() == 1 && names[0] == ID;
                refuse_names(fields, if is_own_id { &[PROVENANCE] } else { &[ID, PROVENANCE] })?;
                let mut head = Fields::new();
                write_key(&mut head, names, fields)?;
                provenance.write(&mut head, record);
                finish(head, fields)
            }
            Self::Own => {
                let mut head = Fields::new();
                match fields.get(ID) {
                    Some(id) => head.copy(ID, id),
                    None => head.object_id(ID, ObjectId::new()),
                }
                finish(head, fields)
            }
        }
    }
}

/// Returns a document with a 16-byte id.
///
/// # Errors
///
/// The reason why the record is rejected: it has its own `_id`, or the document is over 16 MiB.
pub(crate) fn with_record_id(id: RecordId, fields: &Fields) -> Result<RawDocumentBuf, Rejection> {
    refuse_names(fields, &[ID])?;
    let mut head = Fields::new();
    head.binary(ID, &id.0);
    finish(head, fields)
}

/// Returns a document with a new ObjectId.
///
/// # Errors
///
/// Like [`with_record_id`]. A record must not bring its own `_id`, because a later record with the same one would be taken for
/// a repeat.
pub(crate) fn with_new_id(fields: &Fields) -> Result<RawDocumentBuf, Rejection> {
    refuse_names(fields, &[ID])?;
    Identity::Own.document(0, fields)
}

impl Provenance {
    fn write(&self, head: &mut Fields, record: u64) {
        head.begin_document(PROVENANCE);
        match self {
            Self::Batch { received_at, ingestion, run } => {
                head.string("layer", "batch");
                head.date("received_at", received_at.as_millisecond());
                head.string("ingestion", &ingestion.to_string());
                if let Some(run) = run {
                    head.date("run", run.as_millisecond());
                }
                head.int64("record", record as i64);
            }
            // A message belongs to no ingestion; the fields are set so that the two layers can be compared.
            Self::Stream { received_at } => {
                head.string("layer", "stream");
                head.date("received_at", received_at.as_millisecond());
                head.string("ingestion", "");
                head.int64("record", 0);
            }
        }
        head.end();
    }
}

/// Writes the `_id` made of the key: the value of a single field, or a document of several fields in configured order.
fn write_key(head: &mut Fields, names: &[String], fields: &Fields) -> Result<(), Rejection> {
    if let [name] = names {
        head.copy(ID, key_element(fields, name)?);
        return within_limit(head);
    }
    head.begin_document(ID);
    for name in names {
        head.copy(name, key_element(fields, name)?);
    }
    head.end();
    within_limit(head)
}

/// Checks the size of the key; `head` must hold nothing else yet.
fn within_limit(head: &Fields) -> Result<(), Rejection> {
    match head.len() {
        bytes if bytes > KEY_BYTES_MAX => {
            Err(format!("key has {bytes} bytes: the limit is {KEY_BYTES_MAX}").into())
        }
        _ => Ok(()),
    }
}

fn key_element<'f>(fields: &'f Fields, name: &str) -> Result<Element<'f>, Rejection> {
    let element = fields.get(name).ok_or_else(|| format!("key field {name:?} is missing"))?;
    match element.kind {
        ElementType::Null => Err(format!("key field {name:?} is null").into()),
        // MongoDB does not allow an array as `_id`, and queries would treat one inside a key as several values.
        ElementType::Array => Err(format!("key field {name:?} is an array").into()),
        _ => Ok(element),
    }
}

fn refuse_names(fields: &Fields, names: &[&str]) -> Result<(), Rejection> {
    match fields.iter().find(|element| names.contains(&element.name)) {
        None => Ok(()),
        Some(element) => Err(format!(
            "field {:?} is set by the platform; data with its own _id needs ids \"key\" and record_key [\"_id\"]",
            element.name
        ).into()),
    }
}

/// Returns a document of `head` and `fields`. The fields' own `_id` is left out, because `head` has it already.
fn finish(mut head: Fields, fields: &Fields) -> Result<RawDocumentBuf, Rejection> {
    if fields.get(ID).is_some() {
        fields
            .iter()
            .filter(|element| element.name != ID)
            .for_each(|element| head.copy(element.name, element));
    } else {
        head.append(fields);
    }
    let document = head.to_document();
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(
            format!("document has {} bytes: the limit is {DOCUMENT_BYTES_MAX}", document.len()).into()
        );
    }
    RawDocumentBuf::from_bytes(document).map_err(|error| error.to_string().into())
}

#[cfg(test)]
mod tests {
    use bson::{Bson, Document, doc};

    use super::*;
    use crate::record::json;

    fn ingestion() -> IngestionId {
        "000102030405060708090a0b0c0d0e0f".parse().expect("32 digits")
    }

    fn document(identity: &Identity, record: u64, text: &str) -> Result<Document, Rejection> {
        let mut fields = Fields::new();
        json::append_object(&mut fields, text.as_bytes())?;
        let raw = identity.document(record, &fields)?;
        Ok(bson::deserialize_from_slice(raw.as_bytes()).expect("valid BSON"))
    }

    fn keyed(names: &[&str]) -> Identity {
        let received_at = "2026-11-21T03:22:11Z".parse().expect("a time");
        Identity::Key {
            fields: names.iter().map(|&name| name.to_owned()).collect(),
            provenance: Provenance::Batch { received_at, ingestion: ingestion(), run: None },
        }
    }

    #[test]
    fn platform_ids_are_made_of_ingestion_and_record_number_and_come_first() {
        let document = document(&Identity::Platform(ingestion()), 258, r#"{"a":1}"#).expect("document");
        let id = vec![0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 1, 2];
        let id = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: id };
        assert_eq!(document.iter().next(), Some((&"_id".to_owned(), &Bson::Binary(id))));
        assert_eq!(document.get("a"), Some(&Bson::Int32(1)));
    }

    #[test]
    fn a_key_is_a_single_field_or_a_document_of_several_in_configured_order() {
        let one = document(&keyed(&["b"]), 7, r#"{"a":1,"b":"x"}"#).expect("document");
        let provenance = doc! {
            "layer": "batch", "received_at": bson::DateTime::from_millis(1_795_231_331_000),
            "ingestion": ingestion().to_string(), "record": 7_i64,
        };
        assert_eq!(one, doc! { "_id": "x", "_ingest": provenance, "a": 1, "b": "x" });
        let two = document(&keyed(&["b", "a"]), 7, r#"{"a":1,"b":"x"}"#).expect("document");
        let names: Vec<&String> = two.get_document("_id").expect("a document").keys().collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn data_with_its_own_id_keeps_it_if_the_id_is_the_key() {
        let own = document(&keyed(&["_id"]), 0, r#"{"a":1,"_id":5}"#).expect("document");
        assert_eq!((own.get("_id"), own.len()), (Some(&Bson::Int32(5)), 3));
        let none = document(&Identity::Own, 0, r#"{"a":1,"_id":5}"#).expect("document");
        assert_eq!(none, doc! { "_id": 5, "a": 1 });
        let new = document(&Identity::Own, 0, r#"{"a":1}"#).expect("document");
        assert!(new.get_object_id("_id").is_ok());
    }

    #[test]
    fn records_without_a_usable_key_or_with_fields_of_the_platform_are_rejected() {
        for (identity, text, reason) in [
            (keyed(&["k"]), r#"{"a":1}"#, "\"k\" is missing"),
            (keyed(&["a", "k"]), r#"{"a":1,"k":null}"#, "\"k\" is null"),
            (keyed(&["k"]), r#"{"k":[1]}"#, "\"k\" is an array"),
            (keyed(&["k"]), &format!(r#"{{"k":"{}"}}"#, "x".repeat(9_000)), "the limit is 8192"),
            (keyed(&["a", "k"]), &format!(r#"{{"k":1,"a":"{}"}}"#, "x".repeat(9_000)), "the limit is 8192"),
            (keyed(&["k"]), r#"{"k":1,"_id":2}"#, "\"_id\" is set by the platform"),
            (keyed(&["k"]), r#"{"k":1,"_ingest":2}"#, "\"_ingest\" is set by the platform"),
            (Identity::Platform(ingestion()), r#"{"_id":2}"#, "\"_id\" is set by the platform"),
        ] {
            let error = document(&identity, 0, text).expect_err("rejected");
            assert!(error.to_string().contains(reason), "{error:?} does not say {reason:?}");
        }
        let mut fields = Fields::new();
        json::append_object(&mut fields, b"{\"_id\":2}").expect("an object");
        assert!(
            with_new_id(&fields)
                .is_err_and(|error| error.to_string().contains("\"_id\" is set by the platform"))
        );
    }

    #[test]
    fn a_document_over_16_mib_is_rejected() {
        let mut fields = Fields::new();
        fields.string("a", &"x".repeat(DOCUMENT_BYTES_MAX));
        let error = Identity::Platform(ingestion()).document(0, &fields).expect_err("rejected");
        assert!(error.to_string().contains("the limit is 16777216"), "{error}");
    }
}
