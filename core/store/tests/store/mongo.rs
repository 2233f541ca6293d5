//! What only a server can do: fail, and be read by other drivers.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use futures::{AsyncReadExt, StreamExt, TryStreamExt};
use mongodb::IndexModel;
use mongodb::options::IndexOptions;
use mysimbdp_model::error_chain;
use mysimbdp_store::{
    CHUNK_BYTES, Coredms, CoredmsError, Documents, MongoStore, Order, Position, Selection, whole,
};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_ends_a_selection_with_an_error_and_not_with_the_last_document() {
    let mut server = testbed::Mongod::start();
    let store = mysimbdp_store::open(&server.url(), "test").await.expect("address");
    let many = (0..10_000).map(|id| raw(doc! { "_id": id }));
    store.insert_many("records", many.collect()).await.expect("insert");
    let mut selected = store.select("records", Selection::ordered_by("_id")).await.expect("select");
    selected.next().await.expect("a document").expect("read");
    server.kill9();
    let error = loop {
        match selected.next().await.expect("the end would be wrong") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable(), "{}", error_chain(&error));
    assert!(selected.next().await.is_none());
    let error = store.select("records", Selection::ordered_by("_id")).await.err().expect("no server");
    assert!(error.is_retryable(), "{}", error_chain(&error));
}

/// Runs a selection through the server's profiler; returns how many documents it returned, and how many keys and documents
/// it examined.
async fn examined(store: &dyn Coredms, driver: &mongodb::Database, selection: Selection) -> [i64; 3] {
    let profile = driver.collection::<Document>("system.profile");
    driver.run_command(doc! { "profile": 2 }).await.expect("profile");
    let documents: Vec<_> =
        store.select("measured", selection.clone()).await.expect("select").try_collect().await.expect("read");
    driver.run_command(doc! { "profile": 0 }).await.expect("profile");
    let entries = profile.find(doc! { "ns": format!("{}.measured", driver.name()) });
    let entries: Vec<Document> = entries.await.expect("find").try_collect().await.expect("find");
    profile.drop().await.expect("drop");
    let sum = |field: &str| entries.iter().map(|entry| whole(entry.get(field)) as i64).sum::<i64>();
    assert!(entries.iter().all(|entry| !entry.contains_key("hasSortStage")), "{entries:?}");
    [documents.len() as i64, sum("keysExamined"), sum("docsExamined")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_a_field_are_listed_by_one_lookup_each() {
    let database = TestDatabase::mongodb();
    let (store, driver) = (database.open().await, database.driver().await);
    let of = |id: i32| raw(doc! { "_id": id, "in": { "side": format!("s{}", id % 20) }, "at": id });
    store.insert_many("measured", (0..10_000).map(of).collect()).await.expect("insert");
    store.ensure_index("measured", &["in.side", "at", "_id"]).await.expect("index");
    driver.run_command(doc! { "profile": 2 }).await.expect("profile");
    let from = std::ops::Bound::Included("".into());
    assert_eq!(store.distinct("measured", "in.side", from, 1_000).await.expect("values").len(), 20);
    driver.run_command(doc! { "profile": 0 }).await.expect("profile");
    let profile = driver.collection::<Document>("system.profile");
    let entry = profile.find_one(doc! { "command.aggregate": "measured" }).await.expect("find");
    let entry = entry.expect("an entry");
    let examined = (whole(entry.get("keysExamined")), whole(entry.get("docsExamined")));
    assert!(examined.0 <= 50 && examined.1 == 0, "{entry}");
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selection_examines_about_what_it_returns() {
    let database = TestDatabase::mongodb();
    let (store, driver) = (database.open().await, database.driver().await);
    let of = |id: i32| raw(doc! { "_id": id, "in": { "side": id % 2 }, "at": id / 10_000 });
    for first in (0..100_000).step_by(10_000) {
        store.insert_many("measured", (first..first + 10_000).map(of).collect()).await.expect("insert");
    }
    store.ensure_index("measured", &["in.side", "at", "_id"]).await.expect("index");
    let first = Selection { filter: doc! { "in.side": 1 }, limit: Some(100), ..Selection::ordered_by("at") };
    let after = |value: i32, id: i32| Some(Position { value: value.into(), id: id.into() });
    for (name, selection) in [
        ("first page", first.clone()),
        ("within equal values", Selection { after: after(3, 35_555), ..first.clone() }),
        ("from the last of equal values on", Selection { after: after(3, 39_999), ..first.clone() }),
        ("descending", Selection { order: Order::Descending, after: after(3, 35_555), ..first.clone() }),
        (
            "bounded",
            Selection {
                from: Some(2.into()),
                until: Some(5.into()),
                after: after(3, 35_555),
                ..first.clone()
            },
        ),
        (
            "all of a value",
            Selection { from: Some(2.into()), until: Some(3.into()), limit: None, ..first.clone() },
        ),
    ] {
        let [returned, keys, documents] = examined(&*store, &driver, selection).await;
        println!("{name}: {returned} returned, {keys} keys and {documents} documents examined");
        assert!(returned >= 100, "{name}: {returned}");
        assert!(
            keys <= returned + 30 && documents <= returned + 5,
            "{name}: {returned}, {keys}, {documents}"
        );
    }
    database.remove().await;
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
async fn a_range_with_a_missing_chunk_is_incomplete() {
    let database = TestDatabase::mongodb();
    let store = database.open().await;
    let chunk = u64::from(CHUNK_BYTES);
    let object = object("missing.csv", 3 * CHUNK_BYTES as usize);
    store.put_chunks("fs", object.id, 0, content(3 * CHUNK_BYTES as usize)).await.expect("put");
    store.commit_object("fs", &object).await.expect("commit");
    let chunks = database.driver().await.collection::<Document>("fs.chunks");
    chunks.delete_one(doc! { "n": 1 }).await.expect("delete");
    let error = store.read_object("fs", object.id, 5..2 * chunk).await.expect_err("a chunk is missing");
    assert!(matches!(error, CoredmsError::Incomplete { found, .. } if found == 2 * chunk), "{error}");
    assert!(store.read_object("fs", object.id, 5..chunk).await.expect("read").is_some());
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
