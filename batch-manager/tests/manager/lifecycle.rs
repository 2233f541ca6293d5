//! Starting, being rung, being stopped, being killed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mysimbdp_batch_manager as batch_manager;
use mysimbdp_config::Config;
use mysimbdp_platform::process::ProcessId;
use mysimbdp_testbed::Mosquitto;
use mysimbdp_testbed::mqtt::{self, Listener};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::workshop::{Workshop, command, counts, settings};

fn pid(run: &Value) -> u32 {
    run["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_starts_what_the_clock_would_have_found_later_and_forged_ones_change_nothing() {
    let broker = Mosquitto::start();
    let mut value = settings(json!({}));
    value["batch_manager"]["scan_every"] = json!("1h");
    value["broker"] = json!({ "url": broker.url(), "topic_prefix": "rung" });
    let mut workshop = Workshop::new(value);
    let finished = Listener::subscribe(&broker.url(), "rung/batch/finished/+");
    // Found by the look that a new connection brings: from then on only a ring can be the reason.
    let first = workshop.stage("first.ndjson", &[1]);
    workshop.start();
    workshop.until_ingested(first).await;
    workshop.until("the first is told of", || finished.messages().len() == 1).await;
    for forged in ["{", "[]", "../client1", "client2", "{\"client_id\":\"client1\"}"] {
        mqtt::publish(&broker.url(), "rung/batch/staged/client1", forged);
    }
    let ring = |ingestion: &str| {
        let staged = json!({"version": 1, "client_id": "client1", "ingestion": ingestion, "manifest": "/etc/passwd",
            "micro_batches": 1, "bytes": 1, "lane": "live"});
        mqtt::publish(&broker.url(), "rung/batch/staged/client1", &staged.to_string());
    };
    let silent = workshop.stage("silent.ndjson", &[3]);
    let second = workshop.stage("second.ndjson", &[2]);
    ring(&"0".repeat(32));
    ring(&first.to_string());
    ring(&second.to_string());
    assert_eq!(counts(&workshop.until_ingested(second).await), [2, 2, 0, 0]);
    workshop.until("the second is told of", || finished.messages().len() == 2).await;
    assert!(workshop.root.list("staging/client1").contains(&silent.to_string()), "nobody has named it");
    mqtt::publish(&broker.url(), "rung/batch/staged/client1", "client1");
    assert_eq!(counts(&workshop.until_ingested(silent).await), [3, 3, 0, 0]);
    workshop.until("the third is told of", || finished.messages().len() == 3).await;
    let (topic, payload) = finished.messages().remove(1);
    let message: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(topic, "rung/batch/finished/client1");
    assert_eq!((&message["state"], &message["stored"]), (&json!("ingested"), &json!(2)));
    workshop.until("the outbox is empty", || workshop.root.list("state/outbox").is_empty()).await;
    workshop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_stops_running_apps_and_the_next_start_runs_their_units_again() {
    let mut workshop = Workshop::of_mode(&["gate"]);
    let ingestion = workshop.stage("a.ndjson", &[5]);
    workshop.start();
    workshop.until("the unit runs", || workshop.runs().len() == 1).await;
    workshop.stop().await;
    assert!(ProcessId::of_pid(pid(&workshop.runs()[0])).is_none(), "the app has been stopped");
    assert!(workshop.is_staged(ingestion));
    std::fs::write(workshop.path("gate"), "").expect("open the gate");
    workshop.start();
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [5, 5, 0, 0]);
    workshop.stop().await;
    assert_eq!(workshop.runs()[1]["attempt"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_an_app_that_ignores_sigterm() {
    let mut workshop = Workshop::of_mode(&["hang"]);
    let ingestion = workshop.stage("a.ndjson", &[5]);
    workshop.start();
    workshop.until("the unit runs", || workshop.runs().len() == 1).await;
    workshop.stop().await;
    assert!(ProcessId::of_pid(pid(&workshop.runs()[0])).is_none());
    assert!(workshop.is_staged(ingestion), "a stopped unit is no failed one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_manager_of_the_same_staging_is_refused_and_told_who_holds_it() {
    let mut workshop = Workshop::of_mode(&["good"]);
    workshop.start();
    workshop.until("it has started", || workshop.path("staging/.batch-manager.lock").is_file()).await;
    let (_shutdown, told) = watch::channel(false);
    let refused = batch_manager::run(Arc::clone(&workshop.config), told).await.expect_err("the lock is held");
    assert_eq!(refused.kind(), mysimbdp_model::error_kind::ErrorKind::NotPermitted);
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    workshop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_read_is_left_and_hinders_no_other() {
    let mut workshop = Workshop::of_mode(&["good"]);
    let broken = workshop.stage("broken.ndjson", &[1]);
    let directory = workshop.config.layout.staged(&workshop.client(), broken);
    std::fs::write(directory.join("manifest.json"), "{\"version\":99}").expect("break");
    let whole = workshop.stage("whole.ndjson", &[1]);
    workshop.start();
    workshop.until_ingested(whole).await;
    workshop.stop().await;
    assert!(directory.join("broken.ndjson").is_file());
}

/// The data root that the process below works on.
const ROOT_OF_KILLED: &str = "MYSIMBDP_TEST_MANAGER_ROOT";

/// Not a test of its own: the manager that the test below kills.
#[tokio::test(flavor = "multi_thread")]
async fn manages_when_asked_to() {
    let Some(root) = std::env::var_os(ROOT_OF_KILLED) else { return };
    let config =
        Config::load(&Path::new(&root).join("config.json"), |_| None).expect("a config without faults");
    let (_shutdown, told) = watch::channel(false);
    batch_manager::run(Arc::new(config), told).await.expect("it runs until it is killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_it_leaves_nothing_running_and_the_next_one_finishes_the_work() {
    let app = json!({ "command": command(&["gate"]), "concurrency": 3 });
    let mut workshop = Workshop::new(settings(app));
    let ingestion = workshop.stage("a.ndjson", &[5, 5]);
    let mut killed = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "lifecycle::manages_when_asked_to", "--nocapture"])
        .env(ROOT_OF_KILLED, workshop.root.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start this test again");
    workshop.until("both units run", || workshop.runs().len() == 2).await;
    killed.kill().expect("kill -9");
    killed.wait().expect("reap");
    workshop
        .until("both apps have died", || {
            workshop.runs().iter().all(|run| ProcessId::of_pid(pid(run)).is_none())
        })
        .await;
    std::fs::write(workshop.path("gate"), "").expect("open the gate");
    workshop.start();
    assert_eq!(counts(&workshop.until_ingested(ingestion).await), [10, 10, 0, 0]);
    workshop.stop().await;
    assert!(workshop.runs()[2..].iter().all(|run| run["attempt"] == 2));
}
