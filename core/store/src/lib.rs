//! The door to the core data store: MongoDB, or the embedded store of a laptop.
//!
//! Both keep the same promises, and one contract suite (`tests/store`) runs on both:
//!
//! - what is reported as stored has been acknowledged durably (MongoDB: majority and journal; embedded: synced);
//! - every write may be repeated: an `_id` that is there already is a duplicate, never an error;
//! - one document that the store refuses does not stop the others;
//! - every call ends: a store that does not answer is [`CoredmsError::Unavailable`].

#![allow(clippy::disallowed_methods)]

#[cfg(feature = "embedded")]
mod embedded;
mod form;
pub mod gaps;
pub mod history;
mod key;
mod merge;
#[cfg(feature = "mongo")]
mod mongo;
pub mod rejected;
pub mod sequences;
mod stamp;

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
pub use stamp::EarlierRuns;

/// Chunk size of GridFS files, and so the granularity of ranges: 255 KiB, the drivers' default.
pub const CHUNK_BYTES: u32 = 255 * 1024;

/// Result of [`Coredms::insert_many`] and [`Coredms::replace_older`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    pub stored: u64,
    /// Positions, in what was given and ascending, of documents whose `_id` was there already (or which were not newer).
    pub duplicates: Vec<usize>,
    /// Position, ascending, and reason of each document that the store refused: validator, size, form.
    pub rejected: Vec<(usize, String)>,
}

/// A GridFS file as it is to be committed.
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
    /// Those that have one of these ids.
    Among(Vec<RecordId>),
    /// Those whose `_id` is a platform id in `first..end`, and none of these.
    Between { first: RecordId, end: RecordId, except: Vec<RecordId> },
    /// Those under keys that these runs were the last to write.
    OfRuns(EarlierRuns),
}

/// Which end of a range of ids is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// What is stored of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub chunks: u64,
    pub bytes: u64,
}

impl Extent {
    /// Of a whole object, or of whole chunks of one.
    pub fn of(bytes: u64) -> Self {
        Self { chunks: bytes.div_ceil(u64::from(CHUNK_BYTES)), bytes }
    }
}

