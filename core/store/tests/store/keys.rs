//! Documents under the client's keys, which the batch layer corrects.

use std::sync::Arc;

use bson::{Bson, DateTime, RawDocumentBuf, doc};
use mysimbdp_store::{Coredms, Written};

use crate::fixture::{TestDatabase, raw};

/// A version of a key: layer, seconds, ingestion and record.
#[derive(Clone, Copy, Debug)]
struct Version(&'static str, i64, &'static str, i64);

/// From the oldest to the newest.
const ASCENDING: [Version; 5] = [
    Version("stream", 900, "cc", 1),
    Version("batch", 100, "bb", 9),
    Version("batch", 200, "aa", 9),
    Version("batch", 200, "bb", 3),
    Version("batch", 200, "bb", 4),
];

fn document(key: impl Into<Bson>, Version(layer, seconds, ingestion, record): Version) -> RawDocumentBuf {
    let received_at = DateTime::from_millis(seconds * 1000);
    raw(doc! {
        "_id": key.into(),
        "_ingest": { "layer": layer, "received_at": received_at, "ingestion": ingestion, "record": record },
        "value": format!("{layer} {seconds} {ingestion} {record}"),
    })
}

async fn replace(store: &Arc<dyn Coredms>, documents: Vec<RawDocumentBuf>) -> Written {
    store.replace_older("latest", documents).await.expect("replace")
}

async fn value(store: &Arc<dyn Coredms>, key: impl Into<Bson>) -> String {
    let found = store.find("latest", doc! { "_id": key.into() }, 1).await.expect("find");
    found[0].get_str("value").expect("value").to_owned()
}

pub(crate) async fn an_older_version_never_replaces_a_newer_one_in_any_order(database: &TestDatabase) {
    let store = database.open().await;
    let versions = &ASCENDING[1..];
    let mut key = 0;
    for first in versions {
        for second in versions {
            key += 1;
            // A key of several fields, as clients may have.
            let id = doc! { "station": "JFK", "number": key };
            replace(&store, vec![document(id.clone(), *first)]).await;
            replace(&store, vec![document(id.clone(), *second)]).await;
            let newer =
                if format!("{:?}", rank(*first)) > format!("{:?}", rank(*second)) { first } else { second };
            let Version(layer, seconds, ingestion, record) = newer;
            assert_eq!(
                value(&store, id).await,
                format!("{layer} {seconds} {ingestion} {record}"),
                "{first:?} {second:?}"
            );
        }
    }

    let mixed = [versions[0], versions[3], versions[1], versions[2]].map(|version| document("JFK", version));
    let written = replace(&store, mixed.to_vec()).await;
    assert_eq!(written, Written { stored: 2, duplicates: vec![2, 3], rejected: vec![] });
}

fn rank(version: Version) -> usize {
    let same = |other: &Version| format!("{other:?}") == format!("{version:?}");
    ASCENDING.iter().position(same).expect("one of the versions")
}

pub(crate) async fn the_batch_layer_replaces_the_speed_layer_and_not_the_reverse(database: &TestDatabase) {
    let store = database.open().await;
    let [stream, batch, ..] = ASCENDING;
    assert_eq!(store.insert_many("latest", vec![document(1, stream)]).await.expect("stream").stored, 1);
    assert_eq!(replace(&store, vec![document(1, batch)]).await.stored, 1);
    let late = store.insert_many("latest", vec![document(1, stream)]).await.expect("stream again");
    assert_eq!(late.duplicates, [0]);
    assert_eq!(value(&store, 1).await, "batch 100 bb 9");

    let refused = replace(&store, vec![document(1, stream), document(2, batch)]).await;
    assert_eq!((refused.stored, refused.rejected.len()), (1, 1), "only the batch layer replaces");
}

pub(crate) async fn writing_the_same_record_again_counts_as_stored(database: &TestDatabase) {
    let store = database.open().await;
    let documents =
        || (0..3_000).map(|key| document(key, Version("batch", 100, "aa", key.into()))).collect::<Vec<_>>();
    for attempt in 1..=2 {
        let written = replace(&store, documents()).await;
        assert_eq!(written, Written { stored: 3_000, ..Written::default() }, "attempt {attempt}");
    }
    let newer = (0..1_500).map(|key| document(key, Version("batch", 200, "bb", 0)));
    assert_eq!(replace(&store, newer.collect()).await.stored, 1_500);
    let written = replace(&store, documents()).await;
    assert_eq!((written.stored, written.duplicates), (1_500, (0..1_500).collect()));
    assert_eq!(store.count("latest").await.expect("count"), 3_000);
}

pub(crate) async fn a_document_without_a_version_replaces_nothing_and_is_replaced(database: &TestDatabase) {
    let store = database.open().await;
    store.put("latest", doc! { "_id": "foreign", "value": "unversioned" }).await.expect("put");
    let documents = vec![raw(doc! { "_id": "foreign", "value": "new" }), document("other", ASCENDING[1])];
    let written = replace(&store, documents).await;
    assert_eq!((written.stored, written.rejected.len()), (1, 1));
    assert!(written.rejected[0].0 == 0 && written.rejected[0].1.contains("_ingest"), "{written:?}");
    assert_eq!(value(&store, "foreign").await, "unversioned");

    assert_eq!(replace(&store, vec![document("foreign", ASCENDING[1])]).await.stored, 1);
    assert_eq!(value(&store, "foreign").await, "batch 100 bb 9");
}

pub(crate) async fn a_replacement_that_breaks_the_validator_leaves_the_existing_document(
    database: &TestDatabase,
) {
    let store = database.open().await;
    let schema = doc! { "properties": { "value": { "enum": ["batch 100 bb 9", "batch 200 bb 4"] } } };
    store.ensure_collection("latest", Some(&schema)).await.expect("collection");
    assert_eq!(replace(&store, vec![document(1, ASCENDING[1])]).await.stored, 1);
    let large = raw(doc! { "_id": 2, "text": "x".repeat(16 << 20) });
    let written = replace(&store, vec![document(1, ASCENDING[2]), large, document(3, ASCENDING[4])]).await;
    assert_eq!((written.stored, written.rejected.len()), (1, 2));
    assert!(written.rejected[0].0 == 0 && written.rejected[0].1.contains("value"), "{written:?}");
    assert_eq!(value(&store, 1).await, "batch 100 bb 9");
}

pub(crate) async fn concurrent_writers_leave_the_newest_version(database: &TestDatabase) {
    let write = async |newest_last: bool| {
        let store = database.open().await;
        let mut seconds = (1..=20).collect::<Vec<_>>();
        if !newest_last {
            seconds.reverse();
        }
        for second in seconds {
            let documents = (0..50).map(|key| document(key, Version("batch", second, "aa", 0)));
            let written = replace(&store, documents.collect()).await;
            assert_eq!(written.stored as usize + written.duplicates.len(), 50, "{written:?}");
        }
    };
    tokio::join!(write(true), write(false), write(true));
    let store = database.open().await;
    let found = store.find("latest", doc! { "value": "batch 20 aa 0" }, 100).await.expect("find");
    assert_eq!((found.len(), store.count("latest").await.expect("count")), (50, 50));
}
