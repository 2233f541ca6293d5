//! GridFS, written chunk by chunk: two writers are twice as fast as the driver's single one, and ranges can be written in
//! any order.

use std::ops::Range;

use bson::oid::ObjectId;
use bson::raw::{RawBinaryRef, RawBsonRef};
use bson::spec::BinarySubtype;
use bson::{Binary, Document, RawDocumentBuf, doc, rawdoc};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::error::ErrorKind;
use mysimbdp_model::ingestion::IngestionId;
use serde::{Serialize, Serializer};

use super::failure::DUPLICATE_KEY;
use super::write::update_message;
use super::{MongoStore, audit};
use crate::objects::{chunks_of, file_document, first_chunk, object_id, within};
use crate::{CHUNK_BYTES, CoredmsError, Extent, Object};

/// About 8 MB of chunks: by measurement, larger messages gain nothing and only use memory.
const MESSAGE_CHUNKS: usize = 32;
const MESSAGE_BYTES: usize = MESSAGE_CHUNKS * CHUNK_BYTES as usize;

const WRITERS: usize = 2;

const STORE: &str = "store chunks";

pub(super) async fn put_chunks(
    store: &MongoStore,
    bucket: &str,
    id: IngestionId,
    offset: u64,
    content: Bytes,
) -> Result<(), CoredmsError> {
    let first = first_chunk(offset).map_err(|reason| store.refused(STORE, reason))?;
    ensure_indexes(store, bucket).await?;

    let end = i64::from(first) + content.len().div_ceil(CHUNK_BYTES as usize) as i64;
    let too_many = |_| store.refused(STORE, "the object has too many chunks");
    let (first, end) = (i32::try_from(first).map_err(too_many)?, i32::try_from(end).map_err(too_many)?);

    let parts = (0..content.len()).step_by(MESSAGE_BYTES).zip((first..end).step_by(MESSAGE_CHUNKS)).map(
        |(start, first)| {
            let part = content.slice(start..content.len().min(start + MESSAGE_BYTES));
            replace(store, bucket, id, first, part)
        },
    );
    stream::iter(parts).buffer_unordered(WRITERS).try_collect().await
}

/// Inserts the chunks of a message, and replaces those that an earlier attempt or run has left.
///
/// Usually there are none, and to look for them first would cost a command. If there are some, each chunk is replaced in
/// one step: the object may already be committed, and may be read at the same time.
async fn replace(
    store: &MongoStore,
    bucket: &str,
    id: IngestionId,
    first: i32,
    part: Bytes,
) -> Result<(), CoredmsError> {
    if insert(store, bucket, id, first, &part).await? {
        return Ok(());
    }
    let statements: Vec<RawDocumentBuf> = part
        .chunks(CHUNK_BYTES as usize)
        .zip(first..)
        .map(|(data, number)| Chunk::new(id, number, data).replacement())
        .collect();
    let faults = update_message(store, STORE, &format!("{bucket}.chunks"), &statements).await?;
    // A chunk that another attempt writes at the same moment has the same bytes.
    match faults.into_iter().find(|fault| fault.code != DUPLICATE_KEY) {
        None => Ok(()),
        Some(fault) => Err(store.refused(STORE, fault.message)),
    }
}

/// Inserts the chunks; returns false if some of them already existed.
async fn insert(
    store: &MongoStore,
    bucket: &str,
    id: IngestionId,
    first: i32,
    part: &Bytes,
) -> Result<bool, CoredmsError> {
    let documents = part.chunks(CHUNK_BYTES as usize).zip(first..).map(|(data, n)| Chunk::new(id, n, data));
    let chunks = store.collection::<Chunk<'_>>(&format!("{bucket}.chunks"));
    let Err(error) =
        store.within(store.message_time, STORE, chunks.insert_many(documents).ordered(false)).await?
    else {
        return Ok(true);
    };
    match error.kind.as_ref() {
        ErrorKind::InsertMany(failure)
            if failure.write_concern_error.is_none()
                && failure.write_errors.iter().flatten().all(|error| error.code == DUPLICATE_KEY) =>
        {
            Ok(false)
        }
        _ => Err(store.failed(STORE, error)),
    }
}

/// A chunk as GridFS defines it. The driver encodes it, which copies its bytes once; building a document first would copy
/// them once more.
#[derive(Serialize)]
struct Chunk<'a> {
    _id: ObjectId,
    files_id: Binary,
    n: i32,
    #[serde(serialize_with = "binary")]
    data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The `_id` consists of the object's id and the chunk's number: it increases, and is the same at every attempt. It is an
    /// ObjectId because some drivers accept nothing else.
    fn new(id: IngestionId, number: i32, data: &'a [u8]) -> Self {
        let mut chunk_id = [0; 12];
        chunk_id[..8].copy_from_slice(&id.as_bytes()[..8]);
        chunk_id[8..].copy_from_slice(&number.to_be_bytes());
        Self { _id: ObjectId::from_bytes(chunk_id), files_id: object_id(id), n: number, data }
    }

    /// Returns the statement that gives the chunk these bytes, whoever created it.
    fn replacement(&self) -> RawDocumentBuf {
        let data = RawBinaryRef { subtype: BinarySubtype::Generic, bytes: self.data };
        let data = RawBsonRef::Binary(data);
        let update = rawdoc! { "$set": { "data": data }, "$setOnInsert": { "_id": self._id } };
        let filter = rawdoc! { "files_id": self.files_id.clone(), "n": self.n };
        rawdoc! { "q": filter, "u": update, "upsert": true }
    }
}

