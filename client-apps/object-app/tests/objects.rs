//! Tests the object app as the platform runs it, on both stores.

#[path = "../../document-app/tests/support/mod.rs"]
mod support;

use std::path::Path;

use bson::doc;
use mysimbdp_model::app::{Line, Phase, UnitHeader};
use mysimbdp_store::CHUNK_BYTES;
use support::{App, AppOutput, INGESTION, TestStore, whole};

const PROGRAM: &str = env!("CARGO_BIN_EXE_object-app");
const CHUNK: usize = CHUNK_BYTES as usize;

fn app<'a>() -> App<'a> {
    App { program: Path::new(PROGRAM), arguments: &[], env: vec![("MYSIMBDP_IDS", "object".to_owned())] }
}

async fn both() -> [TestStore; 2] {
    [TestStore::embedded().await, TestStore::mongodb().await]
}

/// Returns bytes of which no two chunks are the same.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|position| (position / 7 + position * position) as u8).collect()
}

async fn object(store: &TestStore) -> Option<Vec<u8>> {
    store.coredms.object("records", INGESTION.parse().expect("32 digits")).await.expect("the store answers")
}

fn range(store: &TestStore, bytes: &[u8], offset: usize, length: usize) -> AppOutput {
    let piece = &bytes[offset..offset + length];
    app().stdin(store, &range_header(bytes, offset, length), piece)
}

fn range_header(bytes: &[u8], offset: usize, length: usize) -> UnitHeader {
    UnitHeader {
        batch_count: 3,
        offset: offset as u64,
        file_bytes: bytes.len() as u64,
        ..whole("a.bin", &bytes[offset..offset + length], 0)
    }
}

fn join(store: &TestStore, bytes: &[u8]) -> AppOutput {
    app().stdin(store, &join_header(bytes), b"")
}

fn join_header(bytes: &[u8]) -> UnitHeader {
    let file_bytes = bytes.len() as u64;
    UnitHeader {
        batch_index: 2,
        batch_count: 3,
        file_bytes,
        offset: file_bytes,
        phase: Phase::Join,
        ..whole("a.bin", b"", 1)
    }
}

#[tokio::test]
async fn a_whole_file_is_stored_byte_for_byte_and_once() {
    // More than two pieces, and a last chunk that is not full.
    let bytes = content(40 * CHUNK + 12_345);
    for store in both().await {
        let unit = whole("weather.csv", &bytes, 26_115);
        assert_eq!(app().stdin(&store, &unit, &bytes).done(), (26_115, 0, 0));
        assert!(object(&store).await.is_some_and(|stored| stored == bytes));
        let mut file = store.coredms.find("records.files", doc! {}, 2).await.expect("documents").remove(0);
        let metadata = file.get_document_mut("metadata").expect("a document");
        // The embedded store does not tell integers of 32 and 64 bits apart.
        assert_eq!(
            metadata.remove("records").map(|records| records.as_i64().or(records.as_i32().map(i64::from))),
            Some(Some(26_115))
        );
        let expected = doc! {
            "client": "client1", "ingestion": INGESTION, "file": "weather.csv",
            "received_at": bson::DateTime::from_millis(1_795_231_331_000), "content_type": "text/csv",
        };
        assert_eq!(*metadata, expected);
        // Another attempt of the same drop counts as stored; a later drop counts as a duplicate.
        assert_eq!(app().stdin(&store, &unit, &bytes).done(), (26_115, 0, 0));
        let later = UnitHeader { received_at: "2026-11-22T00:00:00Z".parse().expect("a time"), ..unit };
        assert_eq!(app().stdin(&store, &later, &bytes).done(), (0, 26_115, 0));
        assert!(object(&store).await.is_some_and(|stored| stored == bytes));
    }
}

#[tokio::test]
async fn an_empty_file_is_an_object_too() {
    for store in both().await {
        assert_eq!(app().stdin(&store, &whole("a.bin", b"", 1), b"").done(), (1, 0, 0));
        assert_eq!(object(&store).await, Some(Vec::new()));
    }
}

#[tokio::test]
async fn ranges_in_any_order_become_one_object_when_they_are_joined() {
    let bytes = content(20 * CHUNK + 5);
    for store in both().await {
        assert_eq!(range(&store, &bytes, 17 * CHUNK, 3 * CHUNK + 5).done(), (0, 0, 0));
        let early = join(&store, &bytes);
        assert_eq!(early.code, Some(70), "{early:?}");
        assert!(early.stderr.contains("incomplete"), "{early:?}");
        assert_eq!(object(&store).await, None);
        assert_eq!(range(&store, &bytes, 0, 17 * CHUNK).done(), (0, 0, 0));
        assert_eq!(join(&store, &bytes).done(), (1, 0, 0));
        assert!(object(&store).await.is_some_and(|stored| stored == bytes));
    }
}

#[tokio::test]
async fn a_worker_processes_ranges_their_join_and_whole_files_one_after_the_other() {
    let bytes = content(20 * CHUNK + 5);
    let done = |stored| vec![Line::Done { stored, duplicates: 0, rejected: 0 }];
    for store in both().await {
        let app = app();
        let mut worker = app.worker(&store);
        for (offset, length) in [(17 * CHUNK, 3 * CHUNK + 5), (0, 17 * CHUNK)] {
            let unit = range_header(&bytes, offset, length);
            assert_eq!(worker.unit(&unit, &bytes[offset..offset + length]), done(0));
        }
        assert_eq!(worker.unit(&join_header(&bytes), b""), done(1));
        assert!(object(&store).await.is_some_and(|stored| stored == bytes));
        let second = UnitHeader { ingestion: "f".repeat(32), ..whole("b.csv", b"n\n1\n2\n", 2) };
        assert_eq!(worker.unit(&second, b"n\n1\n2\n"), done(2));
        let files = store.coredms.find("records.files", doc! {}, 3).await.expect("documents");
        assert_eq!(files.len(), 2);
        assert_eq!(worker.end(), Some(0));
    }
}

#[tokio::test]
async fn a_short_stdin_publishes_nothing() {
    let bytes = content(3 * CHUNK);
    for store in both().await {
        let answer = app().stdin(&store, &whole("a.bin", &bytes, 1), &bytes[..2 * CHUNK]);
        assert_eq!(answer.code, Some(75), "{answer:?}");
        assert_eq!(object(&store).await, None);
    }
}

#[tokio::test]
async fn units_that_are_not_part_of_an_object_are_refused() {
    let store = TestStore::embedded().await;
    let micro_batch = range(&store, &content(3 * CHUNK), 100, 50);
    assert_eq!(micro_batch.code, Some(78));
    assert!(micro_batch.stderr.contains("needs unit \"file\" or \"range\""), "{micro_batch:?}");
    let mut records = app();
    records.env.clear();
    let answer = records.stdin(&store, &whole("a.bin", b"x", 1), b"x");
    assert_eq!(answer.code, Some(78));
    assert!(answer.stderr.contains("needs \"object\""), "{answer:?}");
}
