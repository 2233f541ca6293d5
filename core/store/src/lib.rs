//! Access to coredms, the store that everything ends in: MongoDB, or the embedded store for a laptop.
//!
//! Both keep the same promises, and one contract suite (`tests/store`) runs on both:
//!
//! - what is reported as stored has been acknowledged durably (MongoDB: majority and journal; embedded: synced);
//! - every write may be repeated: an `_id` that already exists is a duplicate, never an error;
//! - a document that the store refuses does not stop the others;
//! - every call ends: if the store does not answer, with [`CoredmsError::Unavailable`].

#![allow(clippy::disallowed_methods)]

#[cfg(feature = "embedded")]
mod embedded;
pub mod gaps;
pub mod history;
mod key;
mod merge;
#[cfg(feature = "mongo")]
mod mongo;
mod precheck;
pub mod rejected;
pub mod sequences;
mod version;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf};
use bytes::Bytes;
use mysimbdp_model::ingestion::{IngestionId, RecordId};

#[cfg(feature = "embedded")]
pub use embedded::EmbeddedStore;
pub use merge::Merge;
#[cfg(feature = "mongo")]
pub use mongo::MongoStore;
pub use version::EarlierRuns;

/// Chunk size of GridFS files, and so the granularity of ranges: 255 KiB, the drivers' default.
pub const CHUNK_BYTES: u32 = 255 * 1024;

/// Result of [`Coredms::insert_many`] and [`Coredms::replace_older`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    pub stored: u64,
    /// Positions in the input, ascending, of documents whose `_id` already existed (or that were not newer).
    pub duplicates: Vec<usize>,
    /// Position (ascending) and reason of each document that the store refused: validator, size, format.
    pub rejected: Vec<(usize, String)>,
}

/// A GridFS file to be committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The `_id`: the ingestion.
    pub id: IngestionId,
    pub name: String,
    pub bytes: u64,
    pub metadata: Document,
}

/// Which documents [`Coredms::remove`] removes.
#[derive(Clone, Debug, PartialEq)]
pub enum Removal {
    /// Those with one of these ids.
    ByIds(Vec<RecordId>),
    /// Those whose `_id` is a platform id in `first..end` and not in `except`.
    Between { first: RecordId, end: RecordId, except: Vec<RecordId> },
    /// Those with a key `_id` that were last written by these runs.
    OfRuns(EarlierRuns),
}

/// The end from which a range of ids is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
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

