//! Objects: whole files, stored in ranges.

use bson::doc;
use bytes::Bytes;
use mysimbdp_store::{CHUNK_BYTES, CoredmsError, Object, committed_object, object_length};

use crate::fixture::{TestDatabase, ingestion};

const CHUNK: usize = CHUNK_BYTES as usize;

/// The size of a range: more chunks than go in one message.
const RANGE: usize = 40 * CHUNK;

/// Returns bytes that differ by position, so that a misplaced range is noticed.
pub(crate) fn content(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at / 7 + at / CHUNK * 13) as u8).collect()
}

pub(crate) fn object(name: &str, bytes: usize) -> Object {
    let metadata = doc! { "client": "client1", "records": 5 };
    Object { id: ingestion(name), name: name.to_owned(), bytes: bytes as u64, metadata }
}

pub(crate) async fn ranges_in_any_order_make_the_same_bytes(database: &TestDatabase) {
    let store = database.open().await;
    let content = content(2 * RANGE + 5 * CHUNK + 17);
    let object = object("weather.csv", content.len());
    assert_eq!(store.object("fs", object.id).await.expect("not there"), None);
    for start in [2 * RANGE, 0, RANGE] {
        let range = content.slice(start..content.len().min(start + RANGE));
        store.put_chunks("fs", object.id, start as u64, range).await.expect("put");
    }
    assert_eq!(store.object("fs", object.id).await.expect("not committed"), None);
    assert!(store.commit_object("fs", &object).await.expect("commit"));
    let read = store.object("fs", object.id).await.expect("read").expect("committed");
    assert!(read == content, "{} bytes differ from {}", read.len(), content.len());

    let files = store.find("fs.files", doc! { "filename": "weather.csv" }, 2).await.expect("find");
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].get_document("metadata").expect("metadata"), &object.metadata);
}

pub(crate) async fn a_range_can_be_stored_again_after_half_of_it(database: &TestDatabase) {
    let store = database.open().await;
    let content = content(RANGE + 5);
    let object = object("again.csv", content.len());
    store.put_chunks("fs", object.id, 0, content.slice(..RANGE / 2)).await.expect("half");
    let error = store.commit_object("fs", &object).await.expect_err("half is not whole");
    assert!(matches!(error, CoredmsError::Incomplete { .. }), "{error}");
    for _ in 0..2 {
        store.put_chunks("fs", object.id, 0, content.slice(..RANGE)).await.expect("whole");
    }
    store.put_chunks("fs", object.id, RANGE as u64, content.slice(RANGE..)).await.expect("rest");
    assert!(store.commit_object("fs", &object).await.expect("commit"));
    assert_eq!(store.object("fs", object.id).await.expect("read").as_deref(), Some(&content[..]));
}

pub(crate) async fn an_object_with_a_hole_or_of_another_length_is_refused(database: &TestDatabase) {
    let store = database.open().await;
    let content = content(3 * CHUNK + 5);
    let whole = object("hole.csv", content.len());
    let put = async |start: usize, end: usize| {
        store.put_chunks("fs", whole.id, start as u64, content.slice(start..end)).await.expect("put");
    };
    put(0, CHUNK).await;
    put(2 * CHUNK, content.len()).await;
    match store.commit_object("fs", &whole).await {
        Err(CoredmsError::Incomplete { found, expected, .. }) => {
            assert_eq!((found, expected), ((2 * CHUNK + 5) as u64, (3 * CHUNK + 5) as u64));
        }
        other => panic!("expected a hole, got {other:?}"),
    }
    put(CHUNK, 2 * CHUNK).await;
    for wrong in [whole.bytes - 1, whole.bytes + 1, 0] {
        let error = store
            .commit_object("fs", &Object { bytes: wrong, ..whole.clone() })
            .await
            .expect_err("wrong length");
        assert!(!error.is_retryable(), "{error}");
    }
    assert_eq!(store.object("fs", whole.id).await.expect("nothing committed"), None);
    assert!(store.commit_object("fs", &whole).await.expect("commit"));
}

