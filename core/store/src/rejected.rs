//! The bytes of what was rejected: in the reject's own document, or in an object beside it if no document could take them.
//!
//! Both are in the client's database: the documents in a collection, the objects in the bucket of the same name. An object
//! is committed before the document that names it is written, so whoever finds the one finds the other.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document};
use bytes::Bytes;
use mysimbdp_model::ingestion::IngestionId;

use super::{CHUNK_BYTES, Coredms, CoredmsError, Object, object_id};

/// Bytes that go into the document: what MongoDB allows is 16 MiB, and topic, file name and reason take less than the rest.
pub const INLINE_BYTES_MAX: u64 = 15 << 20;

/// Bytes of an object that are stored, and held in memory, at a time.
const PIECE_BYTES: u64 = 16 * CHUNK_BYTES as u64;

/// The id of an object that holds what is named by these bytes: a record's id, or the content itself.
///
/// It is a hash, as the ids of GridFS' chunks begin with the first half of the object's, and that is the same for all
/// records of a file.
pub fn object_for(named: &[u8]) -> IngestionId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(named).as_bytes()[..16]);
    IngestionId::of_object(id)
}

/// Where the bytes of a reject are.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    Here(Vec<u8>),
    Beside(IngestionId),
    /// Listed by a version that did not keep them.
    Nowhere,
}

impl Kept {
    /// Adds to a reject's document where its bytes are, as the fields `name`, `<name>_bytes` and `<name>_object`.
    pub fn describe(self, document: &mut Document, name: &str, bytes: u64) {
        document.insert(format!("{name}_bytes"), i64::try_from(bytes).unwrap_or(i64::MAX));
        match self {
            Self::Here(bytes) => drop(document.insert(name, text_or_binary(bytes))),
            Self::Beside(id) => drop(document.insert(format!("{name}_object"), object_id(id))),
            Self::Nowhere => {}
        }
    }

    /// Reads from a reject's document what [`Kept::describe`] has written.
    pub fn of(document: &Document, name: &str) -> Self {
        if let Ok(id) = document.get_binary_generic(format!("{name}_object"))
            && let Ok(id) = id.as_slice().try_into()
        {
            return Self::Beside(IngestionId::of_object(id));
        }
        match document.get(name) {
            Some(Bson::String(text)) => Self::Here(text.clone().into_bytes()),
            Some(Bson::Binary(binary)) => Self::Here(binary.bytes.clone()),
            _ => Self::Nowhere,
        }
    }
}

/// Stores so many bytes as an object, `piece` by piece: given an offset and a length. It may be repeated.
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

/// For people: what is text is stored as such.
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
    fn what_is_described_is_found_again_whatever_it_is() {
        let id = IngestionId::of_object([7; 16]);
        for kept in [
            Kept::Here(b"a;b\0".to_vec()),
            Kept::Here(b"\xff\xfe".to_vec()),
            Kept::Here(Vec::new()),
            Kept::Beside(id),
            Kept::Nowhere,
        ] {
            let mut document = doc! { "reason": "x" };
            kept.clone().describe(&mut document, "content", 5);
            assert_eq!(Kept::of(&document, "content"), kept);
            assert_eq!(document.get_i64("content_bytes").expect("a number"), 5);
        }
        let halves = [0, 1].map(|record| object_for(&id.record_id(record).0).as_bytes()[..8].to_vec());
        assert_ne!(halves[0], halves[1], "their chunks would be the same");
        assert_eq!(Kept::of(&doc! { "payload": "old" }, "payload"), Kept::Here(b"old".to_vec()));
    }
}
