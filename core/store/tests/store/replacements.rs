//! What a later run replaces and removes.

use bson::{Binary, Bson, DateTime, RawDocumentBuf, doc};
use mysimbdp_store::{EarlierRuns, Removal, Written};

use crate::fixture::{TestDatabase, ingestion, raw};

/// Records `from..end` of a file, with this value.
fn records(from: u64, end: u64, value: &str) -> Vec<RawDocumentBuf> {
    let ingestion = ingestion("replaced");
    let record = |number| raw(doc! { "_id": Binary::from(ingestion.record_id(number)), "value": value });
    (from..end).map(record).collect()
}

pub(crate) async fn documents_are_replaced_whoever_wrote_them_and_none_is_a_duplicate(
    database: &TestDatabase,
) {
    let store = database.open().await;
    let schema = doc! { "properties": { "value": { "bsonType": "string" } } };
    store.ensure_collection("records", Some(&schema)).await.expect("collection");
    store.insert_many("records", records(0, 2_500, "old")).await.expect("insert");
    for attempt in 1..=2 {
        let mut documents = records(1_000, 4_000, "new");
        documents.push(raw(doc! { "_id": Binary::from(ingestion("replaced").record_id(7)), "value": 7 }));
        documents.push(raw(doc! { "_id": "large", "value": "x".repeat(16 << 20) }));
        let written = store.replace_many("records", documents).await.expect("replace");
        assert_eq!((written.stored, &written.duplicates), (3_000, &vec![]), "attempt {attempt}");
        let positions: Vec<usize> = written.rejected.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, [3_000, 3_001]);
        assert!(written.rejected[0].1.contains("value"), "{written:?}");
    }
    let values = store.page("records", doc! {}, None, 10_000).await.expect("read");
    let value = |number: usize| values[number].get_str("value").expect("text").to_owned();
    assert_eq!(
        (values.len(), value(7), value(999), value(1_000)),
        (4_000, "old".into(), "old".into(), "new".into())
    );
    assert_eq!(store.replace_many("records", Vec::new()).await.expect("nothing"), Written::default());
}

pub(crate) async fn records_are_removed_by_their_numbers_and_no_others(database: &TestDatabase) {
    let store = database.open().await;
    let id = |number| ingestion("replaced").record_id(number);
    store.insert_many("records", records(0, 100, "x")).await.expect("insert");
    store.put("records", doc! { "_id": "foreign" }).await.expect("put");
    let among = Removal::ByIds(vec![id(3), id(5), id(500)]);
    assert_eq!(store.remove("records", among.clone()).await.expect("remove"), 2);
    assert_eq!(store.remove("records", among).await.expect("remove again"), 0);
    let between = Removal::Between { first: id(10), end: id(20), except: vec![id(19), id(12), id(30)] };
    assert_eq!(store.remove("records", between).await.expect("remove"), 8);
    let left = store.missing_ids("records", (0..30).map(|number| Binary::from(id(number)).into()).collect());
    assert_eq!(left.await.expect("look up"), [3, 5, 10, 11, 13, 14, 15, 16, 17, 18]);
    let rest = Removal::Between { first: id(0), end: id(u64::MAX), except: vec![] };
    assert_eq!(store.remove("records", rest).await.expect("remove"), 90);
    assert_eq!(store.count("records").await.expect("count"), 1);
}

pub(crate) async fn a_later_run_of_a_key_is_newer_and_only_earlier_runs_are_removed(database: &TestDatabase) {
    let store = database.open().await;
    let own = ingestion("replaced");
    let other = ingestion("other");
    let at = DateTime::from_millis;
    let document = |key: &str, ingestion: &str, run: Option<i64>, record: i64, value: &str| {
        let mut version =
            doc! { "layer": "batch", "received_at": at(1), "ingestion": ingestion, "record": record };
        version.extend(run.map(|run| ("run".to_owned(), Bson::from(at(run)))));
        raw(doc! { "_id": key, "_ingest": version, "value": value })
    };
    let own_of = |key: &str, run, record, value: &str| document(key, &own.to_string(), run, record, value);
    let first = ["a", "b", "c", "d"].map(|key| own_of(key, None, 9, "first"));
    assert_eq!(store.replace_older("keyed", first.to_vec()).await.expect("first").stored, 4);
    let foreign = document("f", &other.to_string(), None, 1, "foreign");
    store.replace_older("keyed", vec![foreign]).await.expect("of another file");
    store.put("keyed", doc! { "_id": "nobody" }).await.expect("without a stamp");

    // A lower record number of a later run replaces a higher one of an earlier run, and not the reverse.
    let second = vec![own_of("a", Some(50), 2, "second"), own_of("b", Some(50), 9, "second")];
    assert_eq!(store.replace_older("keyed", second.clone()).await.expect("second").stored, 2);
    assert_eq!(store.replace_older("keyed", second).await.expect("again").stored, 2);
    let late = vec![own_of("a", None, 9, "first"), own_of("b", Some(40), 9, "between")];
    assert_eq!(store.replace_older("keyed", late).await.expect("late").duplicates, [0, 1]);

    let runs = EarlierRuns { ingestion: own, run: at(50) };
    let ids = || ["a", "b", "c", "f", "nobody", "none"].map(Bson::from).to_vec();
    assert_eq!(store.count_written_by("keyed", ids(), runs).await.expect("count"), 1);
    assert_eq!(store.remove("keyed", Removal::OfRuns(runs)).await.expect("remove"), 2);
    assert_eq!(store.remove("keyed", Removal::OfRuns(runs)).await.expect("remove again"), 0);
    let found = store.page("keyed", doc! {}, None, 10).await.expect("read");
    let found: Vec<_> =
        found.iter().map(|one| (one.get_str("_id").ok(), one.get_str("value").ok())).collect();
    let expected = [("a", Some("second")), ("b", Some("second")), ("f", Some("foreign")), ("nobody", None)];
    assert_eq!(found, expected.map(|(key, value)| (Some(key), value)));
    let later = EarlierRuns { ingestion: own, run: at(60) };
    assert_eq!(store.remove("keyed", Removal::OfRuns(later)).await.expect("remove"), 2);
}

pub(crate) async fn documents_are_removed_by_ids_of_any_type(database: &TestDatabase) {
    let store = database.open().await;
    store.ensure_index("records", &["n", "_id"]).await.expect("index");
    for id in [Bson::from("a"), Bson::from(1_i64), Bson::from("b"), Bson::from(2_i64)] {
        store.put("records", doc! { "_id": id, "n": 1 }).await.expect("put");
    }
    let some = vec![Bson::from("a"), Bson::from(2_i64), Bson::from("none"), Bson::Array(vec![])];
    assert_eq!(store.remove("records", Removal::ByAnyIds(some.clone())).await.expect("remove"), 2);
    assert_eq!(store.remove("records", Removal::ByAnyIds(some)).await.expect("remove again"), 0);
    let left = store.find("records", doc! { "n": 1 }, 10).await.expect("find");
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(store.remove("records", Removal::ByAnyIds(Vec::new())).await.expect("nothing"), 0);
}
