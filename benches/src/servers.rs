//! The servers of one case, fresh, and the database as the harness sees it.

use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::options::{Acknowledgment, CollectionOptions, WriteConcern};
use mongodb::{Client, Collection, Database};
use mysimbdp_testbed::{Mongod, Mosquitto};

use crate::failure::{BenchError, Result};
use crate::wait::until;

/// What takes longer does not end.
pub const DEADLINE: Duration = Duration::from_secs(600);

/// As `docs/operations.md` has them.
const BROKER_SETTINGS: &str = "autosave_interval 30\nmax_inflight_messages 1000\n";

/// A mongod that is a replica set of one member, and a mosquitto.
#[derive(Debug)]
pub struct Servers {
    pub client: Client,
    pub mongod: Mongod,
    pub mosquitto: Mosquitto,
}

impl Servers {
    /// # Panics
    ///
    /// If a server is not installed or does not start.
    pub async fn start() -> Result<Self> {
        let (mongod, mosquitto) = (Mongod::start_large(), Mosquitto::with(BROKER_SETTINGS));
        let client = Client::with_uri_str(mongod.url()).await.map_err(BenchError::of("connect to mongod"))?;
        Ok(Self { client, mongod, mosquitto })
    }

    pub fn database(&self, name: &str) -> Database {
        self.client.database(name)
    }
}

/// A collection with the platform's own write concern: majority, and on disk in the journal.
pub fn durable(database: &Database, name: &str) -> Collection<RawDocumentBuf> {
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    database.collection_with_options(name, CollectionOptions::builder().write_concern(concern).build())
}

/// Counts without a scan.
pub async fn count(collection: &Collection<RawDocumentBuf>) -> Result<u64> {
    let count = collection.estimated_document_count().await;
    count.map_err(BenchError::of(format!("count {}", collection.name())))
}

/// Returns when the collection has so many documents and all of them are durable.
///
/// The server counts a document when it is written. One more write, acknowledged by majority and journal, is
/// acknowledged only when everything before it is, so the time after it is late by at most that write.
///
/// # Errors
///
/// They do not come in time, or the server does not answer.
pub async fn until_durable(database: &Database, collection: &str, documents: u64) -> Result<()> {
    let stored = durable(database, collection);
    let what = format!("{documents} documents are in {}.{collection}", database.name());
    until(DEADLINE, &what, async || Ok(count(&stored).await? >= documents)).await?;
    barrier(database).await
}

/// Returns when everything that has been written so far is durable.
pub async fn barrier(database: &Database) -> Result<()> {
    let written = durable(database, "barrier").insert_one(RawDocumentBuf::new()).await;
    written.map(drop).map_err(BenchError::of("write the barrier"))
}

/// All documents of a collection, as they are.
pub async fn documents(database: &Database, collection: &str) -> Result<Vec<RawDocumentBuf>> {
    let failed = format!("read {}.{collection}", database.name());
    let found = durable(database, collection).find(doc! {}).await.map_err(BenchError::of(failed.clone()))?;
    found.try_collect().await.map_err(BenchError::of(failed))
}

/// Removes a database, so that every round finds the same: nothing.
pub async fn clear(database: &Database) -> Result<()> {
    database.drop().await.map_err(BenchError::of(format!("drop {}", database.name())))
}

/// The documents of any collection.
pub async fn found(database: &Database, collection: &str, filter: Document) -> Result<Vec<Document>> {
    let failed = format!("search {}.{collection}", database.name());
    let found = database.collection::<Document>(collection).find(filter).await;
    found.map_err(BenchError::of(failed.clone()))?.try_collect().await.map_err(BenchError::of(failed))
}
