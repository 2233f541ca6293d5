//! The objects of a database: GridFS files, stored chunk by chunk and then published.

use std::ops::Range;

use async_trait::async_trait;
use bson::Document;
use bytes::Bytes;
use mysimbdp_model::ingestion::IngestionId;

use crate::{Coredms, CoredmsError, whole};

/// Chunk size of GridFS files, and so the granularity of ranges: 255 KiB, the drivers' default.
pub const CHUNK_BYTES: u32 = 255 * 1024;

/// A GridFS file to be committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The `_id`: the ingestion.
    pub id: IngestionId,
    pub name: String,
    pub bytes: u64,
    pub metadata: Document,
}

/// A GridFS file that has been committed.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedObject {
    pub object: Object,
    /// `None` if its document does not say.
    pub committed_at: Option<bson::DateTime>,
}

/// How much of an object is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub chunks: u64,
    pub bytes: u64,
}

impl Extent {
    /// The extent of `bytes` bytes that begin at a chunk: a whole object, or whole chunks of one.
    pub fn of(bytes: u64) -> Self {
        Self { chunks: bytes.div_ceil(u64::from(CHUNK_BYTES)), bytes }
    }
}

/// The objects of one database: GridFS files, in buckets.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Stores the bytes at `offset` of the object, a multiple of [`CHUNK_BYTES`], and replaces those that are there.
    /// `content` consists of whole chunks, except at the end of the object.
    async fn put_chunks(
        &self,
        bucket: &str,
        id: IngestionId,
        offset: u64,
        content: Bytes,
    ) -> Result<(), CoredmsError>;

    /// Publishes the object if all its chunks are stored and have its length; returns true if it was not published before.
    ///
    /// In both stores, the object is then a document of the collection `<bucket>.files`.
    async fn commit_object(&self, bucket: &str, object: &Object) -> Result<bool, CoredmsError>;

    /// Returns the bytes of a committed object, or `None`.
    async fn object(&self, bucket: &str, id: IngestionId) -> Result<Option<Vec<u8>>, CoredmsError>;

    /// Returns the bytes `range` of a committed object, or `None`, and reads no others: a large object is read range by
    /// range. What of the range is beyond the end of the object is left out, so the result may be empty.
    ///
    /// # Errors
    ///
    /// [`CoredmsError::Incomplete`] if bytes of the range are missing.
    async fn read_object(
        &self,
        bucket: &str,
        id: IngestionId,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, CoredmsError>;

    /// Returns how much of the bytes `range` of an object is stored, whether it is committed or not. The range begins at a
    /// multiple of [`CHUNK_BYTES`].
    ///
    /// This reads every chunk; use [`Objects::chunks`] if their number is enough.
    async fn extent(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<Extent, CoredmsError>;

    /// Like [`Objects::extent`], but returns only the number of chunks.
    async fn chunks(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<u64, CoredmsError> {
        Ok(self.extent(bucket, id, range).await?.chunks)
    }
}

/// Returns what is stored about an object; `None` if it has not been committed.
///
/// # Errors
///
/// The store is unavailable or refuses the operation.
pub async fn committed_object(
    store: &dyn Coredms,
    bucket: &str,
    id: IngestionId,
) -> Result<Option<CommittedObject>, CoredmsError> {
    let found = store.find(&format!("{bucket}.files"), bson::doc! { "_id": object_id(id) }, 1).await?;
    Ok(found.into_iter().next().map(|file| CommittedObject {
        committed_at: file.get_datetime("uploadDate").ok().copied(),
        object: Object {
            id,
            name: file.get_str("filename").unwrap_or_default().to_owned(),
            bytes: whole(file.get("length")),
            metadata: file.get_document("metadata").cloned().unwrap_or_default(),
        },
    }))
}

/// Returns the length in an object's document; `None` if the object has not been committed.
pub async fn object_length(
    store: &dyn Coredms,
    bucket: &str,
    id: IngestionId,
) -> Result<Option<u64>, CoredmsError> {
    Ok(committed_object(store, bucket, id).await?.map(|committed| committed.object.bytes))
}

/// Returns the document of an object in `<bucket>.files`, as GridFS defines it.
pub(crate) fn file_document(object: &Object) -> Document {
    bson::doc! {
        "_id": object_id(object.id),
        "length": i64::try_from(object.bytes).unwrap_or(i64::MAX),
        "chunkSize": CHUNK_BYTES as i32,
        "uploadDate": bson::DateTime::from_millis(mysimbdp_platform::clock::now().as_millisecond()),
        "filename": &object.name,
        "metadata": &object.metadata,
    }
}

pub(crate) fn object_id(id: IngestionId) -> bson::Binary {
    bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: id.as_bytes().to_vec() }
}

/// Returns the number of the chunk at `offset`. Refuses an offset between chunks, which would shift all later ones.
pub(crate) fn first_chunk(offset: u64) -> Result<u32, String> {
    let chunk = u64::from(CHUNK_BYTES);
    if !offset.is_multiple_of(chunk) {
        return Err(format!("offset {offset} is not a multiple of {chunk}"));
    }
    u32::try_from(offset / chunk)
        .map_err(|_| format!("offset {offset} is too large: GridFS cannot number its chunk"))
}

/// Returns the part of a range that is within an object of this length.
pub(crate) fn within(range: &Range<u64>, length: u64) -> Range<u64> {
    range.start.min(length)..range.end.min(length)
}

/// Returns the numbers of the chunks that hold these bytes.
pub(crate) fn chunks_of(range: &Range<u64>) -> Range<u64> {
    let chunk = u64::from(CHUNK_BYTES);
    range.start / chunk..range.end.div_ceil(chunk)
}
