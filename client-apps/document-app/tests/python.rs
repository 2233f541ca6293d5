//! Tests that the batch app in Python keeps the same contract, on a real store.

mod support;

use bson::doc;
use mysimbdp_model::app::UnitHeader;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_testbed as testbed;
use support::{App, INGESTION, TestStore, typed, whole};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python/batch_app.py");

#[tokio::test]
async fn it_stores_each_record_once_with_ids_of_the_platform() {
    let store = TestStore::mongodb().await;
    let python = testbed::python();
    let app = App { program: &python, arguments: &[PROGRAM], env: vec![] };
    let csv = "\u{feff}n,t,empty\n1,\"a\nb\",\n\n2.5,007,\n".as_bytes();
    let unit = typed(whole("a.csv", csv, 2), &[("double", &[])]);
    assert_eq!(app.stdin(&store, &unit, csv).done(), (2, 0, 0));
    assert_eq!(app.stdin(&store, &unit, csv).done(), (0, 2, 0));
    let ingestion: IngestionId = INGESTION.parse().expect("32 digits");
    let id = |record| bson::Binary::from(ingestion.record_id(record));
    let expected = [
        doc! { "_id": id(0), "n": 1.0, "t": "a\nb", "empty": null },
        doc! { "_id": id(1), "n": 2.5, "t": "007", "empty": null },
    ];
    assert_eq!(store.coredms.find("records", doc! {}, 10).await.expect("documents"), expected);

    // A later run, in which the column is text, replaces what the first run has stored.
    let replace = Some("2026-11-22T00:00:00Z".parse().expect("a time"));
    let again = UnitHeader { replace, ..whole("a.csv", csv, 2) };
    assert_eq!(app.stdin(&store, &again, csv).done(), (2, 0, 0));
    let found = store.coredms.find("records", doc! {}, 10).await.expect("documents");
    assert_eq!(found.iter().map(|one| one.get_str("n").expect("text")).collect::<Vec<_>>(), ["1", "2.5"]);
}

#[tokio::test]
async fn it_rejects_records_by_number_and_refuses_units_that_are_not_as_announced() {
    let store = TestStore::mongodb().await;
    let python = testbed::python();
    let app = App { program: &python, arguments: &[PROGRAM], env: vec![] };
    let lines = b"{\"a\":1}\n5\n{\"a\":18446744073709551617}\n{\"a\":1e400}\n{\"a\":{\"b\":[]}}\n";
    let unit = UnitHeader { first_record: 10, ..whole("a.ndjson", lines, 5) };
    for records in [4, 6] {
        let answer = app.stdin(&store, &UnitHeader { records, ..unit.clone() }, lines);
        assert_eq!(answer.code, Some(65), "{answer:?}");
    }
    assert_eq!(app.stdin(&store, &unit, &lines[..20]).code, Some(75));
    assert_eq!(store.coredms.count("records").await.expect("a count"), 0);
    let answer = app.stdin(&store, &unit, lines);
    assert_eq!(answer.done(), (2, 0, 3));
    assert_eq!(answer.rejects().iter().map(|reject| reject.0).collect::<Vec<_>>(), [11, 12, 13]);
    // JSON allows these records, but a document cannot keep them exactly.
    let array = br#"[{"a":1}, 5, {"a":1,"a":2}, {"a":1.00000000000000000001}, {"_id":7}, {"a":0.1}]"#;
    let unit = UnitHeader { ingestion: "f".repeat(32), ..whole("a.json", array, 6) };
    let answer = app.stdin(&store, &unit, array);
    assert_eq!(answer.done(), (2, 0, 4));
    assert_eq!(answer.rejects().iter().map(|reject| reject.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_unavailable_store_means_try_again() {
    let mut store = TestStore::mongodb().await;
    let python = testbed::python();
    let app = App { program: &python, arguments: &[PROGRAM], env: vec![] };
    store.url = format!("mongodb://127.0.0.1:{}/?serverSelectionTimeoutMS=300", testbed::free_port());
    assert_eq!(app.stdin(&store, &whole("a.csv", b"n\n1\n", 1), b"n\n1\n").code, Some(75));
}
