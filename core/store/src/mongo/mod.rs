//! MongoDB: writes are acknowledged by the majority and its journals; documents are raw BSON.
//!
//! 1. this module: connection, collections, and reads;
//! 2. [`write`]: records, one [`message`] after the other, and the result of each; [`replace`]: what a later run replaces
//!    and removes;
//! 3. [`merge`]: bits and watermarks; [`objects`]: GridFS; [`audit`]: counts; [`select`]: documents in order, through a
//!    cursor;
//! 4. [`reply`]: what the server answers; [`failure`]: which errors may be retried; [`refusal`]: the validator's
//!    answer in words.

mod audit;
mod failure;
mod merge;
mod message;
mod objects;
mod refusal;
mod replace;
mod reply;
mod select;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use bytes::Bytes;
use futures::TryStreamExt;
use mongodb::error::Result as DriverResult;
use mongodb::options::{
    Acknowledgment, ClientOptions, Compressor, ConnectionString, IndexOptions, ServerAddress, WriteConcern,
};
use mongodb::{Client, Collection, Database, IndexModel};
use mysimbdp_model::ingestion::{IngestionId, RecordId};

use crate::{
    Coredms, CoredmsError, Documents, EarlierRuns, ErrorSource, Extent, Merge, Object, Objects, Order,
    Removal, Selected, Selection, Written, precheck,
};

/// Unless the address says otherwise: long enough for an election, short enough for an app to report what is wrong.
const SERVER_SELECTION_SECONDS: u64 = 5;

/// Likewise; the driver's 10 s would never take effect, as the server selection times out before that.
const CONNECT_SECONDS: u64 = 5;

/// The timeout of one message to the server and its answer, unless the address sets `socketTimeoutMS`. The driver itself
/// refuses that option: it waits forever for a server that is up and does not answer.
const MESSAGE_SECONDS: u64 = 30;

/// The timeout of what reads a whole collection or object: counting, checking the chunks.
const SCAN_SECONDS: u64 = 600;

/// `NamespaceExists`.
const COLLECTION_EXISTS: i32 = 48;

/// A database in MongoDB.
#[derive(Debug)]
pub struct MongoStore {
    client: Client,
    database: Database,
    /// The hosts, for messages; the address itself may contain a password.
    address: String,
    message_time: Duration,
    cache: Mutex<Cache>,
}

/// What the server has already answered, so that not every message asks again.
#[derive(Debug, Default)]
struct Cache {
    /// Buckets that have their indexes.
    buckets: BTreeSet<String>,
    /// The size of each collection's validator.
    validator_bytes: BTreeMap<String, usize>,
}

impl MongoStore {
    /// Connects on first use.
    ///
    /// # Errors
    ///
    /// [`CoredmsError::Refused`] if the address is malformed, [`CoredmsError::Unavailable`] if the hosts of a
    /// `mongodb+srv` address cannot be looked up.
    pub async fn open(url: &str, database: &str) -> Result<Self, CoredmsError> {
        // Only the part that cannot contain a password.
        let redacted = redacted(url);
        let failed = |error| failure::classify(&redacted, "use the address", error);
        let mut given = ConnectionString::parse(url).map_err(failed)?;
        let message_time = take_message_time(&mut given);
        let mut options = Box::pin(ClientOptions::parse(given).into_future()).await.map_err(failed)?;
        complete(&mut options);
        let client = Client::with_options(options).map_err(failed)?;
        let database = client.database(database);
        Ok(Self { client, database, address: redacted, message_time, cache: Mutex::default() })
    }

    /// Sets the timeout of a message to `time` instead of 30 s.
    pub fn with_message_timeout(self, time: Duration) -> Self {
        Self { message_time: time, ..self }
    }

    fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.database.collection(name)
    }

    /// Runs one operation with a timeout; the outer error is the timeout.
    async fn within<T>(
        &self,
        time: Duration,
        operation: &'static str,
        action: impl IntoFuture<Output = DriverResult<T>>,
    ) -> Result<DriverResult<T>, CoredmsError> {
        let answer = tokio::time::timeout(time, action.into_future()).await;
        answer.map_err(|_| no_answer(&self.address, operation, time))
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        action: impl IntoFuture<Output = DriverResult<T>>,
    ) -> Result<T, CoredmsError> {
        self.within(self.message_time, operation, action)
            .await?
            .map_err(|error| self.failed(operation, error))
    }

    async fn scan<T>(
        &self,
        operation: &'static str,
        action: impl IntoFuture<Output = DriverResult<T>>,
    ) -> Result<T, CoredmsError> {
        self.within(Duration::from_secs(SCAN_SECONDS), operation, action)
            .await?
            .map_err(|error| self.failed(operation, error))
    }

    fn failed(&self, operation: &'static str, error: mongodb::error::Error) -> CoredmsError {
        failure::classify(&self.address, operation, error)
    }

    fn refused(&self, operation: &'static str, source: impl Into<ErrorSource>) -> CoredmsError {
        CoredmsError::Refused { address: self.address.clone(), operation, source: source.into() }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing panics while it holds the lock.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the size of the collection's validator, 0 if it has none.
    async fn validator_bytes(&self, collection: &str) -> Result<usize, CoredmsError> {
        let cached = self.cache().validator_bytes.get(collection).copied();
        if let Some(bytes) = cached {
            return Ok(bytes);
        }
        let validator = self.validator_of(collection).await?.unwrap_or_default();
        let bytes = RawDocumentBuf::try_from(&validator).map_or(0, |raw| raw.as_bytes().len());
        self.cache().validator_bytes.insert(collection.to_owned(), bytes);
        Ok(bytes)
    }

    /// Returns the collection's validator, or `None` if the collection does not exist.
    async fn validator_of(&self, collection: &str) -> Result<Option<Document>, CoredmsError> {
        let list = async {
            let cursor = self.database.list_collections().filter(doc! { "name": collection }).await?;
            cursor.try_collect::<Vec<_>>().await
        };
        let found = self.call("read the validator of a collection", list).await?;
        Ok(found.into_iter().next().map(|found| found.options.validator.unwrap_or_default()))
    }
}

fn no_answer(address: &str, operation: &'static str, time: Duration) -> CoredmsError {
    let source = format!("no answer within {} s", time.as_secs_f64()).into();
    CoredmsError::Unavailable { address: address.to_owned(), operation, source }
}

/// Fills in what the address leaves open, and enforces durability whatever it says.
fn complete(options: &mut ClientOptions) {
    let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    options.write_concern = Some(durable);
    options.app_name.get_or_insert_with(|| "mysimbdp".to_owned());
    options.server_selection_timeout.get_or_insert(Duration::from_secs(SERVER_SELECTION_SECONDS));
    options.connect_timeout.get_or_insert(Duration::from_secs(CONNECT_SECONDS));
    // Compression costs time and saves network traffic; within a host there is none to save.
    if options.compressors.is_none() && !options.hosts.iter().all(is_loopback) {
        options.compressors = Some(vec![Compressor::Snappy]);
    }
}

/// Takes the timeout of one message out of the address. 0 would mean to wait forever, which is not allowed.
#[allow(deprecated, reason = "the driver refuses the option, as it cannot obey it; here it is obeyed")]
fn take_message_time(address: &mut ConnectionString) -> Duration {
    let given = address.socket_timeout.take().filter(|time| !time.is_zero());
    given.unwrap_or(Duration::from_secs(MESSAGE_SECONDS))
}

