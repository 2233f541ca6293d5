//! A database of one of the stores, for one test.

use std::sync::Arc;

use bson::{Document, RawDocumentBuf};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::{Hasher, IngestionId};
use mysimbdp_store::Coredms;
use mysimbdp_testbed as testbed;

pub(crate) struct TestDatabase {
    pub(crate) url: String,
    pub(crate) database: String,
    directory: Option<tempfile::TempDir>,
}

impl TestDatabase {
    pub(crate) fn mongodb() -> Self {
        let url = testbed::mongodb().url().to_owned();
        Self { url, database: testbed::unique("coredms"), directory: None }
    }

    pub(crate) fn embedded() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let url = format!("sqlite:{}", directory.path().display());
        Self { url, database: "coredms".to_owned(), directory: Some(directory) }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Coredms> {
        mysimbdp_store::open(&self.url, &self.database).await.expect("an address of a store")
    }

    /// Opens the same database with the driver alone.
    pub(crate) async fn driver(&self) -> mongodb::Database {
        mongodb::Client::with_uri_str(&self.url).await.expect("MongoDB address").database(&self.database)
    }

    pub(crate) async fn remove(self) {
        match self.directory {
            Some(directory) => directory.close().expect("remove temporary directory"),
            None => self.driver().await.drop().await.expect("drop the test's database"),
        }
    }
}

pub(crate) fn raw(document: Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&document).expect("encodable")
}

/// Returns the identity of a content.
pub(crate) fn ingestion(content: &str) -> IngestionId {
    let client: ClientId = "client1".parse().expect("client id");
    IngestionId::new(&client, &Hasher::new().update(content.as_bytes()).finalize())
}
