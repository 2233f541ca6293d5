//! What a power cut leaves: torn and missing files are derived again, or were synced before anything depended on them.

use std::fs::{self, File};

use mysimbdp_config::REJECTED;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::message::Finished;
use mysimbdp_testbed::{Disk, FileSystem, mosquitto, mqtt::Listener, unique, until_async};
use serde_json::{Value, json};

use crate::workshop::{DEADLINE, Workshop, command, counts, settings};

/// A way to tear a file; `None` takes it away.
const TORN: [Option<&[u8]>; 3] = [Some(b""), Some(b"{\"record\":0,\"rea"), None];

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_whose_rejects_are_torn_is_not_believed_and_they_are_listed_once() {
    for name in ["00000.rejects.ndjson", "00000.json"] {
        for torn in TORN {
            let (mut workshop, ingestion) = first_of_two_units_is_done().await;
            tear(&workshop, ingestion, name, torn);
            assert_eq!(counts(&ends(&mut workshop, ingestion).await), [7, 6, 0, 1], "{name} {torn:?}");
            let store = workshop.client_database().await;
            let rejects = store.find(REJECTED, bson::doc! {}, 10).await.expect("find");
            assert_eq!(rejects.len(), 1, "{name} {torn:?}: {rejects:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_forgotten_attempt_has_stored_are_no_duplicates() {
    let (mut workshop, ingestion) = first_of_two_units_is_done().await;
    fs::remove_dir_all(workshop.outcomes(ingestion)).expect("forget everything");
    assert_eq!(counts(&ends(&mut workshop, ingestion).await), [7, 6, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_manifest_is_torn_is_held_and_not_forgotten() {
    for torn in TORN {
        let mut workshop = Workshop::of_mode(&["good"]);
        let ingestion = workshop.stage("a.ndjson", &[4]);
        let manifest = workshop.config.layout.staged(&workshop.client(), ingestion).join(Layout::MANIFEST);
        tear_file(&manifest, torn);
        workshop.start();
        let reason = workshop.until_held(ingestion).await;
        workshop.stop().await;
        assert!(reason.contains("manifest.json"), "{reason}");
        let held = workshop.config.layout.held(&workshop.client(), ingestion);
        assert_eq!(fs::read_to_string(held.join("a.ndjson")).expect("content").lines().count(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_message_is_derived_from_the_history_and_published() {
    let prefix = unique("torn");
    let mut value = settings(json!({}));
    let mut workshop = Workshop::new(value.clone());
    let ingestion = workshop.stage("a.ndjson", &[4]);
    workshop.start();
    workshop.until_ingested(ingestion).await;
    workshop.stop().await;
    let [message] = workshop.root.list("state/outbox").try_into().expect("one message waits for a broker");
    fs::write(workshop.path("state/outbox").join(message), "").expect("tear it");

    let listener = Listener::subscribe(mosquitto().url(), &format!("{prefix}/batch/finished/client1"));
    value["broker"] = json!({"url": mosquitto().url(), "topic_prefix": prefix});
    workshop.configure(&value);
    workshop.start();
    until_async(DEADLINE, "the message has come", async || !listener.messages().is_empty()).await;
    workshop.until("it is published", || workshop.root.list("state/outbox").is_empty()).await;
    workshop.stop().await;
    let (_, message) = listener.messages().remove(0);
    let message: Finished = serde_json::from_str(&message).expect("a message");
    assert_eq!((message.ingestion, message.counts.stored, message.file.as_str()), (ingestion, 4, "a.ndjson"));
}

/// Names are on disk, as somebody has just synced another file and the journal with it.
#[tokio::test]
async fn power_cut_after_the_end_leaves_the_receipt_whole() {
    for file_system in [FileSystem::Ext4, FileSystem::Ext4NoAutoDaAlloc, FileSystem::Xfs] {
        let Some(mut disk) = Disk::new_or_skip(file_system) else { return };
        let mut value = settings(json!({}));
        value["clients"][0]["receipt"] = json!(true);
        let mut workshop = Workshop::within(disk.path(), value);
        let ingestion = workshop.stage("a.ndjson", &[7]);
        disk.sync();
        workshop.start();
        workshop.until_ingested(ingestion).await;
        workshop.stop().await;
        File::create(disk.path().join("other")).and_then(|file| file.sync_all()).expect("sync");
        disk.cut();
        disk.restore();
        let receipt = workshop.path("client-input-directory/client1/a.ndjson.receipt.json");
        let receipt = fs::read(receipt).expect("a receipt");
        let receipt: Value = serde_json::from_slice(&receipt)
            .unwrap_or_else(|error| panic!("{file_system:?}: {error}: {receipt:?}"));
        assert_eq!(receipt["stored"], 7);
    }
}

/// A file of two units: one is stored, and has rejected a record; the other waits, and the manager has ended.
async fn first_of_two_units_is_done() -> (Workshop, IngestionId) {
    let command = command(&["reject-then-wait"]);
    let mut workshop = Workshop::new(settings(json!({ "command": command, "rejects_max": 1 })));
    let ingestion = workshop.stage("a.ndjson", &[4, 3]);
    workshop.start();
    let outcome = workshop.outcomes(ingestion).join("00000.json");
    workshop.until("the first unit is done", || outcome.is_file()).await;
    workshop.stop().await;
    (workshop, ingestion)
}

/// Starts the manager again, lets the second unit go on, and returns the history.
async fn ends(workshop: &mut Workshop, ingestion: IngestionId) -> bson::Document {
    fs::write(workshop.path("gate"), "").expect("open the gate");
    workshop.start();
    let run = workshop.until_ingested(ingestion).await;
    workshop.stop().await;
    run
}

fn tear(workshop: &Workshop, ingestion: IngestionId, name: &str, torn: Option<&[u8]>) {
    tear_file(&workshop.outcomes(ingestion).join(name), torn);
}

fn tear_file(path: &std::path::Path, torn: Option<&[u8]>) {
    match torn {
        Some(content) => fs::write(path, content).expect("tear"),
        None => fs::remove_file(path).expect("remove"),
    }
}
