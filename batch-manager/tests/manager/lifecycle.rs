//! Starting the batch-manager, notifying it, stopping and killing it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mysimbdp_batch_manager as batch_manager;
use mysimbdp_config::Config;
use mysimbdp_platform::lock::{self, Holder};
use mysimbdp_platform::process::ProcessId;
use mysimbdp_testbed::Mosquitto;
use mysimbdp_testbed::mqtt::{self, MqttListener};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fixture::{Fixture, command, counts, settings};

fn pid(run: &Value) -> u32 {
    run["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_notification_starts_work_before_the_next_scan_and_invalid_ones_change_nothing() {
    let broker = Mosquitto::start();
    let mut value = settings(json!({}));
    value["batch_manager"]["scan_every"] = json!("1h");
    value["broker"] = json!({ "url": broker.url(), "topic_prefix": "notified" });
    let mut fixture = Fixture::new(value);
    let finished = MqttListener::subscribe(&broker.url(), "notified/batch/finished/+");
    // The scan after connecting finds this file; from then on, only a notification can start work.
    let first = fixture.stage("first.ndjson", &[1]);
    fixture.start();
    fixture.until_ingested(first).await;
    fixture.until("the first is announced", || finished.messages().len() == 1).await;
    for invalid in ["{", "[]", "../client1", "client2", "{\"client_id\":\"client1\"}"] {
        mqtt::publish(&broker.url(), "notified/batch/staged/client1", invalid);
    }
    let notify = |ingestion: &str| {
        let staged = json!({"version": 1, "client_id": "client1", "ingestion": ingestion, "manifest": "/etc/passwd",
            "micro_batches": 1, "bytes": 1, "lane": "live"});
        mqtt::publish(&broker.url(), "notified/batch/staged/client1", &staged.to_string());
    };
    let silent = fixture.stage("silent.ndjson", &[3]);
    let second = fixture.stage("second.ndjson", &[2]);
    notify(&"0".repeat(32));
    notify(&first.to_string());
    notify(&second.to_string());
    assert_eq!(counts(&fixture.until_ingested(second).await), [2, 2, 0, 0]);
    fixture.until("the second is announced", || finished.messages().len() == 2).await;
    assert!(
        fixture.root.list("staging/client1").contains(&silent.to_string()),
        "no notification has named it"
    );
    mqtt::publish(&broker.url(), "notified/batch/staged/client1", "client1");
    assert_eq!(counts(&fixture.until_ingested(silent).await), [3, 3, 0, 0]);
    fixture.until("the third is announced", || finished.messages().len() == 3).await;
    let (topic, payload) = finished.messages().remove(1);
    let message: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(topic, "notified/batch/finished/client1");
    assert_eq!((&message["state"], &message["stored"]), (&json!("ingested"), &json!(2)));
    fixture.until("the outbox is empty", || fixture.root.list("state/outbox").is_empty()).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_stops_running_apps_and_the_next_start_runs_their_units_again() {
    let mut fixture = Fixture::of_mode(&["gate"]);
    let ingestion = fixture.stage("a.ndjson", &[5]);
    fixture.start();
    fixture.until("the unit runs", || fixture.runs().len() == 1).await;
    fixture.stop().await;
    assert!(ProcessId::of_pid(pid(&fixture.runs()[0])).is_none(), "the app has been stopped");
    assert!(fixture.is_staged(ingestion));
    std::fs::write(fixture.path("gate"), "").expect("open the gate");
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [5, 5, 0, 0]);
    fixture.stop().await;
    assert_eq!(fixture.runs()[1]["attempt"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_an_app_that_ignores_sigterm() {
    let mut fixture = Fixture::of_mode(&["hang"]);
    let ingestion = fixture.stage("a.ndjson", &[5]);
    fixture.start();
    fixture.until("the unit runs", || fixture.runs().len() == 1).await;
    fixture.stop().await;
    assert!(ProcessId::of_pid(pid(&fixture.runs()[0])).is_none());
    assert!(fixture.is_staged(ingestion), "a stopped unit has not failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_manager_of_the_same_staging_is_refused_and_told_who_holds_it() {
    let mut fixture = Fixture::of_mode(&["good"]);
    fixture.start();
    // The file exists a moment before it is locked.
    let holder = || lock::holder(&fixture.path("staging"), "batch-manager").ok();
    fixture.until("it has started", || holder() == Some(Holder::Here(std::process::id()))).await;
    let (_shutdown, receiver) = watch::channel(false);
    let refused =
        batch_manager::run(Arc::clone(&fixture.config), receiver).await.expect_err("the lock is held");
    assert_eq!(refused.kind(), mysimbdp_model::error_kind::ErrorKind::NotPermitted);
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_manifest_is_left_in_place_and_blocks_no_other_file() {
    let mut fixture = Fixture::of_mode(&["good"]);
    let broken = fixture.stage("broken.ndjson", &[1]);
    let directory = fixture.config.layout.staged(&fixture.client(), broken);
    std::fs::write(directory.join("manifest.json"), "{\"version\":99}").expect("break");
    let whole = fixture.stage("whole.ndjson", &[1]);
    fixture.start();
    fixture.until_ingested(whole).await;
    fixture.stop().await;
    assert!(directory.join("broken.ndjson").is_file());
}

/// Names the data root of the process that the test below starts.
const ROOT_OF_KILLED: &str = "MYSIMBDP_TEST_MANAGER_ROOT";

/// Not a test by itself: the manager that the test below kills.
#[tokio::test(flavor = "multi_thread")]
async fn runs_a_manager_if_started_by_another_test() {
    let Some(root) = std::env::var_os(ROOT_OF_KILLED) else { return };
    let config =
        Config::load(&Path::new(&root).join("config.json"), |_| None).expect("a config without faults");
    let (_shutdown, receiver) = watch::channel(false);
    batch_manager::run(Arc::new(config), receiver).await.expect("it runs until it is killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_manager_leaves_nothing_running_and_the_next_one_finishes_the_work() {
    let app = json!({ "command": command(&["gate"]), "concurrency": 3 });
    let mut fixture = Fixture::new(settings(app));
    let ingestion = fixture.stage("a.ndjson", &[5, 5]);
    let mut killed = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "lifecycle::runs_a_manager_if_started_by_another_test", "--nocapture"])
        .env(ROOT_OF_KILLED, fixture.root.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start this test again");
    fixture.until("both units run", || fixture.runs().len() == 2).await;
    killed.kill().expect("kill -9");
    killed.wait().expect("reap");
    fixture
        .until("both apps have died", || {
            fixture.runs().iter().all(|run| ProcessId::of_pid(pid(run)).is_none())
        })
        .await;
    std::fs::write(fixture.path("gate"), "").expect("open the gate");
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [10, 10, 0, 0]);
    fixture.stop().await;
    assert!(fixture.runs()[2..].iter().all(|run| run["attempt"] == 2));
}
