//! After a power cut, torn and missing files are derived again, or were synced before anything depended on them.

use std::fs::{self, File};

use mysimbdp_config::REJECTED;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::message::Finished;
use mysimbdp_testbed::{Disk, FileSystem, mosquitto, mqtt::MqttListener, unique, until_async};
use serde_json::{Value, json};

use crate::fixture::{DEADLINE, Fixture, command, counts, settings};

/// Ways to tear a file; `None` removes it.
const TORN: [Option<&[u8]>; 3] = [Some(b""), Some(b"{\"record\":0,\"rea"), None];

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_whose_rejects_are_torn_is_not_believed_and_they_are_listed_once() {
    for name in ["00000.rejects.ndjson", "00000.json"] {
        for torn in TORN {
            let (mut fixture, ingestion) = first_of_two_units_is_done().await;
            tear(&fixture, ingestion, name, torn);
            assert_eq!(
                counts(&finish_after_restart(&mut fixture, ingestion).await),
                [7, 6, 0, 1],
                "{name} {torn:?}"
            );
            let store = fixture.client_database().await;
            let rejects = store.find(REJECTED, bson::doc! {}, 10).await.expect("find");
            assert_eq!(rejects.len(), 1, "{name} {torn:?}: {rejects:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_stored_by_a_lost_attempt_are_not_duplicates() {
    let (mut fixture, ingestion) = first_of_two_units_is_done().await;
    fs::remove_dir_all(fixture.outcomes(ingestion)).expect("forget everything");
    assert_eq!(counts(&finish_after_restart(&mut fixture, ingestion).await), [7, 6, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_manifest_is_torn_is_held() {
    for torn in TORN {
        let mut fixture = Fixture::of_mode(&["good"]);
        let ingestion = fixture.stage("a.ndjson", &[4]);
        let manifest = fixture.config.layout.staged(&fixture.client(), ingestion).join(Layout::MANIFEST);
        tear_file(&manifest, torn);
        fixture.start();
        let reason = fixture.until_held(ingestion).await;
        fixture.stop().await;
        assert!(reason.contains("manifest.json"), "{reason}");
        let held = fixture.config.layout.held(&fixture.client(), ingestion);
        assert_eq!(fs::read_to_string(held.join("a.ndjson")).expect("content").lines().count(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_message_is_derived_from_the_history_and_published() {
    let prefix = unique("torn");
    let mut value = settings(json!({}));
    let mut fixture = Fixture::new(value.clone());
    let ingestion = fixture.stage("a.ndjson", &[4]);
    fixture.start();
    fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    let [message] = fixture.root.list("state/outbox").try_into().expect("one message waits for a broker");
    fs::write(fixture.path("state/outbox").join(message), "").expect("tear it");

    let listener = MqttListener::subscribe(mosquitto().url(), &format!("{prefix}/batch/finished/client1"));
    value["broker"] = json!({"url": mosquitto().url(), "topic_prefix": prefix});
    fixture.configure(&value);
    fixture.start();
    until_async(DEADLINE, "the message has come", async || !listener.messages().is_empty()).await;
    fixture.until("it is published", || fixture.root.list("state/outbox").is_empty()).await;
    fixture.stop().await;
    let (_, message) = listener.messages().remove(0);
    let message: Finished = serde_json::from_str(&message).expect("a message");
    assert_eq!((message.ingestion, message.counts.stored, message.file.as_str()), (ingestion, 4, "a.ndjson"));
}

/// File names are on disk, because syncing another file has synced the journal too.
#[tokio::test]
async fn power_cut_after_the_end_leaves_the_receipt_whole() {
    for file_system in [FileSystem::Ext4, FileSystem::Ext4NoAutoDaAlloc, FileSystem::Xfs] {
        let Some(mut disk) = Disk::new_or_skip(file_system) else { return };
        let mut value = settings(json!({}));
        value["clients"][0]["receipt"] = json!(true);
        let mut fixture = Fixture::within(disk.path(), value);
        let ingestion = fixture.stage("a.ndjson", &[7]);
        disk.sync();
        fixture.start();
        fixture.until_ingested(ingestion).await;
        fixture.stop().await;
        File::create(disk.path().join("other")).and_then(|file| file.sync_all()).expect("sync");
        disk.cut();
        disk.restore();
        let receipt = fixture.path("client-input-directory/client1/a.ndjson.receipt.json");
        let receipt = fs::read(receipt).expect("a receipt");
        let receipt: Value = serde_json::from_slice(&receipt)
            .unwrap_or_else(|error| panic!("{file_system:?}: {error}: {receipt:?}"));
        assert_eq!(receipt["stored"], 7);
    }
}

/// Returns a file of two units: one is stored, with a rejected record; the other waits, and the manager has ended.
async fn first_of_two_units_is_done() -> (Fixture, IngestionId) {
    let command = command(&["reject-then-wait"]);
    let mut fixture = Fixture::new(settings(json!({ "command": command, "rejects_max": 1 })));
    let ingestion = fixture.stage("a.ndjson", &[4, 3]);
    fixture.start();
    let outcome = fixture.outcomes(ingestion).join("00000.json");
    fixture.until("the first unit is done", || outcome.is_file()).await;
    fixture.stop().await;
    (fixture, ingestion)
}

/// Starts the manager again, lets the second unit continue, and returns the history of the run.
async fn finish_after_restart(fixture: &mut Fixture, ingestion: IngestionId) -> bson::Document {
    fs::write(fixture.path("gate"), "").expect("open the gate");
    fixture.start();
    let run = fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    run
}

fn tear(fixture: &Fixture, ingestion: IngestionId, name: &str, torn: Option<&[u8]>) {
    tear_file(&fixture.outcomes(ingestion).join(name), torn);
}

fn tear_file(path: &std::path::Path, torn: Option<&[u8]>) {
    match torn {
        Some(content) => fs::write(path, content).expect("tear"),
        None => fs::remove_file(path).expect("remove"),
    }
}
