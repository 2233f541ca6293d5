//! The embedded store for a laptop: SQLite, one file `<directory>/<database>.sqlite` per database.
//!
//! Several processes write at the same time, as apps do. The modules, in the order in which a document passes them:
//!
//! 1. [`worker`]: the thread that runs the jobs; [`database`]: the file and its tables;
//! 2. [`documents`]: checks a document against the collection's [`validator`] (a compiled [`schema`]), encodes it as
//!    [`text`] under its [`key`](crate::key), and writes it in a transaction; [`replace`]: what a later run replaces and
//!    removes;
//! 3. [`index`]: the keys of its fields; [`select`]: documents in the order of a field, page by page;
//! 4. [`objects`]: files in `<directory>/<database>.objects/<bucket>`; [`audit`]: counts documents and objects.

mod audit;
mod database;
mod distinct;
mod documents;
mod failure;
mod index;
mod keyword;
mod objects;
mod replace;
mod schema;
mod select;
mod text;
mod validator;
mod worker;

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bson::{Binary, Bson, Document, RawDocumentBuf};
use bytes::Bytes;
use mysimbdp_model::ingestion::{IngestionId, RecordId};

use self::database::Open;
use self::failure::Failure;
use self::worker::Worker;
use crate::{
    Coredms, CoredmsError, Documents, EarlierRuns, Extent, Merge, Object, Objects, Order, Removal, Selected,
    Selection, Written,
};

/// A database of the embedded store.
#[derive(Debug)]
pub struct EmbeddedStore {
    worker: Arc<Worker>,
    address: String,
}

impl EmbeddedStore {
    /// Creates or opens the file on first use.
    ///
    /// # Errors
    ///
    /// [`CoredmsError::Refused`] if the name cannot be a file name.
    pub fn open(directory: impl AsRef<Path>, database: &str) -> Result<Self, CoredmsError> {
        let directory = directory.as_ref();
        let address = format!("sqlite:{}", directory.display());
        let operation = "open a database";
        check_name("database", database).map_err(|failure| failure.at(&address, operation))?;
        match Worker::start(directory.to_owned(), database.to_owned()) {
            Ok(worker) => Ok(Self { worker: Arc::new(worker), address }),
            Err(error) => Err(CoredmsError::Unavailable { address, operation, source: error.into() }),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&mut Open) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, CoredmsError> {
        self.worker.run(job).await.map_err(|failure| failure.at(&self.address, operation))
    }
}

/// Refuses a name that would lead elsewhere as part of a path.
fn check_name(kind: &str, name: &str) -> Result<(), Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(allowed) {
        let allowed = "ASCII letters, digits, _, - and . (not first)";
        return Err(Failure::Refused(format!("invalid name of a {kind} {name:?}: expected {allowed}")));
    }
    Ok(())
}

#[async_trait]
impl Coredms for EmbeddedStore {
    async fn ping(&self) -> Result<(), CoredmsError> {
        self.run("be reached", |open| Ok(open.transaction()?.rollback()?)).await
    }

    async fn drop_database(&self) -> Result<(), CoredmsError> {
        self.run("drop the database", |open| Ok(open.remove()?)).await
    }

    async fn close(&self) {
        self.worker.close().await;
    }
}

#[async_trait]
impl Documents for EmbeddedStore {
    async fn ensure_collection(
        &self,
        collection: &str,
        validator: Option<&Document>,
    ) -> Result<(), CoredmsError> {
        let collection = collection.to_owned();
        let schema = validator.map(|validator| crate::documents::schema_of(validator).clone());
        self.run("create a collection or change its validator", move |open| {
            documents::ensure_collection(open, &collection, schema.as_ref())
        })
        .await
    }

    async fn ensure_index(&self, collection: &str, fields: &[&str]) -> Result<(), CoredmsError> {
        let operation = "create an index";
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let name = collection.to_owned();
        let created = self.run(operation, move |open| index::create(open, &name, &fields)).await?;
        let Some(fields) = created else { return Ok(()) };
        // Step by step: others read and write in between.
        loop {
            let (collection, fields) = (collection.to_owned(), fields.clone());
            if self.run(operation, move |open| index::build(open, &collection, &fields)).await? {
                return Ok(());
            }
        }
    }

