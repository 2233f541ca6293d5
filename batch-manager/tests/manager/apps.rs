//! Apps of the protocol `stdin`: good ones, and those that misbehave in every way.

use mysimbdp_platform::process::ProcessId;
use serde_json::{Value, json};

use crate::fixture::{Fixture, command, counts, settings};

fn pid(run: &Value) -> u32 {
    run["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}

fn attempts(fixture: &Fixture) -> Vec<u64> {
    fixture.runs().iter().map(|run| run["attempt"].as_u64().expect("an attempt")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_micro_batch_is_run_once_with_its_own_header() {
    let mut fixture = Fixture::of_mode(&["good"]);
    let ingestion = fixture.stage("a b.ndjson", &[3, 0, 5]);
    fixture.start();
    let run = fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    assert_eq!(counts(&run), [8, 8, 0, 0]);
    assert_eq!((run.get("state"), run.get("audited")), (Some(&"ingested".into()), Some(&true.into())));
    let mut runs = fixture.runs();
    runs.sort_by_key(|run| run["batch_index"].as_u64());
    let of = |name: &str| runs.iter().map(|run| run[name].as_u64().expect("a number")).collect::<Vec<_>>();
    assert_eq!(of("batch_index"), [0, 1, 2]);
    assert_eq!(of("batch_count"), [3, 3, 3]);
    assert_eq!(of("first_record"), [0, 3, 3]);
    assert_eq!(of("records"), [3, 0, 5]);
    assert_eq!(of("attempt"), [1, 1, 1]);
    assert_eq!(runs[2]["file"], "a b.ndjson");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_crashes_are_retried_and_the_records_of_earlier_attempts_are_not_duplicates() {
    let mut fixture = Fixture::of_mode(&["crash", "2"]);
    let ingestion = fixture.stage("a.ndjson", &[4]);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [4, 4, 0, 0]);
    fixture.stop().await;
    assert_eq!(attempts(&fixture), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_the_records_stored_before_the_run() {
    let mut fixture = Fixture::of_mode(&["repeat"]);
    let ingestion = fixture.stage("a.ndjson", &[5]);
    let store = fixture.client_database().await;
    let before = [0, 1].map(|record| {
        let id = bson::Binary::from(ingestion.record_id(record));
        bson::RawDocumentBuf::try_from(&bson::doc! { "_id": id }).expect("a document")
    });
    store.insert_many("app", before.to_vec()).await.expect("insert");
    fixture.add_earlier_run(ingestion).await;
    fixture.start();
    // The app reports five duplicates at its second attempt: it stored three of them at the first.
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [5, 3, 2, 0]);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_app_keeps_crashing_is_held_with_the_last_line_on_stderr() {
    for (mode, fragment) in [(["exit", "1"], "column 3 is missing"), (["signal", "11"], "signal 11")] {
        let mut fixture = Fixture::of_mode(&mode);
        let ingestion = fixture.stage("a.ndjson", &[4]);
        fixture.start();
        let reason = fixture.until_held(ingestion).await;
        fixture.stop().await;
        assert!(reason.contains(fragment) && reason.contains("failed 3 times"), "{reason}");
        assert_eq!(attempts(&fixture), [1, 2, 3]);
        let log =
            std::fs::read_to_string(fixture.path("logs/clients/client1/batch.log")).expect("client log");
        assert_eq!(log.contains("column 3 is missing"), mode[0] == "exit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_app_runs_out_of_memory_is_held_with_the_last_line_on_stderr() {
    let mut fixture = Fixture::of_mode(&["greedy"]);
    let ingestion = fixture.stage("a.ndjson", &[4]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("MemoryError") && reason.contains("failed 3 times"), "{reason}");
    assert_eq!(attempts(&fixture), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_never_reads_its_input_is_killed_and_its_file_held() {
    // More bytes than a pipe holds, so that feeding waits for ever.
    let app = json!({ "command": command(&["hang"]), "timeout": "500ms" });
    let mut fixture = Fixture::new(settings(app));
    let ingestion = fixture.stage("a.ndjson", &[20_000]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("took longer than 0.5 s") && reason.contains("failed 3 times"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_data_is_held_at_once_and_a_retry_runs_it_again() {
    let mut fixture = Fixture::of_mode(&["exit", "65"]);
    let ingestion = fixture.stage("a.ndjson", &[4, 4]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    assert!(reason.contains("the data is bad: column 3 is missing"), "{reason}");
    assert!(attempts(&fixture).iter().all(|attempt| *attempt == 1));
    let before = fixture.runs().len();
    let layout = fixture.config.layout.clone();
    mysimbdp_spool::staging::retry_held(&layout, &fixture.client(), ingestion).expect("retry");
    fixture.until("it is run again", || fixture.runs().len() > before).await;
    fixture.until_held(ingestion).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_asks_to_be_tried_later_is_never_held() {
    let mut fixture = Fixture::of_mode(&["later", "6"]);
    let ingestion = fixture.stage("a.ndjson", &[4]);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [4, 4, 0, 0]);
    fixture.stop().await;
    assert_eq!(attempts(&fixture), [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_reports_done_without_reading_is_not_believed() {
    let mut fixture = Fixture::of_mode(&["unread"]);
    let ingestion = fixture.stage("a.ndjson", &[20_000]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("it read only"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_fills_neither_pipe_nor_log() {
    let mut fixture = Fixture::of_mode(&["flood"]);
    let ingestion = fixture.stage("a.ndjson", &[20_000]);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [20_000, 20_000, 0, 0]);
    fixture.stop().await;
    let log = std::fs::metadata(fixture.path("logs/clients/client1/batch.log")).expect("client log").len();
    assert!(log < 2 << 20, "the log has {log} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_without_end_does_not_outlast_its_time_out() {
    let mut fixture = Fixture::new(settings(json!({ "command": ["yes"], "timeout": "300ms" })));
    let ingestion = fixture.stage("a.ndjson", &[10]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("took longer than 0.3 s") && reason.contains("failed 3 times"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_one_more_or_less_than_the_splitters_is_refused_and_held() {
    for delta in ["1", "-1"] {
        let mut fixture = Fixture::of_mode(&["lie", delta]);
        let ingestion = fixture.stage("a.ndjson", &[10]);
        fixture.start();
        let reason = fixture.until_held(ingestion).await;
        fixture.stop().await;
        assert!(reason.contains("not believed") && reason.contains("the 10 records"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_hangs_and_ignores_sigterm_is_killed_and_its_file_held() {
    let app = json!({ "command": command(&["hang"]), "timeout": "200ms" });
    let mut fixture = Fixture::new(settings(app));
    let ingestion = fixture.stage("a.ndjson", &[10]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("took longer than 0.2 s"), "{reason}");
    for run in fixture.runs() {
        assert!(ProcessId::of_pid(pid(&run)).is_none(), "{run} still runs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_is_left_of_an_app_that_forks_away() {
    let mut fixture = Fixture::of_mode(&["fork"]);
    let ingestion = fixture.stage("a.ndjson", &[10]);
    fixture.start();
    fixture.until_ingested(ingestion).await;
    let forked = std::fs::read_to_string(fixture.path("forked")).expect("it has forked");
    assert!(ProcessId::of_pid(forked.parse().expect("a pid")).is_none(), "the fork still runs");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_is_left_of_an_app_and_daemons_that_ignore_sigterm() {
    // Long enough for each attempt to have forked.
    let app = json!({ "command": command(&["daemon"]), "timeout": "2s" });
    let mut value = settings(app);
    value["batch_manager"]["attempts_max"] = json!(2);
    let mut fixture = Fixture::new(value);
    let ingestion = fixture.stage("a.ndjson", &[10]);
    fixture.start();
    fixture.until_held(ingestion).await;
    let daemons = daemons(&fixture);
    assert_eq!(daemons.len(), 2, "one of each attempt");
    for pid in fixture.runs().iter().map(pid).chain(daemons) {
        assert!(ProcessId::of_pid(pid).is_none(), "{pid} still runs");
    }
    fixture.stop().await;
}

/// Returns the daemons that the app has started and noted.
fn daemons(fixture: &Fixture) -> Vec<u32> {
    let text = std::fs::read_to_string(fixture.path("daemons")).expect("they have forked");
    text.lines().map(|pid| pid.parse().expect("a pid")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_holds_the_pipes_ends_with_its_unit() {
    let mut fixture = Fixture::of_mode(&["leave"]);
    let ingestion = fixture.stage("a.ndjson", &[3, 0, 5]);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [8, 8, 0, 0]);
    let daemons = daemons(&fixture);
    assert_eq!(daemons.len(), 3, "one of each unit");
    for pid in daemons {
        assert!(ProcessId::of_pid(pid).is_none(), "{pid} still runs");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_not_found_does_not_keep_its_unit_running() {
    let mut fixture = Fixture::of_mode(&["escape"]);
    let ingestion = fixture.stage("a.ndjson", &[3]);
    fixture.start();
    assert_eq!(counts(&fixture.until_ingested(ingestion).await), [3, 3, 0, 0]);
    let daemons = daemons(&fixture);
    let [daemon] = daemons.as_slice() else { panic!("{daemons:?}") };
    let daemon = ProcessId::of_pid(*daemon).expect("it holds the pipes until now");
    daemon.signal(mysimbdp_platform::process::Signal::KILL).expect("end it");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_tool_is_believed_by_its_exit_status() {
    let mut fixture = Fixture::new(settings(json!({ "command": command(&["silent"]), "ids": "none" })));
    let ingestion = fixture.stage("a.ndjson", &[10]);
    fixture.start();
    let run = fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    assert_eq!((counts(&run), run.get("audited")), ([10, 10, 0, 0], Some(&false.into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_missing_is_named_in_the_reason() {
    let mut fixture = Fixture::new(settings(json!({ "command": ["./no-such-app"] })));
    let ingestion = fixture.stage("a.ndjson", &[10]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    assert!(reason.contains("no-such-app") && reason.contains("not found"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_app_gets_one_unit_after_the_other() {
    let app = json!({ "command": command(&["crash", "1"]), "ordered": true, "concurrency": 8 });
    let mut fixture = Fixture::new(settings(app));
    let ingestion = fixture.stage("a.ndjson", &[1, 1, 1]);
    fixture.start();
    fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    let order: Vec<u64> = fixture.runs().iter().filter_map(|run| run["batch_index"].as_u64()).collect();
    assert_eq!(order, [0, 0, 1, 1, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_joined_when_all_are_stored() {
    let app = json!({ "command": command(&["good"]), "unit": "range", "ids": "object" });
    let mut value = settings(app);
    value["clients"][0]["micro_batching"] = json!({ "block_size": "300kB" });
    let mut fixture = Fixture::new(value);
    let content: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    let ingestion = fixture.stage_ranges("a.bin", mysimbdp_model::manifest::Format::Binary, &[(content, 1)]);
    fixture.start();
    let run = fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    assert_eq!(counts(&run), [1, 1, 0, 0]);
    let runs = fixture.runs();
    assert_eq!(runs.len(), 5, "four ranges and the join: {runs:?}");
    assert_eq!(runs.last().map(|run| (&run["phase"], &run["length"])), Some((&json!("join"), &json!(0))));
    let bytes: u64 = runs.iter().filter_map(|run| run["length"].as_u64()).sum();
    assert_eq!(bytes, 1_000_000);
}
