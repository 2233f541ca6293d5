//! The documents of a database: writes that may be repeated, counts and lookups.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf};
use mysimbdp_model::ingestion::RecordId;

use crate::{CoredmsError, EarlierRuns, Merge, Selected, Selection};

/// Result of [`Documents::insert_many`] and [`Documents::replace_older`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    pub stored: u64,
    /// Positions in the input, ascending, of documents whose `_id` already existed (or that were not newer).
    pub duplicates: Vec<usize>,
    /// Position (ascending) and reason of each document that the store refused: validator, size, format.
    pub rejected: Vec<(usize, String)>,
}

/// Which documents [`Documents::remove`] removes.
#[derive(Clone, Debug, PartialEq)]
pub enum Removal {
    /// Those with one of these ids.
    ByIds(Vec<RecordId>),
    /// Those with one of these ids, of whatever type.
    ByAnyIds(Vec<Bson>),
    /// Those whose `_id` is a platform id in `first..end` and not in `except`.
    Between { first: RecordId, end: RecordId, except: Vec<RecordId> },
    /// Those with a key `_id` that were last written by these runs.
    OfRuns(EarlierRuns),
}

/// The direction in which documents are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// The documents of one database.
#[async_trait]
pub trait Documents: Send + Sync {
    /// Creates the collection if it is missing, and sets its `$jsonSchema` validator (or removes it).
    ///
    /// `validator` is the schema itself, or a document whose only field is `$jsonSchema`. Existing documents are not
    /// validated.
    async fn ensure_collection(
        &self,
        collection: &str,
        validator: Option<&Document>,
    ) -> Result<(), CoredmsError>;

    /// Creates an index of these fields (or paths such as `a.b`), if it is missing; returns when it can be used.
    ///
    /// It makes [`Documents::find`] by these fields fast. For [`Documents::select`] it consists of fields of the filter, then
    /// of `order_by`, and then of `_id`. MongoDB rejects documents with arrays in two of the fields.
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

    /// Returns documents in the order of a field, however many there are: see [`Selection`]. Each is returned as it is
    /// stored, but the embedded store does not keep the width of integers.
    ///
    /// A document that is there the whole time is returned once; one that is written or removed meanwhile may or may not be.
    /// To read on later, continue after the [`Position`](crate::Position) of the last document. A missing collection is
    /// empty. Without an index that begins with the selected fields (see [`Documents::ensure_index`]) the whole collection
    /// is read and sorted.
    ///
    /// # Errors
    ///
    /// [`CoredmsError::Unavailable`] here or in the stream, [`CoredmsError::Refused`] if the selection is invalid.
    async fn select(&self, collection: &str, selection: Selection) -> Result<Selected, CoredmsError>;

    /// Returns the values of a field (or path), each once and in order, at most `limit`, from the first one that is not before
    /// `from`. Only values of its type are returned; an array has none. With an index that begins with the field each costs one
    /// lookup.
    async fn distinct(
        &self,
        collection: &str,
        field: &str,
        from: Bound<Bson>,
        limit: usize,
    ) -> Result<Vec<Bson>, CoredmsError>;

    /// Adds to documents, and creates those that are missing. Nothing is lost if others do the same concurrently.
    async fn merge(&self, collection: &str, merges: Vec<Merge>) -> Result<(), CoredmsError>;

    /// Like [`Documents::find`], but returns only documents after this `_id`: reads a collection page by page, if all its
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
}

/// Returns the schema in a validator as given to [`Documents::ensure_collection`].
pub(crate) fn schema_of(validator: &Document) -> &Document {
    match validator.get_document("$jsonSchema") {
        Ok(schema) if validator.len() == 1 => schema,
        _ => validator,
    }
}
