//! Looks into the MongoDB server at what has arrived.

use std::time::Duration;

use bson::{Document, doc};
use futures::{AsyncReadExt, TryStreamExt};
use mongodb::{Client, Collection, Database};

use crate::until_async;

/// The databases of one platform: its own, and one for each client.
#[derive(Clone, Debug)]
pub struct Store {
    client: Client,
    database: String,
}

impl Store {
    /// # Panics
    ///
    /// If the address is not valid.
    pub async fn new(url: &str, database: &str) -> Self {
        let client = Client::with_uri_str(url).await.expect("a valid address of MongoDB");
        Self { client, database: database.to_owned() }
    }

    /// The platform's own database.
    pub fn own(&self) -> Database {
        self.client.database(&self.database)
    }

    /// The database of a client.
    pub fn of(&self, client: &str) -> Database {
        self.client.database(&format!("{}_{client}", self.database))
    }

    pub fn collection(&self, client: &str, name: &str) -> Collection<Document> {
        self.of(client).collection(name)
    }

    /// How many documents a collection of a client has.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn count(&self, client: &str, collection: &str) -> u64 {
        self.collection(client, collection).count_documents(doc! {}).await.expect("count")
    }

    /// Waits until a collection of a client has at least `count` documents, and returns how many it has then.
    ///
    /// # Panics
    ///
    /// If it has fewer at the deadline.
    pub async fn until_count(&self, deadline: Duration, client: &str, collection: &str, count: u64) -> u64 {
        let documents = self.collection(client, collection);
        let what = format!("{client} has {count} documents in {collection}");
        until_async(deadline, &what, || async {
            // A server that a test has stopped answers again later.
            documents.count_documents(doc! {}).await.is_ok_and(|found| found >= count)
        })
        .await;
        self.count(client, collection).await
    }

    /// The documents of a collection of a client, in the order of their ids.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn documents(&self, client: &str, collection: &str) -> Vec<Document> {
        let documents = self.collection(client, collection);
        let found = documents.find(doc! {}).sort(doc! {"_id": 1}).await.expect("find");
        found.try_collect().await.expect("documents")
    }

    /// The history of a client's ingestions, in the order of their ends.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn history(&self, client: &str) -> Vec<Document> {
        let runs = self.own().collection::<Document>("ingestions");
        let found = runs.find(doc! {"client": client}).sort(doc! {"finished_at": 1}).await.expect("find");
        found.try_collect().await.expect("history")
    }

    /// Waits for the history document of a client's file, however it ended.
    ///
    /// # Panics
    ///
    /// If there is none at the deadline.
    pub async fn until_finished(&self, deadline: Duration, client: &str, file: &str) -> Document {
        let runs = self.own().collection::<Document>("ingestions");
        let query = || doc! {"client": client, "file": file};
        until_async(deadline, &format!("{file} of {client} is in the history"), || async {
            runs.find_one(query()).await.is_ok_and(|run| run.is_some())
        })
        .await;
        runs.find_one(query()).await.expect("find").expect("it was there a moment ago")
    }

    /// The content of the only object in a client's GridFS bucket.
    ///
    /// # Panics
    ///
    /// If there is none, or more than one.
    pub async fn only_object(&self, client: &str, bucket: &str) -> Vec<u8> {
        let options = mongodb::options::GridFsBucketOptions::builder().bucket_name(bucket.to_owned()).build();
        let bucket = self.of(client).gridfs_bucket(options);
        let objects: Vec<_> = bucket.find(doc! {}).await.expect("find").try_collect().await.expect("objects");
        let [object] = objects.as_slice() else { panic!("{} objects where one should be", objects.len()) };
        let mut content = Vec::new();
        let mut stream = bucket.open_download_stream(object.id.clone()).await.expect("object");
        stream.read_to_end(&mut content).await.expect("content");
        content
    }

    /// Removes the databases of this platform, so that a server which is shared does not fill up.
    pub async fn remove(&self) -> mongodb::error::Result<()> {
        let clients = format!("{}_", self.database);
        for name in self.client.list_database_names().await? {
            if name == self.database || name.starts_with(&clients) {
                self.client.database(&name).drop().await?;
            }
        }
        Ok(())
    }
}