pub(crate) async fn the_second_commit_changes_nothing(database: &TestDatabase) {
    let store = database.open().await;
    let content = content(CHUNK + 1);
    let first = object("twice.csv", content.len());
    store.put_chunks("fs", first.id, 0, content.clone()).await.expect("put");
    assert!(store.commit_object("fs", &first).await.expect("first"));
    let renamed = Object { name: "renamed.csv".to_owned(), ..first.clone() };
    assert!(!store.commit_object("fs", &renamed).await.expect("second"));
    store.put_chunks("fs", first.id, 0, content.clone()).await.expect("put again");
    assert!(!store.commit_object("fs", &first).await.expect("third"));

    let files = store.find("fs.files", doc! {}, 10).await.expect("find");
    assert_eq!(files.iter().flat_map(|file| file.get_str("filename")).collect::<Vec<_>>(), ["twice.csv"]);
    assert_eq!(store.object("fs", first.id).await.expect("read").as_deref(), Some(&content[..]));
}

pub(crate) async fn an_object_may_be_empty(database: &TestDatabase) {
    let store = database.open().await;
    let empty = object("empty.csv", 0);
    store.put_chunks("fs", empty.id, 0, Bytes::new()).await.expect("put");
    assert!(store.commit_object("fs", &empty).await.expect("commit"));
    assert_eq!(store.object("fs", empty.id).await.expect("read"), Some(vec![]));
}

pub(crate) async fn a_range_of_an_object_is_read_alone(database: &TestDatabase) {
    let store = database.open().await;
    let content = content(3 * CHUNK + 5);
    let object = object("ranges.csv", content.len());
    let read = async |start: usize, end: usize| {
        store.read_object("fs", object.id, start as u64..end as u64).await.expect("read")
    };
    assert_eq!(read(0, 5).await, None, "not there");
    store.put_chunks("fs", object.id, 0, content.clone()).await.expect("put");
    assert_eq!(read(0, 5).await, None, "not committed");
    store.commit_object("fs", &object).await.expect("commit");
    let end = content.len();
    for (start, stop) in [
        (0, 0),
        (0, 1),
        (7, 1_000),
        (CHUNK - 1, CHUNK),
        (CHUNK - 1, CHUNK + 1),
        (CHUNK, 2 * CHUNK),
        (5, 3 * CHUNK + 2),
        (end - 1, end),
        (0, end),
        (7, 3),
    ] {
        let expected = if start < stop { content.slice(start..stop) } else { Bytes::new() };
        assert_eq!(read(start, stop).await, Some(expected), "{start}..{stop}");
    }
    // What is beyond the end is left out.
    assert_eq!(read(end - 3, end + 10).await, Some(content.slice(end - 3..)));
    for start in [end, end + 1, 10 * end] {
        assert_eq!(read(start, start + 5).await, Some(Bytes::new()));
    }
    let all = store.read_object("fs", object.id, 2..u64::MAX).await.expect("read");
    assert_eq!(all, Some(content.slice(2..)));

    let empty = self::object("nothing.csv", 0);
    store.commit_object("fs", &empty).await.expect("commit");
    let read = store.read_object("fs", empty.id, 0..5).await.expect("read");
    assert_eq!(read, Some(Bytes::new()));
}

pub(crate) async fn what_is_stored_about_an_object_is_known_once_it_is_committed(database: &TestDatabase) {
    let store = database.open().await;
    let object = object("known.csv", 3);
    assert_eq!(committed_object(&*store, "fs", object.id).await.expect("look up"), None);
    store.put_chunks("fs", object.id, 0, "abc".into()).await.expect("put");
    assert_eq!(committed_object(&*store, "fs", object.id).await.expect("look up"), None);
    store.commit_object("fs", &object).await.expect("commit");
    let committed = committed_object(&*store, "fs", object.id).await.expect("look up").expect("committed");
    assert_eq!(committed.object, object);
    assert!(committed.committed_at.is_some());
    assert_eq!(object_length(&*store, "fs", object.id).await.expect("look up"), Some(3));
}

pub(crate) async fn an_offset_between_chunks_is_refused(database: &TestDatabase) {
    let store = database.open().await;
    let error = store.put_chunks("fs", ingestion("odd"), 1, content(CHUNK)).await.expect_err("odd offset");
    assert!(matches!(error, CoredmsError::Refused { .. }), "{error}");
}