/// What caused a [`CoredmsError`]: an error of the driver, of SQLite or of the file system, or a message.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong in the store, and whether trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum CoredmsError {
    /// Not reachable, no primary, or a timeout: try again later.
    #[error("coredms at {address} is not available: cannot {operation}")]
    Unavailable {
        address: String,
        operation: &'static str,
        #[source]
        source: Source,
    },
    /// The store refuses the operation, and will refuse it again.
    #[error("coredms at {address} refuses: cannot {operation}")]
    Refused {
        address: String,
        operation: &'static str,
        #[source]
        source: Source,
    },
    #[error(
        "{0:?} is no address of a store: allowed are mongodb://…, mongodb+srv://… and sqlite:<directory>"
    )]
    Address(String),
    /// The address is valid, but this program was built without the store that it names.
    #[error(
        "this program was built without a store for {address}: expected the cargo feature `{feature}` of mysimbdp-store"
    )]
    NotBuilt { address: String, feature: &'static str },
    #[error("what is to be written is not a document")]
    NotADocument(#[source] bson::error::Error),
    /// Chunks of the object are missing, or its length is not the announced one.
    #[error("object {id} is incomplete: {found} of {expected} bytes")]
    Incomplete { id: IngestionId, found: u64, expected: u64 },
}

impl CoredmsError {
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// One database of the store, shared through an [`Arc`].
#[async_trait]
pub trait Coredms: Send + Sync + std::fmt::Debug {
    /// Succeeds if the store can be written to.
    async fn ping(&self) -> Result<(), CoredmsError>;

    /// Creates the collection if it is missing, and sets its `$jsonSchema` validator (or removes it).
    ///
    /// `validator` is the schema itself, or a document whose only field is `$jsonSchema`. Existing documents are not
    /// validated.
    async fn ensure_collection(
        &self,
        collection: &str,
        validator: Option<&Document>,
    ) -> Result<(), CoredmsError>;

    /// Makes [`Coredms::find`] by these fields fast. The embedded store scans its documents, and does nothing here.
    async fn ensure_index(&self, collection: &str, fields: &[&str]) -> Result<(), CoredmsError>;

    /// Inserts documents, each with its `_id` first. Continues after a duplicate or refused document.
    async fn insert_many(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError>;

    /// Writes documents of the batch layer under a key `_id`: each replaces the existing one only if it is newer by
    /// `_ingest` = {layer, received_at, ingestion, run, record} (batch over stream, then time, ingestion, run, record; a
    /// document without a run is older than one with a run).
    ///
    /// A document that is not newer is a duplicate; the very same record again counts as stored; an existing document
    /// without `_ingest` is older than any.
    async fn replace_older(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError>;

    /// Writes documents. Each replaces the document with its `_id`, if there is one, in one step: none is a duplicate, and
    /// a concurrent reader sees either the old document or the new one.
    async fn replace_many(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError>;

    /// Removes documents, and returns how many were removed.
    async fn remove(&self, collection: &str, removal: Removal) -> Result<u64, CoredmsError>;

    /// Counts those of the documents with one of these ids that were last written by `runs`.
    async fn count_written_by(
        &self,
        collection: &str,
        ids: Vec<Bson>,
        runs: EarlierRuns,
    ) -> Result<u64, CoredmsError>;

    /// Inserts or replaces one of the platform's own documents by its `_id`.
    async fn put(&self, collection: &str, document: Document) -> Result<(), CoredmsError>;

    /// Returns the documents whose top-level fields equal those of `filter`, in `_id` order, at most `limit`.
    async fn find(
        &self,
        collection: &str,
        filter: Document,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError>;

    /// Returns the documents whose `_id` is a platform id in `first..end`, in this order, at most `limit`.
    async fn find_ids(
        &self,
        collection: &str,
        first: RecordId,
        end: RecordId,
        order: Order,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError>;

    /// Returns the documents with one of these ids, in any order, with one command however scattered the ids are.
    ///
    /// The caller bounds the number of ids: everything that is found is held in memory.
    async fn find_by_ids(&self, collection: &str, ids: Vec<Bson>) -> Result<Vec<Document>, CoredmsError>;

    /// Adds to documents, and creates those that are missing. Nothing is lost if others do the same concurrently.
    async fn merge(&self, collection: &str, merges: Vec<Merge>) -> Result<(), CoredmsError>;

    /// Like [`Coredms::find`], but returns only documents after this `_id`: reads a collection page by page, if all its
    /// ids are of one type.
    async fn page(
        &self,
        collection: &str,
        filter: Document,
        after: Option<Bson>,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError>;

    /// Counts all documents; this is not an estimate.
    async fn count(&self, collection: &str) -> Result<u64, CoredmsError>;

    /// Counts the documents whose `_id` is a platform id in `first..end`.
    async fn count_ids(&self, collection: &str, first: RecordId, end: RecordId) -> Result<u64, CoredmsError>;

    /// Returns the positions, ascending, of the ids that no document has.
    async fn missing_ids(&self, collection: &str, ids: Vec<Bson>) -> Result<Vec<usize>, CoredmsError>;

    /// Counts the documents that have each of these texts in a field, given as a path such as `a.b`. Texts that no
    /// document has are left out.
    async fn count_by(
        &self,
        collection: &str,
        field: &str,
        values: Vec<String>,
    ) -> Result<BTreeMap<String, u64>, CoredmsError>;

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

    /// Returns how much of the bytes `range` of an object is stored, whether it is committed or not. The range begins at a
    /// multiple of [`CHUNK_BYTES`].
    ///
    /// This reads every chunk; use [`Coredms::chunks`] if their number is enough.
    async fn extent(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<Extent, CoredmsError>;

    /// Like [`Coredms::extent`], but returns only the number of chunks.
    async fn chunks(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<u64, CoredmsError> {
        Ok(self.extent(bucket, id, range).await?.chunks)
    }

    /// Removes the database with all its content; meant for a database that was created for a trial.
    async fn drop_database(&self) -> Result<(), CoredmsError>;

    /// Closes the connection in an orderly way.
    async fn close(&self);
}

/// Opens a database of the store at `url` (`mongodb://…` or `sqlite:<directory>`). Connects on first use.
///
/// # Errors
///
/// [`CoredmsError::Address`] if it is not the address of a store, [`CoredmsError::NotBuilt`] if this program was built
/// without that store. The embedded store also fails if its directory cannot be created.
pub async fn open(url: &str, database: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    if url.starts_with("mongodb+srv://") && cfg!(not(feature = "srv")) {
        return Err(CoredmsError::NotBuilt { address: "mongodb+srv://".to_owned(), feature: "srv" });
    }
    if url.starts_with("mongodb://") || url.starts_with("mongodb+srv://") {
        return mongo(url, database).await;
    }
    match url.strip_prefix("sqlite:") {
        Some(directory) if !directory.is_empty() => embedded(directory, database),
        _ => Err(CoredmsError::Address(url.to_owned())),
    }
}

#[cfg(feature = "mongo")]
async fn mongo(url: &str, database: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Ok(Arc::new(MongoStore::open(url, database).await?))
}

#[cfg(not(feature = "mongo"))]
async fn mongo(_: &str, _: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Err(CoredmsError::NotBuilt { address: "MongoDB".to_owned(), feature: "mongo" })
}

#[cfg(feature = "embedded")]
fn embedded(directory: &str, database: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Ok(Arc::new(EmbeddedStore::open(directory, database)?))
}

#[cfg(not(feature = "embedded"))]
fn embedded(directory: &str, _: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Err(CoredmsError::NotBuilt { address: format!("sqlite:{directory}"), feature: "embedded" })
}

/// Returns the length in an object's document; `None` if the object has not been committed.
pub async fn object_length(
    store: &dyn Coredms,
    bucket: &str,
    id: IngestionId,
) -> Result<Option<u64>, CoredmsError> {
    let found = store.find(&format!("{bucket}.files"), bson::doc! { "_id": object_id(id) }, 1).await?;
    Ok(found.first().map(|file| whole(file.get("length"))))
}

/// Returns a count in a document as a `u64`, whatever its integer type; 0 if the value is not a count.
pub fn whole(value: Option<&Bson>) -> u64 {
    match value {
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or(0),
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

/// Returns the schema in a validator as given to [`Coredms::ensure_collection`].
fn schema_of(validator: &Document) -> &Document {
    match validator.get_document("$jsonSchema") {
        Ok(schema) if validator.len() == 1 => schema,
        _ => validator,
    }
}

/// Returns the document of an object in `<bucket>.files`, as GridFS defines it.
fn file_document(object: &Object) -> Document {
    bson::doc! {
        "_id": object_id(object.id),
        "length": i64::try_from(object.bytes).unwrap_or(i64::MAX),
        "chunkSize": CHUNK_BYTES as i32,
        "uploadDate": bson::DateTime::from_millis(mysimbdp_platform::clock::now().as_millisecond()),
        "filename": &object.name,
        "metadata": &object.metadata,
    }
}

fn object_id(id: IngestionId) -> bson::Binary {
    bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: id.as_bytes().to_vec() }
}

/// Returns the number of the chunk at `offset`. Refuses an offset between chunks, which would shift all later ones.
fn first_chunk(offset: u64) -> Result<u32, String> {
    let chunk = u64::from(CHUNK_BYTES);
    if !offset.is_multiple_of(chunk) {
        return Err(format!("offset {offset} is no multiple of {chunk}"));
    }
    u32::try_from(offset / chunk).map_err(|_| format!("offset {offset} is beyond what GridFS can number"))
}

/// Returns the numbers of the chunks that hold these bytes.
fn chunks_of(range: &Range<u64>) -> Range<u64> {
    let chunk = u64::from(CHUNK_BYTES);
    range.start / chunk..range.end.div_ceil(chunk)
}
