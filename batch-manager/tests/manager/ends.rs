//! How a file ends: rejected records, receipts, changed content, a store that is away.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use mysimbdp_core::config::REJECTED;
use mysimbdp_testbed::{Mongod, python, unique};
use serde_json::{Value, json};

use crate::workshop::{Workshop, command, counts, settings};

#[tokio::test(flavor = "multi_thread")]
async fn each_rejected_record_is_in_the_clients_database_with_number_and_reason() {
    let mut workshop = Workshop::of_mode(&["reject", "1", "3"]);
    let ingestion = workshop.stage("a.ndjson", &[5, 5]);
    workshop.start();
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [10, 6, 0, 4]);
    workshop.stop().await;
    let store = workshop.client_database().await;
    let found = store.find(REJECTED, bson::doc! {}, 10).await.expect("find");
    let records: Vec<i64> = found.iter().map(|document| number(document, "record")).collect();
    assert_eq!(records, [1, 3, 6, 8]);
    for (name, value) in
        [("reason", "not for position 1"), ("ingestion", &ingestion.to_string()), ("file", "a.ndjson")]
    {
        assert_eq!(found[2].get(name), Some(&value.into()), "{name}");
    }
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
    let mut workshop = with_receipts();
    let ingestion = workshop.stage("a.ndjson", &[7]);
    workshop.start();
    let receipt = workshop.path("client-input-directory/client1/a.ndjson.receipt.json");
    workshop.until("the file is removed", || receipt.is_file() && !workshop.is_staged(ingestion)).await;
    workshop.stop().await;
    let receipt: Value = serde_json::from_slice(&std::fs::read(receipt).expect("read")).expect("JSON");
    assert_eq!(
        (&receipt["state"], &receipt["stored"], &receipt["file"]),
        (&json!("ingested"), &json!(7), &json!("a.ndjson"))
    );
    assert_eq!(workshop.root.list("staging/client1"), Vec::<String>::new());
    assert_eq!(workshop.root.list("state/outbox").len(), 1, "the message waits for a broker");
}