fn binary<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(super) async fn commit(store: &MongoStore, bucket: &str, object: &Object) -> Result<bool, CoredmsError> {
    let operation = "commit an object";
    ensure_indexes(store, bucket).await?;
    if !is_whole(store, bucket, object).await? {
        let Extent { bytes: found, .. } = audit::extent(store, bucket, object.id, 0..u64::MAX).await?;
        return Err(CoredmsError::Incomplete { id: object.id, found, expected: object.bytes });
    }
    let files = store.collection::<Document>(&format!("{bucket}.files"));
    let unchanged = doc! { "$setOnInsert": file_document(object) };
    let insert = files.update_one(doc! { "_id": object_id(object.id) }, unchanged).upsert(true);
    let result = store.call(operation, insert).await?;
    Ok(result.upserted_id.is_some())
}

/// Returns whether all chunks exist and the last one has its length. [`put_chunks`] writes no other chunk that is not
/// full, so the others need not be read.
async fn is_whole(store: &MongoStore, bucket: &str, object: &Object) -> Result<bool, CoredmsError> {
    let chunks = audit::chunks(store, bucket, object.id, 0..u64::MAX).await?;
    if chunks != Extent::of(object.bytes).chunks {
        return Ok(false);
    }
    let full = chunks.saturating_sub(1) * u64::from(CHUNK_BYTES);
    let last = audit::extent(store, bucket, object.id, full..object.bytes).await?;
    Ok(last.bytes == object.bytes - full)
}

pub(super) async fn read(
    store: &MongoStore,
    bucket: &str,
    id: IngestionId,
) -> Result<Option<Vec<u8>>, CoredmsError> {
    let operation = "read an object";
    let files = store.collection::<RawDocumentBuf>(&format!("{bucket}.files"));
    let Some(file) = store.call(operation, files.find_one(doc! { "_id": object_id(id) })).await? else {
        return Ok(None);
    };
    let expected = file.get_i64("length").ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    let chunks = store.collection::<RawDocumentBuf>(&format!("{bucket}.chunks"));
    let collect = async {
        let mut cursor = chunks.find(doc! { "files_id": object_id(id) }).sort(doc! { "n": 1 }).await?;
        let mut content = Vec::new();
        while let Some(chunk) = cursor.try_next().await? {
            content.extend_from_slice(chunk.get_binary("data")?.bytes);
        }
        Ok(content)
    };
    let content = store.scan(operation, collect).await?;
    match content.len() as u64 {
        found if found == expected => Ok(Some(content)),
        found => Err(CoredmsError::Incomplete { id, found, expected }),
    }
}

pub(super) async fn read_range(
    store: &MongoStore,
    bucket: &str,
    id: IngestionId,
    range: Range<u64>,
) -> Result<Option<Bytes>, CoredmsError> {
    let operation = "read a range of an object";
    let files = store.collection::<RawDocumentBuf>(&format!("{bucket}.files"));
    let find = files.find_one(doc! { "_id": object_id(id) }).projection(doc! { "length": 1 });
    let Some(file) = store.call(operation, find).await? else {
        return Ok(None);
    };
    let length = file.get_i64("length").ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    let range = within(&range, length);
    if range.is_empty() {
        return Ok(Some(Bytes::new()));
    }
    let numbers = chunks_of(&range);
    let first_byte = numbers.start * u64::from(CHUNK_BYTES);
    let numbers = doc! { "$gte": numbers.start as i64, "$lt": numbers.end as i64 };
    let chunks = store.collection::<RawDocumentBuf>(&format!("{bucket}.chunks"));
    let collect = async {
        let filter = doc! { "files_id": object_id(id), "n": numbers };
        let mut cursor = chunks.find(filter).sort(doc! { "n": 1 }).await?;
        let mut content = BytesMut::new();
        while let Some(chunk) = cursor.try_next().await? {
            content.extend_from_slice(chunk.get_binary("data")?.bytes);
        }
        Ok(content)
    };
    let content = store.scan(operation, collect).await?.freeze();
    // Every chunk but the last one is full, so a missing one makes the content too short.
    let last_byte = range.end.next_multiple_of(u64::from(CHUNK_BYTES)).min(length);
    if content.len() as u64 != last_byte - first_byte {
        let missing = (last_byte - first_byte).saturating_sub(content.len() as u64);
        return Err(CoredmsError::Incomplete { id, found: length.saturating_sub(missing), expected: length });
    }
    let start = (range.start - first_byte) as usize;
    Ok(Some(content.slice(start..start + (range.end - range.start) as usize)))
}

/// Creates the two indexes that GridFS requires.
async fn ensure_indexes(store: &MongoStore, bucket: &str) -> Result<(), CoredmsError> {
    if store.cache().buckets.contains(bucket) {
        return Ok(());
    }
    store.create_index(&format!("{bucket}.chunks"), doc! { "files_id": 1, "n": 1 }, true).await?;
    store.create_index(&format!("{bucket}.files"), doc! { "filename": 1, "uploadDate": 1 }, false).await?;
    store.cache().buckets.insert(bucket.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_encoded_as_gridfs_has_it() {
        let id = "01890a5dac96774bbcceb302099a8057".parse::<IngestionId>().expect("an id");
        for data in [&b""[..], b"x", &[7; CHUNK_BYTES as usize]] {
            let encoded = bson::serialize_to_raw_document_buf(&Chunk::new(id, 258, data)).expect("encodable");
            let mut chunk_id = [0; 12];
            chunk_id[..8].copy_from_slice(&id.as_bytes()[..8]);
            chunk_id[10..].copy_from_slice(&[1, 2]);
            let expected = rawdoc! {
                "_id": ObjectId::from_bytes(chunk_id),
                "files_id": object_id(id),
                "n": 258,
                "data": Binary { subtype: BinarySubtype::Generic, bytes: data.to_vec() },
            };
            assert_eq!(encoded, expected);
        }
    }
}
