//! What can only happen to files: they are locked, removed, or queried by other programs.

use std::path::Path;

use bson::doc;
use mysimbdp_model::error_chain;
use mysimbdp_store::Coredms;

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
