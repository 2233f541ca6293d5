//! How a file ends: rejected records, receipts, changed content, a store that is away.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use mysimbdp_config::REJECTED;
use mysimbdp_model::manifest::Format;
use mysimbdp_spool::staging::retry_held;
use mysimbdp_store::rejected::{INLINE_BYTES_MAX, Kept};
use mysimbdp_testbed::{Mongod, python, unique};
use serde_json::{Value, json};

use crate::workshop::{Workshop, command, counts, settings};

#[tokio::test(flavor = "multi_thread")]
async fn each_rejected_record_is_in_the_clients_database_with_number_reason_and_content() {
    let mut workshop = Workshop::new(tolerant(&["reject", "1", "3"]));
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
    for (document, record) in found.iter().zip(records) {
        let content = format!("{{\"file\":\"a.ndjson\",\"n\":{record}}}");
        assert_eq!(number(document, "content_bytes"), content.len() as i64);
        assert_eq!(Kept::of(document, "content"), Kept::Here(content.into_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_content_is_kept_whole_whatever_it_is_and_however_large() {
    let mut workshop = Workshop::new(tolerant(&["reject", "0", "2", "3"]));
    let large = [b'x', b'y'].map(|byte| vec![byte; INLINE_BYTES_MAX as usize + 1]);
    let lines = [b"{\"a\":\xff}\r\n".as_slice(), b"{}\n\n \n", &large[0], b"\n", &large[1]].concat();
    let ingestion = workshop.stage_ranges("a.ndjson", Format::Ndjson, &[(lines, 4)]);
    workshop.start();
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [4, 1, 0, 3]);
    workshop.stop().await;
    let store = workshop.client_database().await;
    let found = store.find(REJECTED, bson::doc! {}, 10).await.expect("find");
    assert_eq!(Kept::of(&found[0], "content"), Kept::Here(b"{\"a\":\xff}".to_vec()));
    for (reject, large) in found[1..].iter().zip(large) {
        let Kept::Beside(id) = Kept::of(reject, "content") else { panic!("{reject:?}") };
        assert_eq!(number(reject, "content_bytes"), large.len() as i64);
        assert!(store.object(REJECTED, id).await.expect("read") == Some(large), "not the same bytes");
    }
    let prefix = store.object(REJECTED, ingestion).await.expect("read");
    assert_eq!(prefix, Some(Vec::new()), "there is none");
}

/// A binary file is one record, and all of it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_its_one_record_is_kept_too() {
    let mut value = tolerant(&["reject", "0"]);
    value["clients"][0]["apps"][0]["unit"] = json!("file");
    let mut workshop = Workshop::new(value);
    let ranges = [(b"a\0".to_vec(), 1), (b"\nb".to_vec(), 0)];
    let ingestion = workshop.stage_ranges("a.bin", Format::Binary, &ranges);
    workshop.start();
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [1, 0, 0, 1]);
    workshop.stop().await;
    let store = workshop.client_database().await;
    let found = store.find(REJECTED, bson::doc! {}, 10).await.expect("find");
    assert_eq!(Kept::of(&found[0], "content"), Kept::Here(b"a\0\nb".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_which_too_much_is_rejected_is_held_and_ends_well_when_its_app_was_mended() {
    let mut workshop = Workshop::of_mode(&["reject", "1"]);
    let ingestion = workshop.stage("a.ndjson", &[5, 4]);
    workshop.start();
    let reason = workshop.until_held(ingestion).await;
    workshop.stop().await;
    assert!(reason.contains("2 of 9 records were rejected, allowed are 0 (rejects_max 10%)"), "{reason}");
    let store = workshop.client_database().await;
    assert_eq!(store.find(REJECTED, bson::doc! {}, 10).await.expect("find"), [], "the held file has them");
    store.close().await;

    workshop.configure(&settings(json!({ "command": command(&["good"]) })));
    retry_held(&workshop.config.layout, &workshop.client(), ingestion).expect("retry");
    workshop.start();
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [9, 9, 0, 0]);
    workshop.stop().await;
}

/// Settings under which a file may be rejected as a whole.
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

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_of_a_held_file_gets_a_receipt_too_and_another_one_when_it_is_ingested() {
    let mut workshop = with_receipts();
    let ingestion = workshop.stage("a.ndjson", &[7]);
    let staged = workshop.path("staging/client1").join(ingestion.to_string()).join("a.ndjson");
    let content = std::fs::read(&staged).expect("content");
    std::fs::write(&staged, vec![b'x'; content.len()]).expect("other content");
    workshop.start();
    let receipt = workshop.path("client-input-directory/client1/a.ndjson.receipt.json");
    let state = || {
        let receipt = std::fs::read(&receipt).ok()?;
        serde_json::from_slice::<Value>(&receipt).ok()?["state"].as_str().map(str::to_owned)
    };
    let held = workshop.path("held/client1").join(ingestion.to_string());
    workshop.until("it is held", || held.join("reason.json").exists()).await;
    assert_eq!(state().as_deref(), Some("held"));
    std::fs::write(held.join("a.ndjson"), content).expect("the content that was staged");
    retry_held(&workshop.config.layout, &workshop.client(), ingestion).expect("retried");
    workshop.until("it is ingested", || state().as_deref() == Some("ingested")).await;
    workshop.stop().await;
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
