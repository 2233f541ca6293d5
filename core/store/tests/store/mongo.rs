//! What only a server can do: fail, and be read by other drivers.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use futures::{AsyncReadExt, TryStreamExt};
use mongodb::IndexModel;
use mongodb::options::IndexOptions;
use mysimbdp_model::error_chain;
use mysimbdp_store::{Coredms, CoredmsError, Documents, MongoStore};
use mysimbdp_testbed::{self as testbed, SOON};

use crate::fixture::{TestDatabase, raw};
use crate::objects::{content, object};

fn documents() -> Vec<bson::RawDocumentBuf> {
    vec![raw(doc! { "_id": 1 })]
}

/// Returns the error of a write that must fail as unavailable within `limit`.
async fn unavailable(store: &dyn Coredms, limit: Duration) -> CoredmsError {
    let start = Instant::now();
    let error = store.insert_many("records", documents()).await.expect_err("no server");
    assert!(error.is_retryable(), "{}", error_chain(&error));
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    error
}

#[tokio::test]
async fn without_a_server_a_write_is_unavailable_within_the_timeout() {
    let url = format!("mongodb://somebody:secret@127.0.0.1:{}", testbed::free_port());
    let store = mysimbdp_store::open(&url, "test").await.expect("address");
    let error = unavailable(&*store, Duration::from_secs(10)).await;
    let text = error_chain(&error);
    assert!(text.contains("127.0.0.1") && !text.contains("secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_is_used_again_after_its_restart() {
    let mut server = testbed::Mongod::start();
    let store = mysimbdp_store::open(&server.url(), "test").await.expect("address");
    assert_eq!(store.insert_many("records", documents()).await.expect("insert").stored, 1);
    server.kill9();
    unavailable(&*store, Duration::from_secs(15)).await;
    server.restart();
    testbed::until_async(SOON, "the store answers", async || store.ping().await.is_ok()).await;
    assert_eq!(store.insert_many("records", documents()).await.expect("insert").duplicates, [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_unavailable_within_the_timeout() {
    let mut server = testbed::Mongod::start();
    let store = MongoStore::open(&server.url(), "test").await.expect("address");
    let store = store.with_message_timeout(Duration::from_secs(2));
    store.ping().await.expect("ping");
    server.pause();
    unavailable(&store, Duration::from_secs(10)).await;
    server.resume();
    testbed::until_async(SOON, "the store takes writes", async || {
        store.insert_many("records", documents()).await.is_ok()
    })
    .await;
    assert_eq!(store.count("records").await.expect("count"), 1);
}

#[tokio::test]
async fn wrong_credentials_are_refused() {
    let server = testbed::mongodb();
    let url = server.url().replace("mongodb://", "mongodb://somebody:secret@");
    let store = mysimbdp_store::open(&url, "test").await.expect("address");
    let error = store.insert_many("records", documents()).await.expect_err("wrong credentials");
    assert!(matches!(error, CoredmsError::Refused { .. }), "{}", error_chain(&error));
    assert!(!error_chain(&error).contains("secret"), "{}", error_chain(&error));
}

#[tokio::test]
async fn a_violation_of_another_unique_index_is_rejected_and_not_a_duplicate() {
    let database = TestDatabase::mongodb();
    let store = database.open().await;
    let options = IndexOptions::builder().unique(true).build();
    let index = IndexModel::builder().keys(doc! { "number": 1 }).options(options).build();
    database.driver().await.collection::<Document>("records").create_index(index).await.expect("index");

    let documents =
        [(1, 1), (2, 1), (1, 1), (3, 2)].map(|(id, number)| raw(doc! { "_id": id, "number": number }));
    let written = store.insert_many("records", documents.to_vec()).await.expect("insert");
    assert_eq!((written.stored, &written.duplicates[..]), (2, &[2][..]));
    assert!(matches!(&written.rejected[..], [(1, reason)] if reason.contains("number")), "{written:?}");
    database.remove().await;
}

#[tokio::test]
async fn thousands_of_documents_that_break_many_rules_do_not_outgrow_the_reply() {
    let database = TestDatabase::mongodb();
    let store = database.open().await;
    let fields = (0..40).map(|number| format!("field_with_a_long_name_{number}")).collect::<Vec<_>>();
    let rules =
        fields.iter().map(|field| (field.clone(), doc! { "bsonType": "double", "minimum": 5 }.into()));
    let schema = doc! { "properties": rules.collect::<Document>() };
    store.ensure_collection("records", Some(&schema)).await.expect("collection");
    let values =
        fields.iter().map(|field| (field.clone(), "not a number at all".into())).collect::<Document>();
    let documents = (0..5_000).map(|id| {
        let mut document = doc! { "_id": id };
        document.extend(values.clone());
        raw(document)
    });
    let written = store.insert_many("records", documents.collect()).await.expect("insert");
    assert_eq!((written.stored, written.rejected.len()), (0, 5_000));
    assert!(written.rejected.iter().all(|(_, reason)| reason.contains("field_with_a_long_name_0")));
    database.remove().await;
}

#[tokio::test]
async fn any_driver_reads_the_object_by_its_name() {
    let database = TestDatabase::mongodb();
    let store = database.open().await;
    let content = content(3_000_000);
    let object = object("weather.csv", content.len());
    store.put_chunks("fs", object.id, 0, content.clone()).await.expect("put");
    store.commit_object("fs", &object).await.expect("commit");

    let driver = database.driver().await;
    let mut stream =
        driver.gridfs_bucket(None).open_download_stream_by_name("weather.csv").await.expect("open");
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.expect("read");
    assert!(read == content, "{} bytes differ from {}", read.len(), content.len());

    let indexes = driver.collection::<Document>("fs.chunks").list_indexes().await.expect("indexes");
    let indexes: Vec<IndexModel> = indexes.try_collect().await.expect("indexes");
    let unique = |index: &IndexModel| {
        index.keys == doc! { "files_id": 1, "n": 1 }
            && index.options.as_ref().and_then(|options| options.unique) == Some(true)
    };
    assert!(indexes.iter().any(unique), "{indexes:?}");
    database.remove().await;
}