/// What caused a [`CoredmsError`]: an error of the driver, of SQLite or of the file system, or a sentence.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong at the store, and whether trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum CoredmsError {
    /// Not reachable, no primary, time-out: try again later.
    #[error("coredms at {address} is not available: cannot {operation}")]
    Unavailable {
        address: String,
        operation: &'static str,
        #[source]
        source: Source,
    },
    /// The store refuses, and will refuse again.
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
    /// The address is right, and what it takes was left out of this program.
    #[error(
        "this program was built without a store for {address}: expected the cargo feature `{feature}` of mysimbdp-store"
    )]
    NotBuilt { address: String, feature: &'static str },
    #[error("what is to be written is not a document")]
    NotADocument(#[source] bson::error::Error),
    /// A GridFS file whose chunks are not all there, or another length than announced.
    #[error("object {id} is incomplete: {found} of {expected} bytes")]
    Incomplete { id: IngestionId, found: u64, expected: u64 },
}

impl CoredmsError {
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// One database of the store. Cheap to clone through its [`Arc`].
#[async_trait]
pub trait Coredms: Send + Sync + std::fmt::Debug {
    /// Answers when the store can be written to.
    async fn ping(&self) -> Result<(), CoredmsError>;

    /// Creates the collection where it is missing, and gives it the `$jsonSchema` validator (or takes it away).
    ///
    /// `validator` is the schema itself, or a document whose only field is `$jsonSchema`. Documents that are there
    /// already are not looked at.
    async fn ensure_collection(
        &self,
        collection: &str,
        validator: Option<&Document>,
    ) -> Result<(), CoredmsError>;

    /// Makes [`Coredms::find`] by these fields fast. The embedded store scans, and does nothing here.
    async fn ensure_index(&self, collection: &str, fields: &[&str]) -> Result<(), CoredmsError>;

    /// Inserts documents, each with its `_id` first. Goes on after a duplicate or a refused one.
    async fn insert_many(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError>;

    /// Writes documents of the batch layer under a key `_id`: each replaces what is there only if it is newer by
    /// `_ingest` = {layer, received_at, ingestion, run, record} (batch over stream, then time, ingestion, run, record; one
    /// without a run is older than one with it).
    ///
    /// Not newer = duplicate; the very same record again = stored; what is there without `_ingest` is older.
    async fn replace_older(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError>;

    /// Writes documents, each in the place of what is there under its `_id`, in one step: none is a duplicate, and whoever reads
    /// meanwhile finds the one or the other.
    async fn replace_many(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError>;

    /// Removes documents, and returns how many were there.
    async fn remove(&self, collection: &str, removal: Removal) -> Result<u64, CoredmsError>;

    /// How many of the documents that have one of these ids the runs were the last to write.
    async fn count_written_by(
        &self,
        collection: &str,
        ids: Vec<Bson>,
        runs: EarlierRuns,
    ) -> Result<u64, CoredmsError>;

    /// Inserts or replaces one document of the platform's own by its `_id`.
    async fn put(&self, collection: &str, document: Document) -> Result<(), CoredmsError>;

    /// Documents whose top-level fields equal those of `filter`, in `_id` order, at most `limit`.
    async fn find(
        &self,
        collection: &str,
        filter: Document,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError>;

    /// Documents whose `_id` is a platform id in `first..end`, from one of its ends on, at most `limit`.
    async fn find_ids(
        &self,
        collection: &str,
        first: RecordId,
        end: RecordId,
        order: Order,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError>;

    /// Documents that have one of these ids, in any order: one command however the ids are scattered.
    ///
    /// How many are asked for at a time is the caller's to bound: all that is found is held in memory.
    async fn find_among(&self, collection: &str, ids: Vec<Bson>) -> Result<Vec<Document>, CoredmsError>;

    /// Adds to documents, each of which is made if it is missing. Whoever else does so at the same time: nothing is lost.
    async fn merge(&self, collection: &str, merges: Vec<Merge>) -> Result<(), CoredmsError>;

    /// As [`Coredms::find`], but only what comes after this `_id`: a collection page by page, where all ids are of one type.
    async fn page(
        &self,
        collection: &str,
        filter: Document,
        after: Option<Bson>,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError>;

    /// How many documents there are, counted and not estimated.
    async fn count(&self, collection: &str) -> Result<u64, CoredmsError>;

    /// Documents whose `_id` is a platform id in `first..end`.
    async fn count_ids(&self, collection: &str, first: RecordId, end: RecordId) -> Result<u64, CoredmsError>;

    /// Positions, ascending, of those ids that no document has.
    async fn missing_ids(&self, collection: &str, ids: Vec<Bson>) -> Result<Vec<usize>, CoredmsError>;

    /// How many documents have each of these texts in a field, a path such as `a.b`; what none has is left out.
    async fn count_by(
        &self,
        collection: &str,
        field: &str,
        values: Vec<String>,
    ) -> Result<BTreeMap<String, u64>, CoredmsError>;

    /// Stores the bytes at `offset` of the object, a multiple of [`CHUNK_BYTES`]; what lies there is replaced.
    /// `content` is whole chunks, but for the last of the object.
    async fn put_chunks(
        &self,
        bucket: &str,
        id: IngestionId,
        offset: u64,
        content: Bytes,
    ) -> Result<(), CoredmsError>;

    /// Makes the object visible, when all its chunks are there and have its length; true if it was not there before.
    ///
    /// In both stores it then is a document of the collection `<bucket>.files`.
    async fn commit_object(&self, bucket: &str, object: &Object) -> Result<bool, CoredmsError>;

    /// The bytes of a committed object, or `None`.
    async fn object(&self, bucket: &str, id: IngestionId) -> Result<Option<Vec<u8>>, CoredmsError>;

    /// What is stored of the bytes `range` of an object, committed or not. The range begins at a multiple of
    /// [`CHUNK_BYTES`].
    ///
    /// The store reads every chunk for that; [`Coredms::chunks`] is for where their number is enough.
    async fn extent(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<Extent, CoredmsError>;

    /// As [`Coredms::extent`], but only how many chunks there are.
    async fn chunks(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<u64, CoredmsError> {
        Ok(self.extent(bucket, id, range).await?.chunks)
    }

    /// Removes the database with all that is in it: for one that was made to try something out.
    async fn drop_database(&self) -> Result<(), CoredmsError>;

    /// Ends the connection in order.
    async fn close(&self);
}

/// Opens a database of the store at `url` (`mongodb://…` or `sqlite:<directory>`). Connects on first use.
///
/// # Errors
///
/// [`CoredmsError::Address`] where the address is none, [`CoredmsError::NotBuilt`] where this program has no such store; the embedded
/// store also where its directory cannot be made.
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

/// The length in the document of an object; `None` where it has not been committed.
pub async fn object_length(
    store: &dyn Coredms,
    bucket: &str,
    id: IngestionId,
) -> Result<Option<u64>, CoredmsError> {
    let found = store.find(&format!("{bucket}.files"), bson::doc! { "_id": object_id(id) }, 1).await?;
    Ok(found.first().map(|file| whole(file.get("length"))))
}

/// A count in a document, whatever integer type it has; 0 where it is none.
pub fn whole(value: Option<&Bson>) -> u64 {
    match value {
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or(0),
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

/// The schema in what [`Coredms::ensure_collection`] was given.
fn schema_of(validator: &Document) -> &Document {
    match validator.get_document("$jsonSchema") {
        Ok(schema) if validator.len() == 1 => schema,
        _ => validator,
    }
}

/// The document of an object in `<bucket>.files`, as GridFS has it.
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

/// Refuses an offset that would shift every chunk after it.
fn first_chunk(offset: u64) -> Result<u32, String> {
    let chunk = u64::from(CHUNK_BYTES);
    if !offset.is_multiple_of(chunk) {
        return Err(format!("offset {offset} is no multiple of {chunk}"));
    }
    u32::try_from(offset / chunk).map_err(|_| format!("offset {offset} is beyond what GridFS can number"))
}

/// The numbers of the chunks that hold these bytes.
fn chunks_of(range: &Range<u64>) -> Range<u64> {
    let chunk = u64::from(CHUNK_BYTES);
    range.start / chunk..range.end.div_ceil(chunk)
}
