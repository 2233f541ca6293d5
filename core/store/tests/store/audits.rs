//! Counting what an app reports as stored.

use bson::{Binary, Bson, DateTime, doc};
use mysimbdp_store::{CHUNK_BYTES, Extent};

use crate::fixture::{TestDatabase, ingestion, raw};
use crate::objects::{content, object};

const CHUNK: usize = CHUNK_BYTES as usize;

pub(crate) async fn ids_that_no_document_has_are_found_whatever_their_type(database: &TestDatabase) {
    let store = database.open().await;
    let existing: Vec<Bson> = vec![
        5.into(),
        "a".into(),
        "".into(),
        true.into(),
        Bson::Null,
        DateTime::from_millis(-1).into(),
        Binary::from(ingestion("audit").record_id(7)).into(),
        doc! { "x": 1, "y": { "z": 2 } }.into(),
    ];
    let documents = existing.iter().map(|id| raw(doc! { "_id": id })).collect();
    assert_eq!(store.insert_many("keys", documents).await.expect("insert").stored, 8);
    assert_eq!(store.missing_ids("keys", existing.clone()).await.expect("look up"), [0_usize; 0]);

    let expression =
        bson::Regex { pattern: "a".try_into().expect("no NUL"), options: "".try_into().expect("no NUL") };
    let requested: Vec<Bson> = vec![
        // An id is found whatever its type, and as often as it is requested.
        5.0.into(),
        5_i64.into(),
        "b".into(),
        // A value that cannot be an `_id`, or would be an operator, is never found.
        doc! { "$gt": 0 }.into(),
        Bson::Array(vec![5.into()]),
        expression.into(),
        doc! { "y": { "z": 2 }, "x": 1 }.into(),
        "a".into(),
        "b".into(),
    ];
    assert_eq!(store.missing_ids("keys", requested).await.expect("look up"), [2, 3, 4, 5, 6, 8]);
    assert_eq!(store.missing_ids("no such collection", vec![1.into()]).await.expect("look up"), [0]);
    assert_eq!(store.missing_ids("keys", vec![]).await.expect("look up"), [0_usize; 0]);
    let many = (0..3_000).map(Bson::Int32).collect();
    assert_eq!(store.missing_ids("keys", many).await.expect("look up").len(), 2_999);
}

pub(crate) async fn documents_are_found_by_many_ids_at_once(database: &TestDatabase) {
    let store = database.open().await;
    let existing = (0..1_000).map(|id| raw(doc! { "_id": id, "n": id, "when": { "$date": "no date" } }));
    store.insert_many("many", existing.collect()).await.expect("insert");
    let expression =
        bson::Regex { pattern: ".".try_into().expect("no NUL"), options: "".try_into().expect("no NUL") };
    // Every third id, one of them twice and in another type; one that does not exist, and values that cannot be an `_id`.
    let requested = (0..1_000).step_by(3).map(Bson::Int32);
    let requested = requested.chain([3.0.into(), (-1).into(), doc! { "$gt": 0 }.into(), expression.into()]);
    let found = store.find_by_ids("many", requested.collect()).await.expect("find");
    let mut numbers: Vec<String> = found.iter().map(|found| found.get("n").expect("n").to_string()).collect();
    numbers.sort_unstable_by_key(|number| number.parse::<u64>().expect("a number"));
    assert_eq!(numbers, (0..1_000).step_by(3).map(|id| id.to_string()).collect::<Vec<_>>());
    let text = found[0].get_document("when").and_then(|when| when.get_str("$date"));
    assert_eq!(text.ok(), Some("no date"), "as it was stored");
    assert_eq!(store.find_by_ids("many", vec![]).await.expect("find").len(), 0);
    assert_eq!(store.find_by_ids("no such collection", vec![1.into()]).await.expect("find").len(), 0);
}

pub(crate) async fn documents_are_counted_by_a_field_within_another(database: &TestDatabase) {
    let store = database.open().await;
    let document = |id: i32| match id {
        0 => raw(doc! { "_id": id, "in": "a" }),
        // JSON would change this document.
        1 => raw(doc! { "_id": id, "in": { "side": "a" }, "when": { "$date": "no date" } }),
        _ => raw(doc! { "_id": id, "in": { "side": if id % 3 == 0 { "a" } else { "b" } } }),
    };
    store.insert_many("grouped", (0..30).map(document).collect()).await.expect("insert");
    let values = ["a", "b", "c"].map(str::to_owned).to_vec();
    let counts = store.count_by("grouped", "in.side", values).await.expect("count");
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 10), ("b".to_owned(), 19)]);
    let one = store.count_by("grouped", "in.side", vec!["b".to_owned()]).await.expect("count");
    assert_eq!(one.len(), 1);
}

pub(crate) async fn a_collection_is_read_page_by_page(database: &TestDatabase) {
    let store = database.open().await;
    let documents = (0..25).map(|id| raw(doc! { "_id": format!("{id:02}"), "even": id % 2 == 0 }));
    store.insert_many("pages", documents.collect()).await.expect("insert");
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.page("pages", doc! { "even": true }, after, 5).await.expect("page");
        let Some(last) = page.last() else { break };
        after = last.get("_id").cloned();
        seen.extend(page.iter().filter_map(|document| document.get_str("_id").ok()).map(str::to_owned));
    }
    let expected: Vec<String> = (0..25).step_by(2).map(|id| format!("{id:02}")).collect();
    assert_eq!(seen, expected);
}

pub(crate) async fn the_stored_part_of_an_object_is_counted_before_and_after_its_commit(
    database: &TestDatabase,
) {
    let store = database.open().await;
    let content = content(3 * CHUNK + 5);
    let whole = object("extent.csv", content.len());
    let extent = async |start: u64, end: u64| {
        let Extent { chunks, bytes } = store.extent("fs", whole.id, start..end).await.expect("extent");
        assert_eq!(store.chunks("fs", whole.id, start..end).await.expect("chunks"), chunks);
        (chunks, bytes)
    };
    assert_eq!(extent(0, u64::MAX).await, (0, 0));
    let chunk = CHUNK as u64;
    for (start, end) in [(2 * CHUNK, content.len()), (0, CHUNK)] {
        store.put_chunks("fs", whole.id, start as u64, content.slice(start..end)).await.expect("put");
    }
    assert_eq!(extent(0, u64::MAX).await, (3, 2 * chunk + 5));
    assert_eq!(extent(0, 2 * chunk).await, (1, chunk));
    assert_eq!(extent(2 * chunk, 3 * chunk + 5).await, (2, chunk + 5));
    store.put_chunks("fs", whole.id, chunk, content.slice(CHUNK..2 * CHUNK)).await.expect("put");
    assert!(store.commit_object("fs", &whole).await.expect("commit"));
    assert_eq!(extent(0, whole.bytes).await, (4, whole.bytes));
    assert_eq!(extent(0, u64::MAX).await, (4, whole.bytes));
}
