//! Apps of the protocol `worker`.

use std::collections::BTreeSet;

use serde_json::json;

use crate::fixture::{Fixture, command, counts, settings};

fn fixture(mode: &[&str]) -> Fixture {
    Fixture::new(settings(json!({ "command": command(mode), "protocol": "worker", "concurrency": 2 })))
}

#[tokio::test(flavor = "multi_thread")]
async fn few_workers_run_many_units() {
    let mut fixture = fixture(&["worker"]);
    let files: Vec<_> =
        (0..10).map(|number| fixture.stage(&format!("{number}.ndjson"), &[100, 100])).collect();
    fixture.start();
    for ingestion in files {
        assert_eq!(counts(&fixture.until_ingested(ingestion).await), [200, 200, 0, 0]);
    }
    fixture.stop().await;
    let runs = fixture.runs();
    let processes: BTreeSet<u64> = runs.iter().filter_map(|run| run["pid"].as_u64()).collect();
    assert_eq!(runs.len(), 20);
    assert!(processes.len() <= 2, "{processes:?}");
    for process in processes {
        let process = u32::try_from(process).expect("a pid");
        assert!(
            mysimbdp_platform::process::ProcessId::of_pid(process).is_none(),
            "the shutdown ends idle workers"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_fails_only_its_unit() {
    let mut fixture = fixture(&["worker", "dies"]);
    let ingestion = fixture.stage("a.ndjson", &[100, 100, 100]);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [300, 300, 0, 0]);
    fixture.stop().await;
    let attempts: Vec<(u64, u64)> = fixture
        .runs()
        .iter()
        .map(|run| (run["batch_index"].as_u64().expect("index"), run["attempt"].as_u64().expect("attempt")))
        .collect();
    assert_eq!(attempts.len(), 4);
    assert!(attempts.contains(&(1, 2)), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_unit_is_tried_again_by_the_same_worker_or_held() {
    let mut patient = fixture(&["worker", "fails"]);
    let ingestion = patient.stage("a.ndjson", &[10]);
    patient.start();
    assert_eq!(counts(&patient.until_ingested(ingestion).await), [10, 10, 0, 0]);
    patient.stop().await;
    let processes: BTreeSet<u64> = patient.runs().iter().filter_map(|run| run["pid"].as_u64()).collect();
    assert_eq!((patient.runs().len(), processes.len()), (3, 1));

    let mut strict = fixture(&["worker", "refuses"]);
    let ingestion = strict.stage("a.ndjson", &[10]);
    strict.start();
    let reason = strict.until_held(ingestion).await;
    strict.stop().await;
    assert!(reason.contains("no such column"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_everything_is_read_is_not_believed_and_the_worker_is_replaced() {
    let mut fixture = fixture(&["worker", "hasty"]);
    let ingestion = fixture.stage("a.ndjson", &[20_000]);
    fixture.start();
    // The worker answers before it has read the whole unit, or it answers twice: the second attempt gets a new process.
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [20_000, 20_000, 0, 0]);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_killed_at_its_time_out_or_at_the_shutdown_and_is_replaced() {
    let app = |timeout| json!({ "command": command(&["worker", "hangs"]), "protocol": "worker", "timeout": timeout });
    // Long enough for the second attempt, which does not hang, to start on a busy machine.
    let mut late = Fixture::new(settings(app("3s")));
    let ingestion = late.stage("a.ndjson", &[10]);
    late.start();
    assert_eq!(counts(&late.until_ingested(ingestion).await), [10, 10, 0, 0]);
    late.stop().await;

    let mut stopped = Fixture::new(settings(app("10m")));
    let ingestion = stopped.stage("a.ndjson", &[10]);
    stopped.start();
    stopped.until("it hangs", || stopped.runs().len() == 1).await;
    stopped.stop().await;
    stopped.start();
    assert_eq!(counts(&stopped.until_ingested(ingestion).await), [10, 10, 0, 0]);
    stopped.stop().await;

    for run in late.runs().iter().chain(&stopped.runs()) {
        let process = run["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
        assert!(mysimbdp_platform::process::ProcessId::of_pid(process).is_none(), "{run} still runs");
    }
}