/// The client's folder is the client's, who may put anything in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_follows_no_symlink_of_its_reader() {
    let mut workshop = with_receipts();
    let ingestion = workshop.stage("a.ndjson", &[7]);
    let (folder, theirs) = (workshop.path("client-input-directory/client1"), workshop.path("theirs"));
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(&theirs, "theirs").expect("file");
    for name in ["a.ndjson.receipt.json", ".a.ndjson.receipt.json.tmp"] {
        symlink(&theirs, folder.join(name)).expect("symlink");
    }
    workshop.start();
    workshop.until("the file is removed", || !workshop.is_staged(ingestion)).await;
    workshop.stop().await;
    assert_eq!(std::fs::read(&theirs).expect("file"), b"theirs");
    let receipt = folder.join("a.ndjson.receipt.json");
    let metadata = receipt.symlink_metadata().expect("receipt");
    assert!(metadata.is_file(), "{metadata:?}");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o644, "its reader is another user");
    let receipt: Value = serde_json::from_slice(&std::fs::read(receipt).expect("read")).expect("JSON");
    assert_eq!(receipt["stored"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_way_of_a_receipt_delays_no_end_and_nothing_is_written_elsewhere() {
    let mut workshop = with_receipts();
    let first = workshop.stage("a.ndjson", &[7]);
    let (drop_directory, theirs) = (workshop.path("client-input-directory"), workshop.path("theirs"));
    std::fs::create_dir_all(&theirs).expect("directory");
    std::fs::create_dir_all(&drop_directory).expect("directory");
    symlink(&theirs, drop_directory.join("client1")).expect("symlink");
    workshop.start();
    workshop.until("the file is removed", || !workshop.is_staged(first)).await;
    std::fs::remove_file(drop_directory.join("client1")).expect("remove");
    std::fs::create_dir_all(drop_directory.join("client1/b.ndjson.receipt.json/x")).expect("directories");
    let second = workshop.stage("b.ndjson", &[8]);
    workshop.until("the file is removed", || !workshop.is_staged(second)).await;
    workshop.stop().await;
    assert_eq!(std::fs::read_dir(&theirs).expect("list").count(), 0);
    assert_eq!(std::fs::read_dir(drop_directory.join(".mysimbdp")).expect("list").count(), 0);
}

/// A client that wants receipts and no archive.
fn with_receipts() -> Workshop {
    let mut value = settings(json!({}));
    value["clients"][0]["receipt"] = json!(true);
    value["clients"][0].as_object_mut().expect("an object").remove("archive");
    Workshop::new(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn content_changed_after_staging_is_held_before_any_of_it_is_fed() {
    let mut workshop = Workshop::of_mode(&["good"]);
    let ingestion = workshop.stage("a.ndjson", &[5, 5]);
    let staged = workshop.config.layout.staged(&workshop.client(), ingestion).join("a.ndjson");
    let mut content = std::fs::read(&staged).expect("read");
    content.iter_mut().for_each(|byte| byte.make_ascii_uppercase());
    std::fs::write(&staged, content).expect("overwrite");
    workshop.start();
    let reason = workshop.until_held(ingestion).await;
    workshop.stop().await;
    assert!(reason.contains("changed after it was staged"), "{reason}");
    assert_eq!(workshop.runs(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_changed_after_feeding_is_held_at_the_end() {
    let mut workshop = Workshop::of_mode(&["change"]);
    let ingestion = workshop.stage("a.ndjson", &[5]);
    workshop.start();
    let reason = workshop.until_held(ingestion).await;
    workshop.stop().await;
    assert!(reason.contains("changed after it was staged") && reason.contains("BLAKE3"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_from_the_beginning_delays_visibly_and_loses_nothing() {
    let mut workshop = Workshop::of_mode(&["good"]);
    // The embedded store's directory cannot be made where a file lies.
    let store = workshop.path("state/coredms");
    std::fs::create_dir_all(store.parent().expect("has a parent")).expect("state");
    std::fs::write(&store, "in the way").expect("block the store");
    let ingestion = workshop.stage("a.ndjson", &[5]);
    let noted = workshop.outcomes(ingestion).join("00000.attempt.json");
    workshop.start();
    workshop.until("it says what it waits for", || noted.is_file()).await;
    assert!(std::fs::read_to_string(&noted).expect("read").contains("coredms"));
    std::fs::remove_file(&store).expect("unblock the store");
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [5, 5, 0, 0]);
    workshop.stop().await;
    assert_eq!(workshop.runs().len(), 1, "the app was not run in vain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_killed_when_all_is_stored_delays_the_audit_and_loses_nothing() {
    let mut database = Mongod::start();
    let python = python();
    let app = [python.to_str().expect("UTF-8"), "app.py", "gate-after"];
    let mut value = settings(json!({ "command": app }));
    value["coredms"] = json!({ "url": database.url(), "database": unique("row7") });
    let mut workshop = Workshop::new(value);
    let ingestion = workshop.stage("a.ndjson", &[5]);
    workshop.start();
    workshop.until("all is stored", || workshop.path("stored").is_file()).await;
    database.kill9();
    std::fs::write(workshop.path("gate"), "").expect("open the gate");
    let noted = |ingestion| workshop.outcomes(ingestion).join("00000.attempt.json");
    let waits_for_coredms =
        |noted: &Path| std::fs::read_to_string(noted).is_ok_and(|noted| noted.contains("coredms at"));
    workshop.until("the audit waits for the database", || waits_for_coredms(&noted(ingestion))).await;
    assert!(!workshop.outcomes(ingestion).join("00000.json").exists(), "nobody has counted what is stored");
    let later = workshop.stage("later.ndjson", &[2]);
    workshop.until("the next file waits too", || waits_for_coredms(&noted(later))).await;
    database.restart();
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [5, 5, 0, 0]);
    assert_eq!(counts(&workshop.until_ingested(later).await), [2, 2, 0, 0]);
    workshop.stop().await;
}

/// It says so with an exit status of its own making, and may have no other try.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_fails_while_the_database_is_away_is_not_blamed_for_it() {
    let mut database = Mongod::start();
    let python = python();
    let app = [python.to_str().expect("UTF-8"), "app.py", "gate"];
    let mut value = settings(json!({ "command": app }));
    value["batch_manager"]["attempts_max"] = json!(1);
    value["coredms"] = json!({ "url": database.url(), "database": unique("blame") });
    let mut workshop = Workshop::new(value);
    let ingestion = workshop.stage("a.ndjson", &[5]);
    workshop.start();
    workshop.until("the app waits", || workshop.path("waiting").is_file()).await;
    database.kill9();
    std::fs::write(workshop.path("gate"), "").expect("open the gate");
    let noted = workshop.outcomes(ingestion).join("00000.attempt.json");
    workshop
        .until("it has failed", || {
            std::fs::read_to_string(&noted).is_ok_and(|noted| noted.contains("app ended with 1"))
        })
        .await;
    database.restart();
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [5, 5, 0, 0]);
    workshop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_collections_have_their_validators_before_the_first_unit() {
    let mut value = settings(json!({ "command": command(&["good"]) }));
    value["clients"][0]["collections"] =
        json!({ "app": { "validator": { "bsonType": "object", "required": ["n"] } } });
    let mut workshop = Workshop::new(value);
    let ingestion = workshop.stage("a.ndjson", &[1]);
    workshop.start();
    workshop.until_ingested(ingestion).await;
    workshop.stop().await;
    let store = workshop.client_database().await;
    let bad = bson::RawDocumentBuf::try_from(&bson::doc! { "_id": 1 }).expect("a document");
    let written = store.insert_many("app", vec![bad]).await.expect("insert");
    assert_eq!((written.stored, written.rejected.len()), (0, 1));
}
