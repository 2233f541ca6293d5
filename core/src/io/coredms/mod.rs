//! The door to the core data store: MongoDB, or the embedded store of a laptop.
//!
//! Both keep the same promises, and one contract suite runs on both:
//!
//! - what is reported as stored has been acknowledged durably (MongoDB: majority and journal; embedded: synced);
//! - every write may be repeated: an `_id` that is there already is a duplicate, never an error;
//! - one document that the store refuses does not stop the others.

mod embedded;
mod mongo;



use std::sync::Arc;

use async_trait::async_trait;
use bson::{Document, RawDocumentBuf};

use crate::ingestion::{IngestionId, RecordId};

pub use embedded::EmbeddedStore;
pub use mongo::MongoStore;

/// Chunk size of GridFS files, and so the granularity of ranges: 255 KiB, the drivers' default.
pub const CHUNK_BYTES: u32 = 255 * 1024;

/// Result of [`Coredms::insert_many`] and [`Coredms::replace_older`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    pub stored: u64,
    /// Positions, in what was given, of documents whose `_id` was there already (or which were not newer).
    pub duplicates: Vec<usize>,
    /// Position and reason of each document that the store refused: validator, size, form.
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

/// What went wrong at the store, and whether trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum CoredmsError {
    /// Not reachable, no primary, time-out: try again later.
    #[error("coredms at {address} is not available: {operation}")]
    Unavailable { address: String, operation: &'static str, #[source] source: Box<dyn std::error::Error + Send + Sync> },
    /// The store refuses, and will refuse again.
    #[error("coredms refuses: {operation}")]
    Refused { operation: &'static str, #[source] source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{0:?} is no address of a store: allowed are mongodb://…, mongodb+srv://… and sqlite:<directory>")]
    Address(String),
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
    async fn ensure_collection(&self, collection: &str, validator: Option<&Document>) -> Result<(), CoredmsError>;

    /// Inserts documents, each with its `_id` first. Goes on after a duplicate or a refused one.
    async fn insert_many(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<Written, CoredmsError>;

    /// Writes documents of the batch layer under a key `_id`: each replaces what is there only if it is newer by
    /// `_ingest` = {layer, received_at, ingestion} (batch over stream, then time, then id). Not newer = duplicate.
    async fn replace_older(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<Written, CoredmsError>;

    /// Inserts or replaces one document of the platform's own by its `_id`.
    async fn put(&self, collection: &str, document: Document) -> Result<(), CoredmsError>;

    /// Documents whose top-level fields equal those of `filter`, in `_id` order, at most `limit`.
    async fn find(&self, collection: &str, filter: Document, limit: i64) -> Result<Vec<Document>, CoredmsError>;

    async fn count(&self, collection: &str) -> Result<u64, CoredmsError>;

    /// Documents whose `_id` is a platform id in `first..end`.
    async fn count_ids(&self, collection: &str, first: RecordId, end: RecordId) -> Result<u64, CoredmsError>;

    /// Stores the bytes at `offset` of the object, a multiple of [`CHUNK_BYTES`]; what lies there is replaced.
    /// `content` is whole chunks, but for the last of the object.
    async fn put_chunks(&self, bucket: &str, id: IngestionId, offset: u64, content: bytes::Bytes) -> Result<(), CoredmsError>;

    /// Makes the object visible, when all its chunks are there and have its length; true if it was not there before.
    async fn commit_object(&self, bucket: &str, object: &Object) -> Result<bool, CoredmsError>;

    /// The bytes of a committed object, or `None`.
    async fn object(&self, bucket: &str, id: IngestionId) -> Result<Option<Vec<u8>>, CoredmsError>;

    /// Ends the connection in order.
    async fn close(&self);
}

/// Opens a database (being written).
pub async fn open(url: &str, _database: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Err(CoredmsError::Address(url.to_owned()))
}
