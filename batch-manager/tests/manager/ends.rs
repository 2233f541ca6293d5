//! How a file ends: rejected records, receipts, changed content, an unavailable store.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use mysimbdp_config::REJECTED;
use mysimbdp_model::manifest::Format;
use mysimbdp_spool::staging::retry_held;
use mysimbdp_store::rejected::{INLINE_BYTES_MAX, RejectedBytes};
use mysimbdp_testbed::{Mongod, python, unique};
use serde_json::{Value, json};

use crate::fixture::{Fixture, command, counts, settings};

#[tokio::test(flavor = "multi_thread")]
async fn each_rejected_record_is_in_the_clients_database_with_number_reason_and_content() {
    let mut fixture = Fixture::new(tolerant(&["reject", "1", "3"]));
    let ingestion = fixture.stage("a.ndjson", &[5, 5]);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [10, 6, 0, 4]);
    fixture.stop().await;
    let store = fixture.client_database().await;
    let found = store.find(REJECTED, bson::doc! {}, 10).await.expect("find");
    let records: Vec<i64> = found.iter().map(|document| number(document, "record")).collect();
    assert_eq!(records, [1, 3, 6, 8]);
    for (name, value) in
        [("reason", "not for position 1"), ("ingestion", &ingestion.to_string()), ("file", "a.ndjson")]
    {
        assert_eq!(found[2].get(name), Some(&value.into()), "{name}");
    }
    for (document, record) in found.iter().zip(records) {
        let content = format!("{{\"file\":\"a.ndjson\",\"n\":{record}}}");
        assert_eq!(number(document, "content_bytes"), content.len() as i64);
        assert_eq!(RejectedBytes::of(document, "content"), RejectedBytes::Inline(content.into_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_content_of_any_kind_and_size_is_kept_whole() {
    let mut fixture = Fixture::new(tolerant(&["reject", "0", "2", "3"]));
    let large = [b'x', b'y'].map(|byte| vec![byte; INLINE_BYTES_MAX as usize + 1]);
    let lines = [b"{\"a\":\xff}\r\n".as_slice(), b"{}\n\n \n", &large[0], b"\n", &large[1]].concat();
    let ingestion = fixture.stage_ranges("a.ndjson", Format::Ndjson, &[(lines, 4)]);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [4, 1, 0, 3]);
    fixture.stop().await;
    let store = fixture.client_database().await;
    let found = store.find(REJECTED, bson::doc! {}, 10).await.expect("find");
    assert_eq!(RejectedBytes::of(&found[0], "content"), RejectedBytes::Inline(b"{\"a\":\xff}".to_vec()));
    for (reject, large) in found[1..].iter().zip(large) {
        let RejectedBytes::Object(id) = RejectedBytes::of(reject, "content") else { panic!("{reject:?}") };
        assert_eq!(number(reject, "content_bytes"), large.len() as i64);
        assert!(store.object(REJECTED, id).await.expect("read") == Some(large), "not the same bytes");
    }
    let prefix = store.object(REJECTED, ingestion).await.expect("read");
    assert_eq!(prefix, Some(Vec::new()), "the file has no prefix");
}

/// A binary file is one record, which the app rejects.
#[tokio::test(flavor = "multi_thread")]
async fn the_content_of_a_file_that_is_one_record_is_kept_too() {
    let mut value = tolerant(&["reject", "0"]);
    value["clients"][0]["apps"][0]["unit"] = json!("file");
    let mut fixture = Fixture::new(value);
    let ranges = [(b"a\0".to_vec(), 1), (b"\nb".to_vec(), 0)];
    let ingestion = fixture.stage_ranges("a.bin", Format::Binary, &ranges);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [1, 0, 0, 1]);
    fixture.stop().await;
    let store = fixture.client_database().await;
    let found = store.find(REJECTED, bson::doc! {}, 10).await.expect("find");
    assert_eq!(RejectedBytes::of(&found[0], "content"), RejectedBytes::Inline(b"a\0\nb".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_too_many_rejects_is_held_and_ingested_once_its_app_is_repaired() {
    let mut fixture = Fixture::of_mode(&["reject", "1"]);
    let ingestion = fixture.stage("a.ndjson", &[5, 4]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("2 of 9 records were rejected, the limit is 0 (rejects_max 10%)"), "{reason}");
    let store = fixture.client_database().await;
    assert_eq!(store.find(REJECTED, bson::doc! {}, 10).await.expect("find"), [], "the held file has them");
    store.close().await;

    fixture.configure(&settings(json!({ "command": command(&["good"]) })));
    retry_held(&fixture.config.layout, &fixture.client(), ingestion).expect("retry");
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [9, 9, 0, 0]);
    fixture.stop().await;
}

/// Returns settings that allow all records of a file to be rejected.
fn tolerant(mode: &[&str]) -> Value {
    settings(json!({ "command": command(mode), "rejects_max": "100%" }))
}

fn number(document: &bson::Document, name: &str) -> i64 {
    match document.get(name) {
        Some(bson::Bson::Int64(number)) => *number,
        Some(bson::Bson::Int32(number)) => i64::from(*number),
        other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_gets_a_receipt_and_without_archive_the_file_is_removed() {
    let mut fixture = with_receipts();
    let ingestion = fixture.stage("a.ndjson", &[7]);
    fixture.start();
    let receipt = fixture.path("client-input-directory/client1/a.ndjson.receipt.json");
    fixture.until("the file is removed", || receipt.is_file() && !fixture.is_staged(ingestion)).await;
    fixture.stop().await;
    let receipt: Value = serde_json::from_slice(&std::fs::read(receipt).expect("read")).expect("JSON");
    assert_eq!(
        (&receipt["state"], &receipt["stored"], &receipt["file"]),
        (&json!("ingested"), &json!(7), &json!("a.ndjson"))
    );
    assert_eq!(fixture.root.list("staging/client1"), Vec::<String>::new());
    assert_eq!(fixture.root.list("state/outbox").len(), 1, "the message waits for a broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_of_a_held_file_gets_a_receipt_too_and_another_one_when_it_is_ingested() {
    let mut fixture = with_receipts();
    let ingestion = fixture.stage("a.ndjson", &[7]);
    let staged = fixture.path("staging/client1").join(ingestion.to_string()).join("a.ndjson");
    let content = std::fs::read(&staged).expect("content");
    std::fs::write(&staged, vec![b'x'; content.len()]).expect("other content");
    fixture.start();
    let receipt = fixture.path("client-input-directory/client1/a.ndjson.receipt.json");
    let state = || {
        let receipt = std::fs::read(&receipt).ok()?;
        serde_json::from_slice::<Value>(&receipt).ok()?["state"].as_str().map(str::to_owned)
    };
    let held = fixture.path("held/client1").join(ingestion.to_string());
    fixture.until("it is held", || held.join("reason.json").exists()).await;
    assert_eq!(state().as_deref(), Some("held"));
    std::fs::write(held.join("a.ndjson"), content).expect("the content that was staged");
    retry_held(&fixture.config.layout, &fixture.client(), ingestion).expect("retried");
    fixture.until("it is ingested", || state().as_deref() == Some("ingested")).await;
    fixture.stop().await;
}

/// The client owns its folder, and may put anything in the way of a receipt.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_follows_no_symlink_of_its_reader() {
    let mut fixture = with_receipts();
    let ingestion = fixture.stage("a.ndjson", &[7]);
    let (folder, theirs) = (fixture.path("client-input-directory/client1"), fixture.path("theirs"));
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(&theirs, "theirs").expect("file");
    for name in ["a.ndjson.receipt.json", ".a.ndjson.receipt.json.tmp"] {
        symlink(&theirs, folder.join(name)).expect("symlink");
    }
    fixture.start();
    fixture.until("the file is removed", || !fixture.is_staged(ingestion)).await;
    fixture.stop().await;
    assert_eq!(std::fs::read(&theirs).expect("file"), b"theirs");
    let receipt = folder.join("a.ndjson.receipt.json");
    let metadata = receipt.symlink_metadata().expect("receipt");
    assert!(metadata.is_file(), "{metadata:?}");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o644, "its reader is another user");
    let receipt: Value = serde_json::from_slice(&std::fs::read(receipt).expect("read")).expect("JSON");
    assert_eq!(receipt["stored"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_obstacle_to_a_receipt_delays_no_ingestion_and_nothing_is_written_elsewhere() {
    let mut fixture = with_receipts();
    let first = fixture.stage("a.ndjson", &[7]);
    let (drop_directory, theirs) = (fixture.path("client-input-directory"), fixture.path("theirs"));
    std::fs::create_dir_all(&theirs).expect("directory");
    std::fs::create_dir_all(&drop_directory).expect("directory");
    symlink(&theirs, drop_directory.join("client1")).expect("symlink");
    fixture.start();
    fixture.until("the file is removed", || !fixture.is_staged(first)).await;
    std::fs::remove_file(drop_directory.join("client1")).expect("remove");
    std::fs::create_dir_all(drop_directory.join("client1/b.ndjson.receipt.json/x")).expect("directories");
    let second = fixture.stage("b.ndjson", &[8]);
    fixture.until("the file is removed", || !fixture.is_staged(second)).await;
    fixture.stop().await;
    assert_eq!(std::fs::read_dir(&theirs).expect("list").count(), 0);
    assert_eq!(std::fs::read_dir(drop_directory.join(".mysimbdp")).expect("list").count(), 0);
}

/// Returns a fixture whose client wants receipts and no archive.
fn with_receipts() -> Fixture {
    let mut value = settings(json!({}));
    value["clients"][0]["receipt"] = json!(true);
    value["clients"][0].as_object_mut().expect("an object").remove("archive");
    Fixture::new(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn content_changed_after_staging_is_held_before_any_of_it_is_fed() {
    let mut fixture = Fixture::of_mode(&["good"]);
    let ingestion = fixture.stage("a.ndjson", &[5, 5]);
    let staged = fixture.config.layout.staged(&fixture.client(), ingestion).join("a.ndjson");
    let mut content = std::fs::read(&staged).expect("read");
    content.iter_mut().for_each(|byte| byte.make_ascii_uppercase());
    std::fs::write(&staged, content).expect("overwrite");
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("changed after it was staged"), "{reason}");
    assert_eq!(fixture.runs(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_changed_after_feeding_is_held_at_the_end() {
    let mut fixture = Fixture::of_mode(&["change"]);
    let ingestion = fixture.stage("a.ndjson", &[5]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("changed after it was staged") && reason.contains("BLAKE3"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_unavailable_from_the_start_delays_visibly_and_loses_nothing() {
    let mut fixture = Fixture::of_mode(&["good"]);
    // The embedded store's directory cannot be made, because a file has its name.
    let store = fixture.path("state/coredms");
    std::fs::create_dir_all(store.parent().expect("has a parent")).expect("state");
    std::fs::write(&store, "in the way").expect("block the store");
    let ingestion = fixture.stage("a.ndjson", &[5]);
    let noted = fixture.outcomes(ingestion).join("00000.attempt.json");
    fixture.start();
    fixture.until("it says what it waits for", || noted.is_file()).await;
    assert!(std::fs::read_to_string(&noted).expect("read").contains("coredms"));
    std::fs::remove_file(&store).expect("unblock the store");
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [5, 5, 0, 0]);
    fixture.stop().await;
    assert_eq!(fixture.runs().len(), 1, "the app was run only once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_killed_when_all_is_stored_delays_the_audit_and_loses_nothing() {
    let mut database = Mongod::start();
    let python = python();
    let app = [python.to_str().expect("UTF-8"), "app.py", "gate-after"];
    let mut value = settings(json!({ "command": app }));
    value["coredms"] = json!({ "url": database.url(), "database": unique("row7") });
    let mut fixture = Fixture::new(value);
    let ingestion = fixture.stage("a.ndjson", &[5]);
    fixture.start();
    fixture.until("all is stored", || fixture.path("stored").is_file()).await;
    database.kill9();
    std::fs::write(fixture.path("gate"), "").expect("open the gate");
    let noted = |ingestion| fixture.outcomes(ingestion).join("00000.attempt.json");
    let waits_for_coredms =
        |noted: &Path| std::fs::read_to_string(noted).is_ok_and(|noted| noted.contains("coredms at"));
    fixture.until("the audit waits for the database", || waits_for_coredms(&noted(ingestion))).await;
    assert!(!fixture.outcomes(ingestion).join("00000.json").exists(), "nobody has counted what is stored");
    let later = fixture.stage("later.ndjson", &[2]);
    fixture.until("the next file waits too", || waits_for_coredms(&noted(later))).await;
    database.restart();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [5, 5, 0, 0]);
    assert_eq!(counts(&fixture.until_ingested(later).await), [2, 2, 0, 0]);
    fixture.stop().await;
}

/// The app reports the failure with an exit status of its own, and has only one attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_fails_while_the_database_is_unavailable_is_not_blamed() {
    let mut database = Mongod::start();
    let python = python();
    let app = [python.to_str().expect("UTF-8"), "app.py", "gate"];
    let mut value = settings(json!({ "command": app }));
    value["batch_manager"]["attempts_max"] = json!(1);
    value["coredms"] = json!({ "url": database.url(), "database": unique("blame") });
    let mut fixture = Fixture::new(value);
    let ingestion = fixture.stage("a.ndjson", &[5]);
    fixture.start();
    fixture.until("the app waits", || fixture.path("waiting").is_file()).await;
    database.kill9();
    std::fs::write(fixture.path("gate"), "").expect("open the gate");
    let noted = fixture.outcomes(ingestion).join("00000.attempt.json");
    fixture
        .until("it has failed", || {
            std::fs::read_to_string(&noted).is_ok_and(|noted| noted.contains("app ended with 1"))
        })
        .await;
    database.restart();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [5, 5, 0, 0]);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_collections_have_their_validators_before_the_first_unit() {
    let mut value = settings(json!({ "command": command(&["good"]) }));
    value["clients"][0]["collections"] =
        json!({ "app": { "validator": { "bsonType": "object", "required": ["n"] } } });
    let mut fixture = Fixture::new(value);
    let ingestion = fixture.stage("a.ndjson", &[1]);
    fixture.start();
    fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    let store = fixture.client_database().await;
    let bad = bson::RawDocumentBuf::try_from(&bson::doc! { "_id": 1 }).expect("a document");
    let written = store.insert_many("app", vec![bad]).await.expect("insert");
    assert_eq!((written.stored, written.rejected.len()), (0, 1));
}
