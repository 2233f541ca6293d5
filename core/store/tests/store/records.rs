//! Records with ids of the platform.

use bson::{Binary, Bson, DateTime, Document, RawDocumentBuf, doc};
use mysimbdp_store::Written;

use crate::fixture::{TestDatabase, ingestion, raw};

/// Records `from..end` of a file.
fn records(from: u64, end: u64) -> Vec<RawDocumentBuf> {
    let ingestion = ingestion("records");
    let record =
        |number| raw(doc! { "_id": Binary::from(ingestion.record_id(number)), "number": number as i64 });
    (from..end).map(record).collect()
}

pub(crate) async fn an_existing_id_is_a_duplicate(database: &TestDatabase) {
    let store = database.open().await;
    let first = store.insert_many("records", records(2, 5)).await.expect("first insert");
    assert_eq!(first, Written { stored: 3, ..Written::default() });

    let second = store.insert_many("records", records(0, 7)).await.expect("second insert");
    assert_eq!(second, Written { stored: 4, duplicates: vec![2, 3, 4], rejected: vec![] });
    assert_eq!(store.count("records").await.expect("count"), 7);
}

pub(crate) async fn an_id_twice_in_one_call_is_stored_once(database: &TestDatabase) {
    let store = database.open().await;
    // These ids are equal whatever their types.
    let documents =
        vec![raw(doc! { "_id": 5, "a": 1 }), raw(doc! { "_id": 5_i64, "a": 2 }), raw(doc! { "_id": 5.0 })];
    let written = store.insert_many("records", documents).await.expect("insert");
    assert_eq!(written, Written { stored: 1, duplicates: vec![1, 2], rejected: vec![] });
    let found = store.find("records", doc! { "_id": 5 }, 10).await.expect("find");
    assert_eq!(found, [doc! { "_id": 5, "a": 1 }]);
}

pub(crate) async fn ten_thousand_records_are_stored_and_counted_by_id(database: &TestDatabase) {
    let store = database.open().await;
    let written = store.insert_many("records", records(0, 10_000)).await.expect("insert");
    assert_eq!(written.stored, 10_000);
    let again = store.insert_many("records", records(0, 10_000)).await.expect("insert again");
    assert_eq!((again.stored, again.duplicates.len(), again.rejected.len()), (0, 10_000, 0));
    assert!(again.duplicates.iter().copied().eq(0..10_000));

    let ingestion = ingestion("records");
    for (first, end, count) in [(0, 10_000, 10_000), (250, 300, 50), (9_990, 20_000, 10), (5, 5, 0)] {
        let counted = store.count_ids("records", ingestion.record_id(first), ingestion.record_id(end)).await;
        assert_eq!(counted.expect("count by ids"), count, "{first}..{end}");
    }
}

pub(crate) async fn a_document_over_16_mib_is_rejected_alone(database: &TestDatabase) {
    let store = database.open().await;
    let large = |id, bytes: usize| raw(doc! { "_id": id, "text": "x".repeat(bytes) });
    let documents = vec![large(0, 10), large(1, 16 << 20), large(2, (16 << 20) - 100), large(3, 10)];
    let written = store.insert_many("records", documents).await.expect("insert");
    assert_eq!(written.stored, 3);
    assert!(matches!(&written.rejected[..], [(1, reason)] if reason.contains("16777216")), "{written:?}");
}

pub(crate) async fn documents_that_no_store_accepts_are_rejected_with_their_positions(
    database: &TestDatabase,
) {
    let store = database.open().await;
    let deep = (0..150).fold(Bson::Int32(1), |inner, _| Bson::Document(doc! { "d": inner }));
    let documents = vec![
        raw(doc! { "_id": 0 }),
        raw(doc! { "a": 1 }),
        raw(doc! { "_id": [1] }),
        raw(doc! { "_id": 3, "deep": deep }),
        raw(doc! { "_id": 4 }),
    ];
    let written = store.insert_many("records", documents).await.expect("insert");
    assert_eq!(written.stored, 2);
    assert_eq!(written.rejected.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(store.count("records").await.expect("count"), 2);
}

async fn stored_and_read(database: &TestDatabase, document: Document) -> Document {
    let store = database.open().await;
    let written = store.insert_many("records", vec![raw(document.clone())]).await.expect("insert");
    assert_eq!(written.stored, 1, "{written:?}");
    let id = document.get("_id").cloned().expect("an _id");
    store.find("records", doc! { "_id": id }, 1).await.expect("find").remove(0)
}

pub(crate) async fn values_are_preserved(database: &TestDatabase) {
    let document = doc! {
        "_id": Binary::from(ingestion("values").record_id(0)), "double": 0.1 + 0.2, "whole": 5.0, "int": 7,
        "long": i64::MAX, "date": DateTime::from_millis(1_357_016_400_123), "null": Bson::Null, "truth": true,
        "text": "line\nbreak \u{1F600} \"quoted\" \u{0}", "naïve ключ": { "tiefer": [1, 2.5, { "x": Bson::Null }] },
        "infinite": f64::NEG_INFINITY, "early": DateTime::from_millis(-86_400_000), "empty": {}, "none": [],
    };
    assert_eq!(stored_and_read(database, document.clone()).await, document);
}

pub(crate) async fn fields_with_dollars_and_dots_are_preserved(database: &TestDatabase) {
    let document = doc! {
        "_id": 1, "a.b": 1, "inner": { "$date": "not a date", "$oid": 5 }, "list": [{ "$numberLong": "x" }],
    };
    assert_eq!(stored_and_read(database, document.clone()).await, document);
}

pub(crate) async fn an_empty_write_writes_nothing(database: &TestDatabase) {
    let store = database.open().await;
    assert_eq!(store.insert_many("records", vec![]).await.expect("insert"), Written::default());
    assert_eq!(store.replace_older("records", vec![]).await.expect("replace"), Written::default());
}

pub(crate) async fn stored_documents_survive_reopening(database: &TestDatabase) {
    let store = database.open().await;
    store.ping().await.expect("ping");
    store.insert_many("records", records(0, 100)).await.expect("insert");
    store.close().await;
    assert!(!store.insert_many("records", records(0, 1)).await.expect_err("closed").is_retryable());

    let store = database.open().await;
    assert_eq!(store.count("records").await.expect("count"), 100);
}

pub(crate) async fn concurrent_writers_store_each_record_once(database: &TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    let write = async |store: &dyn mysimbdp_store::Coredms| {
        let mut stored = 0;
        for first in (0..2_000).step_by(100) {
            stored += store.insert_many("records", records(first, first + 100)).await.expect("insert").stored;
        }
        stored
    };
    let (by_one, by_other) = tokio::join!(write(&*one), write(&*other));
    assert_eq!(by_one + by_other, 2_000);
    assert_eq!(one.count("records").await.expect("count"), 2_000);
}
