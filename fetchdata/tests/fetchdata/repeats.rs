//! The same name, or the same bytes, more than once.

use std::fs;

use jiff::Timestamp;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_model::reason::ReasonFile;
use mysimbdp_store::history::History;
use mysimbdp_testbed::{Root, until};
use serde_json::json;

use crate::running::{DEADLINE, Running, SETTLE, Staged, config, dropped, staged};

const ROWS: &[u8] = b"a,b\n1,2\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_same_name_with_other_bytes_is_another_ingestion() {
    let running = Running::start();
    running.root.drop_file("client1", "same.csv", b"a\n1\n");
    running.one_staged().await;
    running.root.drop_file("client1", "same.csv", b"a\n2\n");
    let staged = running.until_staged(2).await;
    assert_ne!(staged[0].manifest.ingestion, staged[1].manifest.ingestion);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_staged_content_waits_until_that_ingestion_ends() {
    let running = Running::start();
    for name in ["one.csv", "two.csv", "three.csv"] {
        running.root.drop_file("client1", name, ROWS);
    }
    let first = running.one_staged().await;
    // Longer than it takes to scan all of them again.
    tokio::time::sleep(SETTLE * 4).await;
    assert_eq!((staged(&running.root).len(), dropped(&running.root).len()), (1, 2));
    finish(&running.root, &first, FinalState::Ingested).await;
    let reasons = running.until_discarded("client1", 2).await;
    for reason in reasons {
        let text = reason["reasons"][0].as_str().expect("reason");
        assert!(text.starts_with(&format!("same content as {:?}, ingested ", first.manifest.file)), "{text}");
        assert_eq!(reason["ingestion"], first.manifest.ingestion.to_string());
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_ingested_content_runs_again_with_on_duplicate_reload() {
    let running = Running::with(&config(json!({"on_duplicate": "reload"})));
    running.root.drop_file("client1", "first.csv", ROWS);
    let first = running.one_staged().await;
    finish(&running.root, &first, FinalState::Ingested).await;
    running.root.drop_file("client1", "again.csv", ROWS);
    let again = running.one_staged().await;
    assert_eq!(
        (again.manifest.ingestion, again.manifest.file.as_str()),
        (first.manifest.ingestion, "again.csv")
    );
    assert_ne!(again.manifest.staged_at, first.manifest.staged_at);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_held_content_again_retries_it() {
    let running = Running::start();
    running.root.drop_file("client1", "first.csv", ROWS);
    let first = running.one_staged().await;
    finish(&running.root, &first, FinalState::Held).await;
    running.root.drop_file("client1", "again.csv", ROWS);
    let again = running.one_staged().await;
    assert_eq!((again.manifest.file.as_str(), again.manifest.lane), ("first.csv", Lane::Retry));
    assert_eq!((again.content(), again.manifest.staged_at), (ROWS.to_vec(), first.manifest.staged_at));
    until(DEADLINE, "the duplicate is removed", || dropped(&running.root).is_empty());
    assert_eq!(running.root.list("held/client1"), [] as [&str; 0]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_held_content_is_set_aside_and_the_new_drop_is_staged() {
    let running = Running::start();
    running.root.drop_file("client1", "first.csv", ROWS);
    let first = running.one_staged().await;
    fs::write(first.directory.join("first.csv"), b"a,b\n9,9\n").expect("overwrite");
    finish(&running.root, &first, FinalState::Held).await;
    running.root.drop_file("client1", "again.csv", ROWS);
    let again = running.one_staged().await;
    assert_eq!((again.manifest.file.as_str(), again.content()), ("again.csv", ROWS.to_vec()));
    let held = running.root.list("held/client1");
    assert!(held.len() == 1 && held[0].contains("-damaged-"), "{held:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_content_is_inspected_again_when_it_is_dropped_again() {
    let running = Running::start();
    running.root.drop_file("client1", "wrong.exe", ROWS);
    running.one_discarded("client1").await;
    running.root.drop_file("client1", "right.csv", ROWS);
    assert_eq!(running.one_staged().await.content(), ROWS);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_staged_without_history_and_without_a_broker() {
    let mut all = config(json!({}));
    all["coredms"] = json!({"url": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"});
    all["broker"] = json!({"url": "mqtt://127.0.0.1:9"});
    let running = Running::with(&all);
    for number in 0..5 {
        running.root.drop_file("client1", &format!("{number}.csv"), format!("a\n{number}\n").as_bytes());
    }
    assert_eq!(running.until_staged(5).await.len(), 5);
    running.stop().await;
}

/// What batch-manager does at the end of an ingestion.
async fn finish(root: &Root, staged: &Staged, state: FinalState) {
    let manifest = &staged.manifest;
    let now = bson::DateTime::now();
    let run = Run {
        id: Run::id(manifest.ingestion, manifest.staged_at),
        ingestion: manifest.ingestion.to_string(),
        client: manifest.client.to_string(),
        app: manifest.app.clone(),
        lane: manifest.lane,
        file: manifest.file.clone(),
        bytes: manifest.bytes,
        blake3: manifest.blake3.clone(),
        micro_batches: 1,
        received: 1,
        stored: 1,
        duplicates: 0,
        rejected: 0,
        audited: true,
        state,
        received_at: now,
        staged_at: now,
        finished_at: now,
        seconds: 0.1,
        columns: Vec::new(),
        replace: false,
        collection: None,
        ids: None,
        reasons: Vec::new(),
        codes: Vec::new(),
    };
    let url = format!("sqlite:{}", root.path().join("state/coredms").display());
    let history = History::open(&url, "mysimbdp").await.expect("store");
    history.put(&run).await.expect("history is written");
    history.close().await;
    if state == FinalState::Ingested {
        fs::remove_dir_all(&staged.directory).expect("remove");
        return;
    }
    let reason = ReasonFile {
        file: manifest.file.clone(),
        client: Some(manifest.client.to_string()),
        ingestion: Some(manifest.ingestion.to_string()),
        dropped_at: format!("client-input-directory/client1/{}", manifest.file),
        bytes: manifest.bytes,
        received_at: manifest.received_at,
        decided_at: Timestamp::now(),
        reasons: vec!["the app gave up".to_owned()],

        codes: Vec::new(),
    };
    let layout = mysimbdp_model::layout::Layout::new(root.path());
    mysimbdp_spool::staging::hold(&layout, &manifest.client, manifest.ingestion, &reason).expect("hold");
}