    async fn insert_many(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError> {
        let collection = collection.to_owned();
        self.run("insert documents", move |open| documents::insert(open, &collection, documents)).await
    }

    async fn replace_older(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError> {
        let collection = collection.to_owned();
        self.run("replace documents", move |open| documents::replace_older(open, &collection, documents))
            .await
    }

    async fn replace_many(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError> {
        let collection = collection.to_owned();
        self.run("replace documents", move |open| replace::replace(open, &collection, documents)).await
    }

    async fn remove(&self, collection: &str, removal: Removal) -> Result<u64, CoredmsError> {
        let collection = collection.to_owned();
        self.run("remove documents", move |open| replace::remove(open, &collection, &removal)).await
    }

    async fn count_written_by(
        &self,
        collection: &str,
        ids: Vec<Bson>,
        runs: EarlierRuns,
    ) -> Result<u64, CoredmsError> {
        let collection = collection.to_owned();
        self.run("count documents of earlier runs", move |open| {
            replace::count_written_by(open, &collection, &ids, runs)
        })
        .await
    }

    async fn put(&self, collection: &str, document: Document) -> Result<(), CoredmsError> {
        let collection = collection.to_owned();
        self.run("write a document", move |open| documents::put(open, &collection, &document)).await
    }

    async fn find(
        &self,
        collection: &str,
        filter: Document,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError> {
        self.page(collection, filter, None, limit).await
    }

    async fn page(
        &self,
        collection: &str,
        filter: Document,
        after: Option<Bson>,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError> {
        let collection = collection.to_owned();
        let limit = usize::try_from(limit).unwrap_or(0);
        self.run("find documents", move |open| {
            documents::find(open, &collection, &filter, after.as_ref(), limit)
        })
        .await
    }

    async fn find_ids(
        &self,
        collection: &str,
        first: RecordId,
        end: RecordId,
        order: Order,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError> {
        let collection = collection.to_owned();
        let (first, end) = (Binary::from(first).into(), Binary::from(end).into());
        self.run("find documents", move |open| {
            documents::find_ids(open, &collection, &first, &end, order, limit.max(0))
        })
        .await
    }

    async fn find_by_ids(&self, collection: &str, ids: Vec<Bson>) -> Result<Vec<Document>, CoredmsError> {
        let collection = collection.to_owned();
        self.run("find documents", move |open| documents::find_by_ids(open, &collection, &ids)).await
    }

    async fn select(&self, collection: &str, selection: Selection) -> Result<Selected, CoredmsError> {
        select::select(self.worker.clone(), self.address.clone(), collection, &selection).await
    }

    async fn distinct(
        &self,
        collection: &str,
        field: &str,
        from: Bound<Bson>,
        limit: usize,
    ) -> Result<Vec<Bson>, CoredmsError> {
        let mut values = Vec::new();
        let mut search = (limit > 0).then(|| distinct::Search::new(collection, field, &from, limit));
        while let Some(next) = search.take() {
            let (found, rest) = self.run("list the values of a field", move |open| next.run(open)).await?;
            values.extend(found);
            search = rest;
        }
        Ok(values)
    }

    async fn merge(&self, collection: &str, merges: Vec<Merge>) -> Result<(), CoredmsError> {
        let collection = collection.to_owned();
        self.run("merge into documents", move |open| documents::merge(open, &collection, &merges)).await
    }

    async fn count(&self, collection: &str) -> Result<u64, CoredmsError> {
        let collection = collection.to_owned();
        self.run("count documents", move |open| documents::count(open, &collection)).await
    }

    async fn count_ids(&self, collection: &str, first: RecordId, end: RecordId) -> Result<u64, CoredmsError> {
        let collection = collection.to_owned();
        let (first, end) = (Binary::from(first).into(), Binary::from(end).into());
        self.run("count records", move |open| documents::count_ids(open, &collection, &first, &end)).await
    }

    async fn missing_ids(&self, collection: &str, ids: Vec<Bson>) -> Result<Vec<usize>, CoredmsError> {
        let collection = collection.to_owned();
        self.run("look up ids", move |open| audit::missing_ids(open, &collection, &ids)).await
    }

    async fn count_by(
        &self,
        collection: &str,
        field: &str,
        values: Vec<String>,
    ) -> Result<BTreeMap<String, u64>, CoredmsError> {
        let (collection, field) = (collection.to_owned(), field.to_owned());
        self.run("count documents by a field", move |open| {
            audit::count_by(open, &collection, &field, &values)
        })
        .await
    }
}

#[async_trait]
impl Objects for EmbeddedStore {
    async fn put_chunks(
        &self,
        bucket: &str,
        id: IngestionId,
        offset: u64,
        content: Bytes,
    ) -> Result<(), CoredmsError> {
        let bucket = bucket.to_owned();
        self.run("store chunks", move |open| objects::put_chunks(open, &bucket, id, offset, &content)).await
    }

    async fn commit_object(&self, bucket: &str, object: &Object) -> Result<bool, CoredmsError> {
        let (bucket, object) = (bucket.to_owned(), object.clone());
        self.run("commit an object", move |open| objects::commit(open, &bucket, &object)).await
    }

    async fn object(&self, bucket: &str, id: IngestionId) -> Result<Option<Vec<u8>>, CoredmsError> {
        let bucket = bucket.to_owned();
        self.run("read an object", move |open| objects::read(open, &bucket, id)).await
    }

    async fn read_object(
        &self,
        bucket: &str,
        id: IngestionId,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, CoredmsError> {
        let bucket = bucket.to_owned();
        self.run("read a range of an object", move |open| objects::read_range(open, &bucket, id, &range))
            .await
    }

    async fn extent(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<Extent, CoredmsError> {
        let bucket = bucket.to_owned();
        self.run("check the chunks of an object", move |open| objects::extent_of(open, &bucket, id, &range))
            .await
    }
}