fn is_loopback(host: &ServerAddress) -> bool {
    match host {
        ServerAddress::Tcp { host, .. } => {
            let name = host.trim_matches(['[', ']']);
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        // A Unix socket.
        _ => true,
    }
}

/// Returns scheme and hosts of an address, without user, password and options.
fn redacted(url: &str) -> String {
    let (scheme, remainder) = url.split_once("://").unwrap_or(("mongodb", url));
    let authority = remainder.split(['/', '?']).next().unwrap_or_default();
    // A password that is not encoded may contain a slash: then what follows the slash may be part of the password.
    let hosts = match (remainder.rsplit_once('@'), authority.rsplit_once('@')) {
        (_, Some((_, hosts))) => hosts,
        (Some(_), None) => "…",
        (None, None) => authority,
    };
    format!("{scheme}://{hosts}")
}

#[async_trait]
impl Coredms for MongoStore {
    async fn ping(&self) -> Result<(), CoredmsError> {
        let operation = "be reached";
        let hello = self.call(operation, self.database.run_command(doc! { "hello": 1 })).await?;
        if hello.get_bool("isWritablePrimary").unwrap_or(false) {
            return Ok(());
        }
        let source = "the server is not the primary, so it accepts no writes".into();
        Err(CoredmsError::Unavailable { address: self.address.clone(), operation, source })
    }

    async fn drop_database(&self) -> Result<(), CoredmsError> {
        self.call("drop the database", self.database.drop()).await
    }

    async fn close(&self) {
        // Immediately: nobody else holds anything that would have to be waited for.
        self.client.clone().shutdown().immediate(true).await;
    }
}

#[async_trait]
impl Documents for MongoStore {
    async fn ensure_collection(
        &self,
        collection: &str,
        validator: Option<&Document>,
    ) -> Result<(), CoredmsError> {
        let operation = "create a collection or change its validator";
        let desired = validator
            .map(|schema| doc! { "$jsonSchema": crate::documents::schema_of(schema) })
            .unwrap_or_default();
        match self.validator_of(collection).await? {
            Some(current) if current == desired => return Ok(()),
            Some(_) => {}
            None => {
                let create =
                    self.database.create_collection(collection).validator(desired.clone()).into_future();
                match self.within(self.message_time, operation, create).await? {
                    Ok(()) => return Ok(()),
                    // Another process was faster, perhaps with another validator.
                    Err(error) if failure::code(&error) == Some(COLLECTION_EXISTS) => {}
                    Err(error) => return Err(self.failed(operation, error)),
                }
            }
        }
        let change = doc! {
            "collMod": collection,
            "validator": desired,
            "validationLevel": "strict",
            "validationAction": "error",
            "writeConcern": { "w": "majority", "j": true },
        };
        self.call(operation, self.database.run_command(change)).await.map(drop)
    }

    async fn ensure_index(&self, collection: &str, fields: &[&str]) -> Result<(), CoredmsError> {
        let keys = fields.iter().map(|field| ((*field).to_owned(), 1.into())).collect::<Document>();
        self.create_index(collection, keys, false).await
    }

    async fn insert_many(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError> {
        write::insert(self, collection, documents).await
    }

    async fn replace_older(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError> {
        write::replace_older(self, collection, documents).await
    }

    async fn replace_many(
        &self,
        collection: &str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<Written, CoredmsError> {
        replace::replace(self, collection, documents).await
    }

    async fn remove(&self, collection: &str, removal: Removal) -> Result<u64, CoredmsError> {
        replace::remove(self, collection, removal).await
    }

    async fn count_written_by(
        &self,
        collection: &str,
        ids: Vec<Bson>,
        runs: EarlierRuns,
    ) -> Result<u64, CoredmsError> {
        replace::count_written_by(self, collection, ids, runs).await
    }

    async fn put(&self, collection: &str, document: Document) -> Result<(), CoredmsError> {
        let operation = "write a document";
        let Some(id) = document.get("_id") else {
            return Err(self.refused(operation, "the document has no _id"));
        };
        let filter = doc! { "_id": { "$eq": id } };
        let document = RawDocumentBuf::try_from(&document).map_err(|error| self.refused(operation, error))?;
        let documents = self.collection::<RawDocumentBuf>(collection);
        self.call(operation, documents.replace_one(filter, &document).upsert(true)).await.map(drop)
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
        // For the server 0 would mean all.
        if limit <= 0 {
            return Ok(Vec::new());
        }
        // Compares for equality whatever the value is, even a document with operators.
        let mut filter = filter
            .into_iter()
            .map(|(field, value)| (field, doc! { "$eq": value }.into()))
            .collect::<Document>();
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        self.find_sorted(collection, filter, Order::Ascending, limit).await
    }

    async fn find_ids(
        &self,
        collection: &str,
        first: RecordId,
        end: RecordId,
        order: Order,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError> {
        if limit <= 0 {
            return Ok(Vec::new());
        }
        let filter = doc! { "_id": { "$gte": bson::Binary::from(first), "$lt": bson::Binary::from(end) } };
        self.find_sorted(collection, filter, order, limit).await
    }

    async fn find_by_ids(&self, collection: &str, ids: Vec<Bson>) -> Result<Vec<Document>, CoredmsError> {
        let ids: Vec<Bson> = ids.into_iter().filter(precheck::can_identify).collect();
        // One reply for all: by default the first one would hold 101 documents.
        let batch = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        if batch == 0 {
            return Ok(Vec::new());
        }
        let documents = self.collection::<RawDocumentBuf>(collection);
        let find = documents.find(doc! { "_id": { "$in": ids } }).batch_size(batch);
        self.decoded(async { find.await?.try_collect().await }).await
    }

    async fn select(&self, collection: &str, selection: Selection) -> Result<Selected, CoredmsError> {
        select::select(self, collection, &selection).await
    }

    async fn distinct(
        &self,
        collection: &str,
        field: &str,
        from: Bound<Bson>,
        limit: usize,
    ) -> Result<Vec<Bson>, CoredmsError> {
        select::distinct(self, collection, field, from, limit).await
    }

    async fn merge(&self, collection: &str, merges: Vec<Merge>) -> Result<(), CoredmsError> {
        merge::merge(self, collection, &merges).await
    }

    async fn count(&self, collection: &str) -> Result<u64, CoredmsError> {
        let documents = self.collection::<Document>(collection);
        self.scan("count documents", documents.count_documents(doc! {})).await
    }

    async fn count_ids(&self, collection: &str, first: RecordId, end: RecordId) -> Result<u64, CoredmsError> {
        let documents = self.collection::<Document>(collection);
        self.scan("count records", documents.count_documents(id_range(first, end))).await
    }

    async fn missing_ids(&self, collection: &str, ids: Vec<Bson>) -> Result<Vec<usize>, CoredmsError> {
        audit::missing_ids(self, collection, ids).await
    }

    async fn count_by(
        &self,
        collection: &str,
        field: &str,
        values: Vec<String>,
    ) -> Result<BTreeMap<String, u64>, CoredmsError> {
        audit::count_by(self, collection, field, values).await
    }
}

#[async_trait]
impl Objects for MongoStore {
    async fn put_chunks(
        &self,
        bucket: &str,
        id: IngestionId,
        offset: u64,
        content: Bytes,
    ) -> Result<(), CoredmsError> {
        objects::put_chunks(self, bucket, id, offset, content).await
    }

    async fn commit_object(&self, bucket: &str, object: &Object) -> Result<bool, CoredmsError> {
        objects::commit(self, bucket, object).await
    }

    async fn object(&self, bucket: &str, id: IngestionId) -> Result<Option<Vec<u8>>, CoredmsError> {
        objects::read(self, bucket, id).await
    }

    async fn read_object(
        &self,
        bucket: &str,
        id: IngestionId,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, CoredmsError> {
        objects::read_range(self, bucket, id, range).await
    }

    async fn extent(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<Extent, CoredmsError> {
        audit::extent(self, bucket, id, range).await
    }

    async fn chunks(&self, bucket: &str, id: IngestionId, range: Range<u64>) -> Result<u64, CoredmsError> {
        audit::chunks(self, bucket, id, range).await
    }
}

fn id_range(first: RecordId, end: RecordId) -> Document {
    doc! { "_id": { "$gte": bson::Binary::from(first), "$lt": bson::Binary::from(end) } }
}

impl MongoStore {
    async fn find_sorted(
        &self,
        collection: &str,
        filter: Document,
        order: Order,
        limit: i64,
    ) -> Result<Vec<Document>, CoredmsError> {
        let direction = match order {
            Order::Ascending => 1,
            Order::Descending => -1,
        };
        // Raw: decoding through serde would take a field such as `$date` for a date.
        let documents = self.collection::<RawDocumentBuf>(collection);
        let find = async {
            let cursor = documents.find(filter).sort(doc! { "_id": direction }).limit(limit).await?;
            cursor.try_collect().await
        };
        self.decoded(find).await
    }

    /// Decodes what a `find` returns, field by field.
    async fn decoded(
        &self,
        find: impl Future<Output = DriverResult<Vec<RawDocumentBuf>>>,
    ) -> Result<Vec<Document>, CoredmsError> {
        let operation = "find documents";
        let found = self.scan(operation, find).await?;
        let decoded = found.iter().map(|raw| Document::try_from(raw.as_ref())).collect::<Result<_, _>>();
        decoded.map_err(|error| self.refused(operation, error))
    }

    async fn create_index(&self, collection: &str, keys: Document, unique: bool) -> Result<(), CoredmsError> {
        let options = unique.then(|| IndexOptions::builder().unique(true).build());
        let model = IndexModel::builder().keys(keys).options(options).build();
        let documents = self.collection::<Document>(collection);
        self.scan("create an index", documents.create_index(model)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (url, expected) in [
            ("mongodb://127.0.0.1:27017/?directConnection=true", "mongodb://127.0.0.1:27017"),
            ("mongodb://user:secret@a:1,b:2/db?w=1", "mongodb://a:1,b:2"),
            ("mongodb+srv://user:secret@cluster.example.org", "mongodb+srv://cluster.example.org"),
            ("mongodb://user:sec/ret@a:1", "mongodb://…"),
            ("mongodb://user:sec@ret@a:1", "mongodb://a:1"),
        ] {
            assert_eq!(redacted(url), expected);
        }
    }

    #[tokio::test]
    async fn an_address_cannot_weaken_durability_but_can_set_other_options() {
        let complete = async |url: &str| {
            let mut options = ClientOptions::parse(url).await.expect("address");
            super::complete(&mut options);
            options
        };
        let near = complete("mongodb://localhost/?w=0").await;
        let concern = near.write_concern.expect("write concern");
        assert_eq!((concern.w, concern.journal), (Some(Acknowledgment::Majority), Some(true)));
        assert_eq!((near.compressors, near.server_selection_timeout), (None, Some(Duration::from_secs(5))));

        let far = complete("mongodb://db.example.org,[::1]/?serverSelectionTimeoutMS=70").await;
        assert_eq!(far.compressors, Some(vec![Compressor::Snappy]));
        assert_eq!(far.server_selection_timeout, Some(Duration::from_millis(70)));
        let given = ["", "?socketTimeoutMS=0", "?socketTimeoutMS=1500"];
        let times = given.map(|options| {
            take_message_time(
                &mut ConnectionString::parse(format!("mongodb://h/{options}")).expect("address"),
            )
        });
        assert_eq!(times, [30_000, 30_000, 1_500].map(Duration::from_millis));
        let requested = complete("mongodb://127.0.0.1/?compressors=zstd").await;
        assert!(
            matches!(requested.compressors.as_deref(), Some([Compressor::Zstd { .. }])),
            "{:?}",
            requested.compressors
        );
    }
}
