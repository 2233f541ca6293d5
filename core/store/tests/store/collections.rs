//! Validators, and the platform's own documents.

use bson::{Binary, Bson, DateTime, Document, doc};

use crate::fixture::{TestDatabase, ingestion, raw};

fn temperature_is(kind: &str) -> Document {
    doc! { "bsonType": "object", "required": ["_id", "temp"], "properties": { "temp": { "bsonType": kind } } }
}

pub(crate) async fn a_dropped_database_is_empty_and_can_be_used_again(database: &TestDatabase) {
    let store = database.open().await;
    store.insert_many("weather", vec![raw(doc! { "_id": 1 })]).await.expect("insert");
    let id = ingestion("content");
    store.put_chunks("objects", id, 0, "content".into()).await.expect("chunks");
    store.drop_database().await.expect("drop");
    assert_eq!(store.count("weather").await.expect("count"), 0);
    assert_eq!(store.extent("objects", id, 0..7).await.expect("extent").bytes, 0);
    let written = store.insert_many("weather", vec![raw(doc! { "_id": 1 })]).await.expect("insert");
    assert_eq!(written.stored, 1);
}

pub(crate) async fn documents_that_break_the_validator_are_rejected_with_position_and_field(
    database: &TestDatabase,
) {
    let store = database.open().await;
    store.ensure_collection("weather", Some(&temperature_is("double"))).await.expect("collection");
    let documents = (0..100).map(|number| match number {
        7 => raw(doc! { "_id": number, "temp": "warm" }),
        42 => raw(doc! { "_id": number, "wind": 1.0 }),
        99 => raw(doc! { "_id": number, "temp": 5 }),
        _ => raw(doc! { "_id": number, "temp": 5.0 }),
    });
    let written = store.insert_many("weather", documents.collect()).await.expect("insert");
    assert_eq!((written.stored, written.duplicates.len()), (97, 0));
    assert_eq!(written.rejected.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [7, 42, 99]);
    for (_, reason) in &written.rejected {
        assert!(reason.contains("temp"), "{reason}");
    }
    assert!(
        written.rejected[0].1.contains("warm") && written.rejected[0].1.contains("double"),
        "{written:?}"
    );
}

pub(crate) async fn a_rejected_value_may_look_like_extended_json(database: &TestDatabase) {
    let store = database.open().await;
    store.ensure_collection("weather", Some(&temperature_is("double"))).await.expect("collection");
    let documents = || {
        let ingest =
            doc! { "layer": "batch", "received_at": DateTime::from_millis(0), "ingestion": "a", "record": 1 };
        let odd = doc! { "_id": 1, "_ingest": &ingest, "temp": { "$date": "no date" } };
        vec![raw(odd), raw(doc! { "_id": 2, "_ingest": &ingest, "temp": 1.0 })]
    };
    for written in [
        store.insert_many("weather", documents()).await.expect("insert"),
        store.replace_older("weather", documents()).await.expect("replace"),
    ] {
        assert_eq!(
            (written.stored, written.duplicates.len(), written.rejected.len()),
            (1, 0, 1),
            "{written:?}"
        );
    }
}

pub(crate) async fn a_validator_can_be_set_again_changed_and_removed(database: &TestDatabase) {
    let store = database.open().await;
    let stored = async |id: i32, temp: Bson| {
        let documents = vec![raw(doc! { "_id": id, "temp": temp })];
        store.insert_many("weather", documents).await.expect("insert").stored
    };
    store.ensure_collection("weather", Some(&temperature_is("double"))).await.expect("first");
    store.ensure_collection("weather", Some(&temperature_is("double"))).await.expect("the same");
    assert_eq!((stored(1, 1.0.into()).await, stored(2, "1".into()).await), (1, 0));

    // Wrapped in its keyword, as in MongoDB's own documentation.
    let named = doc! { "$jsonSchema": temperature_is("string") };
    store.ensure_collection("weather", Some(&named)).await.expect("changed");
    assert_eq!((stored(3, 1.0.into()).await, stored(4, "1".into()).await), (0, 1));

    store.ensure_collection("weather", None).await.expect("remove");
    assert_eq!((stored(5, 1.0.into()).await, stored(6, "1".into()).await), (1, 1));
}

pub(crate) async fn concurrent_creators_of_a_collection_both_succeed(database: &TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    for number in 0..10 {
        let name = format!("weather{number}");
        let (schema, collection) = (temperature_is("double"), name.as_str());
        let create = |store: std::sync::Arc<dyn mysimbdp_store::Coredms>| {
            let schema = schema.clone();
            async move { store.ensure_collection(collection, Some(&schema)).await }
        };
        let (first, second) = tokio::join!(create(one.clone()), create(other.clone()));
        first.expect("first creator");
        second.expect("second creator");
        let wrong = vec![raw(doc! { "_id": 1, "temp": "warm" })];
        assert_eq!(one.insert_many(&name, wrong).await.expect("insert").rejected.len(), 1);
    }
}

pub(crate) async fn put_inserts_and_replaces(database: &TestDatabase) {
    let store = database.open().await;
    for state in ["held", "ingested"] {
        store
            .put("ingestions", doc! { "_id": "run", "state": state, "gone": state == "held" })
            .await
            .expect("put");
    }
    let found = store.find("ingestions", doc! {}, 10).await.expect("find");
    assert_eq!(found, [doc! { "_id": "run", "state": "ingested", "gone": false }]);
    assert!(!store.put("ingestions", doc! { "state": "held" }).await.expect_err("no _id").is_retryable());
}

pub(crate) async fn find_returns_equal_documents_in_order_of_ids(database: &TestDatabase) {
    let store = database.open().await;
    store.ensure_index("ingestions", &["client", "state"]).await.expect("index");
    let ids = ["b", "a", "d", "c", "e"];
    for (number, id) in ids.iter().enumerate() {
        let client = if number % 2 == 0 { "even" } else { "odd" };
        store
            .put("ingestions", doc! { "_id": id, "client": client, "number": number as i64 })
            .await
            .expect("put");
    }
    let found = async |filter: Document, limit: i64| {
        let found = store.find("ingestions", filter, limit).await.expect("find");
        found
            .iter()
            .map(|document| document.get_str("_id").expect("id").to_owned())
            .collect::<Vec<_>>()
            .concat()
    };
    assert_eq!(found(doc! {}, 10).await, "abcde");
    assert_eq!(found(doc! {}, 2).await, "ab");
    assert_eq!(found(doc! {}, 0).await, "");
    assert_eq!(found(doc! { "client": "even" }, 10).await, "bde");
    assert_eq!(found(doc! { "client": "even", "number": 2 }, 10).await, "d");
    assert_eq!(found(doc! { "client": "ev" }, 10).await, "");
    assert_eq!(found(doc! { "_id": "c", "client": "odd" }, 10).await, "c");
    assert_eq!(found(doc! { "_id": "c", "client": "even" }, 10).await, "");
    // What looks like an operator is a value like any other.
    assert_eq!(found(doc! { "number": { "$gt": 0 } }, 10).await, "");
}

pub(crate) async fn a_missing_collection_is_empty(database: &TestDatabase) {
    let store = database.open().await;
    let id = ingestion("nothing");
    assert_eq!(store.count("nothing").await.expect("count"), 0);
    assert_eq!(store.count_ids("nothing", id.record_id(0), id.record_id(9)).await.expect("count by ids"), 0);
    let filter = doc! { "_id": Binary::from(id.record_id(0)) };
    assert!(store.find("nothing", filter, 1).await.expect("find").is_empty());
}
