//! The bytes of rejected input: in the reject's own document, or in a separate object if no document can hold them.
//!
//! Both are in the client's database: the documents in a collection, the objects in the bucket of the same name. An object
//! is committed before the document that names it is written, so whoever finds the document finds the object.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document};
use bytes::Bytes;
use mysimbdp_model::ingestion::IngestionId;

use crate::objects::object_id;
use crate::{CHUNK_BYTES, Coredms, CoredmsError, Object};

/// The most bytes that are stored in the document: MongoDB allows 16 MiB, and topic, file name and reason fit in the
/// difference.
pub const INLINE_BYTES_MAX: u64 = 15 << 20;

/// How many bytes of an object are held in memory and stored at a time.
const PIECE_BYTES: u64 = 16 * CHUNK_BYTES as u64;

/// Returns the id of the object for the bytes that `identity` identifies: a record's id, or the content itself.
///
/// It is a hash because the ids of GridFS chunks begin with the first half of the object's id, and that half is the same
/// in all record ids of a file.
pub fn object_id_for(identity: &[u8]) -> IngestionId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(identity).as_bytes()[..16]);
    IngestionId::of_object(id)
}

/// Where the bytes of a reject are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum RejectedBytes {
    Inline(Vec<u8>),
    Object(IngestionId),
    /// Written by a version that did not keep them.
    NotKept,
}

impl RejectedBytes {
    /// Adds to a reject's document where its bytes are, in the fields `name`, `<name>_bytes` and `<name>_object`.
    pub fn describe(self, document: &mut Document, name: &str, bytes: u64) {
        document.insert(format!("{name}_bytes"), i64::try_from(bytes).unwrap_or(i64::MAX));
        match self {
            Self::Inline(bytes) => drop(document.insert(name, text_or_binary(bytes))),
            Self::Object(id) => drop(document.insert(format!("{name}_object"), object_id(id))),
            Self::NotKept => {}
        }
    }

    /// Reads from a reject's document what [`RejectedBytes::describe`] wrote.
    pub fn of(document: &Document, name: &str) -> Self {
        if let Ok(id) = document.get_binary_generic(format!("{name}_object"))
            && let Ok(id) = id.as_slice().try_into()
        {
            return Self::Object(IngestionId::of_object(id));
        }
        match document.get(name) {
            Some(Bson::String(text)) => Self::Inline(text.clone().into_bytes()),
            Some(Bson::Binary(binary)) => Self::Inline(binary.bytes.clone()),
            _ => Self::NotKept,
        }
    }
}

/// Stores an object. `piece` returns its bytes for an offset and a length. May be repeated.
///
/// # Errors
///
/// Those of the store, and of `piece`.
pub async fn put_object<B: Into<Bytes>, E: From<CoredmsError>, F: Future<Output = Result<B, E>>>(
    store: &dyn Coredms,
    bucket: &str,
    object: &Object,
    mut piece: impl FnMut(u64, u64) -> F,
) -> Result<(), E> {
    let mut offset = 0;
    while offset < object.bytes {
        let length = PIECE_BYTES.min(object.bytes - offset);
        store.put_chunks(bucket, object.id, offset, piece(offset, length).await?.into()).await?;
        offset += length;
    }
    store.commit_object(bucket, object).await?;
    Ok(())
}

/// Returns the bytes as text if they are UTF-8, so that people can read them.
fn text_or_binary(bytes: Vec<u8>) -> Bson {
    match String::from_utf8(bytes) {
        Ok(text) => Bson::String(text),
        Err(error) => Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: error.into_bytes() }),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn described_bytes_are_found_again_wherever_they_are() {
        let id = IngestionId::of_object([7; 16]);
        for kept in [
            RejectedBytes::Inline(b"a;b\0".to_vec()),
            RejectedBytes::Inline(b"\xff\xfe".to_vec()),
            RejectedBytes::Inline(Vec::new()),
            RejectedBytes::Object(id),
            RejectedBytes::NotKept,
        ] {
            let mut document = doc! { "reason": "x" };
            kept.clone().describe(&mut document, "content", 5);
            assert_eq!(RejectedBytes::of(&document, "content"), kept);
            assert_eq!(document.get_i64("content_bytes").expect("a number"), 5);
        }
        let halves = [0, 1].map(|record| object_id_for(&id.record_id(record).0).as_bytes()[..8].to_vec());
        assert_ne!(halves[0], halves[1], "their chunks would be the same");
        assert_eq!(
            RejectedBytes::of(&doc! { "payload": "old" }, "payload"),
            RejectedBytes::Inline(b"old".to_vec())
        );
    }
}
