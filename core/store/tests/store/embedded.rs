//! What can only happen to files: they are locked, removed, or queried by other programs.

use std::path::Path;

use bson::doc;
use futures::{StreamExt, TryStreamExt};
use mysimbdp_model::error_chain;
use mysimbdp_store::{Coredms, Selection};

use crate::fixture::raw;

async fn open(directory: &Path) -> std::sync::Arc<dyn Coredms> {
    mysimbdp_store::open(&format!("sqlite:{}", directory.display()), "test").await.expect("address")
}

async fn insert(store: &dyn Coredms, id: i32) -> Result<u64, mysimbdp_store::CoredmsError> {
    store
        .insert_many("records", vec![raw(doc! { "_id": id, "text": "ä", "number": 1.5 })])
        .await
        .map(|written| written.stored)
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_unavailable_until_it_can() {
    let root = tempfile::tempdir().expect("temporary directory");
    let directory = root.path().join("state");
    std::fs::write(&directory, "a file is in the way").expect("write");
    let store = open(&directory).await;
    let error = insert(&*store, 1).await.expect_err("no directory");
    assert!(error.is_retryable(), "{}", error_chain(&error));
    assert!(error_chain(&error).contains("state"), "{}", error_chain(&error));
    std::fs::remove_file(&directory).expect("remove");
    assert_eq!(insert(&*store, 1).await.expect("insert"), 1);
}

#[tokio::test]
async fn a_removed_database_is_no_longer_written_to() {
    let root = tempfile::tempdir().expect("temporary directory");
    let directory = root.path().join("state");
    let store = open(&directory).await;
    assert_eq!(insert(&*store, 1).await.expect("insert"), 1);
    std::fs::remove_dir_all(&directory).expect("remove");
    assert_eq!(insert(&*store, 1).await.expect("insert"), 1, "into a new one");
    assert_eq!(open(&directory).await.count("records").await.expect("count"), 1);
}

#[tokio::test]
async fn a_database_that_is_removed_ends_a_selection_with_an_error_and_not_with_the_last_document() {
    let root = tempfile::tempdir().expect("temporary directory");
    let directory = root.path().join("state");
    let store = open(&directory).await;
    let many = (0..10_000).map(|id| raw(doc! { "_id": id }));
    store.insert_many("records", many.collect()).await.expect("insert");
    for obstruct in [false, true] {
        insert(&*store, -1).await.expect("insert");
        let many = (0..10_000).map(|id| raw(doc! { "_id": id }));
        store.insert_many("records", many.collect()).await.expect("insert");
        let mut selected = store.select("records", Selection::ordered_by("_id")).await.expect("select");
        selected.next().await.expect("a document").expect("read");
        std::fs::remove_dir_all(&directory).expect("remove");
        if obstruct {
            std::fs::write(&directory, "a file is in the way").expect("write");
        }
        let error = loop {
            match selected.next().await.expect("the end would be wrong") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(error.is_retryable(), "{}", error_chain(&error));
        assert!(selected.next().await.is_none());
    }
    let error = store.select("records", Selection::ordered_by("_id")).await.err().expect("no directory");
    assert!(error.is_retryable(), "{}", error_chain(&error));
}

/// An earlier version of this program knows nothing of indexes, and neither does `sqlite3`.
#[tokio::test]
async fn an_index_misses_nothing_that_other_programs_write() {
    let root = tempfile::tempdir().expect("temporary directory");
    let store = open(root.path()).await;
    store.ensure_index("records", &["number", "_id"]).await.expect("index");
    let many = (0..100).map(|id| raw(doc! { "_id": id, "number": id % 10 }));
    store.insert_many("records", many.collect()).await.expect("insert");
    let other = rusqlite::Connection::open(root.path().join("test.sqlite")).expect("open");
    let numbers = async || {
        let selected = store.select("records", Selection::ordered_by("number")).await.expect("select");
        let documents: Vec<_> = selected.try_collect().await.expect("read");
        let numbers = documents.iter().map(|document| whole_number(document, "number"));
        let numbers: Vec<i64> = numbers.collect();
        let found = store.find("records", doc! { "number": 77 }, 9).await.expect("find").len();
        (numbers.len(), numbers.last().copied(), numbers.is_sorted(), found)
    };
    assert_eq!(numbers().await, (100, Some(9), true, 0));
    let plan =
        "EXPLAIN QUERY PLAN SELECT 1 FROM index_entries WHERE number = 1 AND (key, id) > (x'00', x'00')";
    let plan: String = other.query_row(plan, [], |row| row.get(3)).expect("explain");
    assert!(plan.contains("(number=? AND (key,id)>(?,?))"), "{plan}");
    for (statement, expected) in [
        (
            "UPDATE documents SET document = json_set(document, '$.number', 77) WHERE document ->> '_id' = 7",
            (100, Some(77), true, 1),
        ),
        (
            "INSERT INTO documents SELECT collection, x'0400', json_set(document, '$.number', 78) FROM documents LIMIT 1",
            (101, Some(78), true, 1),
        ),
        (
            "REPLACE INTO documents SELECT collection, id, json_set(document, '$.number', 76) FROM documents WHERE document ->> 'number' = 77",
            (101, Some(78), true, 0),
        ),
        ("DELETE FROM documents WHERE document ->> 'number' > 70", (99, Some(9), true, 0)),
    ] {
        other.execute_batch(statement).expect(statement);
        assert_eq!(numbers().await, expected, "{statement}");
    }
    let left: i64 = other.query_row("SELECT count(*) FROM unindexed", [], |row| row.get(0)).expect("count");
    let entries: i64 =
        other.query_row("SELECT count(*) FROM index_entries", [], |row| row.get(0)).expect("count");
    assert_eq!((left, entries), (0, 99));
}

#[tokio::test]
async fn other_callers_are_answered_while_a_large_selection_is_read() {
    let root = tempfile::tempdir().expect("temporary directory");
    let store = open(root.path()).await;
    for first in (0..20_000).step_by(10_000) {
        let many = (first..first + 10_000).map(|id| raw(doc! { "_id": id, "number": id }));
        store.insert_many("records", many.collect()).await.expect("insert");
    }
    // Without an index, each page reads everything.
    let reader = store.clone();
    let select = tokio::spawn(async move {
        let selected = reader.select("records", Selection::ordered_by("number")).await.expect("select");
        selected.try_fold(0, async |count, _| Ok(count + 1)).await.expect("read")
    });
    let mut answers = 0;
    while !select.is_finished() {
        store.find("records", doc! { "_id": 7 }, 1).await.expect("find");
        answers += 1;
    }
    assert_eq!(select.await.expect("no panic"), 20_000);
    // Five pages of twenty jobs each.
    assert!(answers > 50, "{answers}");
}

#[tokio::test]
async fn an_index_of_too_many_combinations_is_refused_and_selections_are_complete_without_it() {
    let root = tempfile::tempdir().expect("temporary directory");
    let store = open(root.path()).await;
    let array: Vec<i32> = (0..200).collect();
    for collection in ["by this program", "by another one"] {
        store.ensure_index(collection, &["a", "b", "number"]).await.expect("index");
        let documents = vec![
            raw(doc! { "_id": 1, "a": 1, "b": 1, "number": 2 }),
            raw(doc! { "_id": 2, "a": &array, "b": &array, "number": 1 }),
        ];
        if collection == "by this program" {
            store.insert_many(collection, documents).await.expect("insert");
        } else {
            let other = rusqlite::Connection::open(root.path().join("test.sqlite")).expect("open");
            let copy = "INSERT INTO documents SELECT ?1, id, document FROM documents";
            other.execute(copy, [collection]).expect("insert");
        }
        let selection = Selection { filter: doc! { "a": 1, "b": 1 }, ..Selection::ordered_by("number") };
        let selected = store.select(collection, selection).await.expect("select");
        let documents: Vec<_> = selected.try_collect().await.expect("read");
        let ids: Vec<i64> = documents.iter().map(|document| whole_number(document, "_id")).collect();
        assert_eq!(ids, [2, 1], "{collection}");
        let error = store.ensure_index(collection, &["a", "b", "number"]).await.expect_err("too many");
        assert!(error_chain(&error).contains("combinations"), "{}", error_chain(&error));
    }
}

fn whole_number(document: &bson::RawDocument, field: &str) -> i64 {
    let value = document.get(field).expect("valid").expect("present");
    value.as_i32().map(i64::from).or(value.as_i64()).expect("a number")
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused() {
    let root = tempfile::tempdir().expect("temporary directory");
    std::fs::write(root.path().join("test.sqlite"), "something else entirely".repeat(100)).expect("write");
    let error = insert(&*open(root.path()).await, 1).await.expect_err("not a database");
    assert!(!error.is_retryable(), "{}", error_chain(&error));
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    let root = tempfile::tempdir().expect("temporary directory");
    let url = format!("sqlite:{}", root.path().display());
    for name in ["", "..", "../other", ".hidden", "a/b", "a\0b"] {
        assert!(mysimbdp_store::open(&url, name).await.is_err(), "{name:?}");
    }
    let store = open(root.path()).await;
    let id = crate::fixture::ingestion("elsewhere");
    assert!(store.put_chunks("../..", id, 0, bytes::Bytes::from_static(b"x")).await.is_err());
}

#[tokio::test]
async fn an_invalid_address_is_refused_with_what_is_allowed() {
    for url in ["", "sqlite:", "postgres://localhost", "/var/lib", "mongodb//x"] {
        let error = mysimbdp_store::open(url, "test").await.expect_err(url);
        assert!(error.to_string().contains("sqlite:<directory>"), "{error}");
    }
}

#[tokio::test]
async fn other_programs_can_query_the_documents() {
    let root = tempfile::tempdir().expect("temporary directory");
    let store = open(root.path()).await;
    insert(&*store, 1).await.expect("insert");
    let other = rusqlite::Connection::open(root.path().join("test.sqlite")).expect("open");
    let row: (String, f64) = other
        .query_row(
            "SELECT document ->> 'text', document ->> 'number' FROM documents WHERE collection = 'records'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("query");
    assert_eq!(row, ("ä".to_owned(), 1.5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_concurrent_openers_of_a_new_database_all_succeed() {
    let root = tempfile::tempdir().expect("temporary directory");
    let mut openers = tokio::task::JoinSet::new();
    for id in 0..8 {
        let directory = root.path().to_owned();
        openers.spawn(async move { insert(&*open(&directory).await, id).await });
    }
    while let Some(opened) = openers.join_next().await {
        assert_eq!(opened.expect("no panic").expect("insert"), 1);
    }
    assert_eq!(open(root.path()).await.count("records").await.expect("count"), 8);
}
