//! A run that replaces is interrupted, and completed after the next start. All the while, readers find the old or the
//! new documents.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use bson::{Bson, Document};
use mysimbdp_testbed::{Daemon, Signal, is_running, until_async};

use super::{VARIABLE, assert_died, of, walk};
use crate::reprocess::{BROKEN, REPAIRED, ROWS, Store, TestPlatform, assert_repaired, repairable, table};
use crate::support::SOON;

pub const REPLACE: &[&str] = &["replace."];

/// Points of other tests, too: there the run stores for the first time.
const OF_EVERY_RUN: &[&str] = &[
    "batch-manager.attempt-noted",
    "batch-manager.app-ended",
    "batch-manager.audited",
    "batch-manager.outcome-written",
    "batch-manager.rejects-listed",
    "batch-manager.run-recorded",
    "batch-manager.finished-noted",
];

/// The points at which an app dies.
const OF_APP: &[&str] = &["batch-app.batch-stored", "batch-app.all-stored", "batch-app.done-reported"];

#[test]
fn a_run_that_replaces_dies_between_any_two_of_its_own_steps() {
    walk(REPLACE, interrupt);
}

#[test]
fn a_run_that_replaces_dies_between_other_steps() {
    walk(OF_EVERY_RUN, interrupt);
}

#[test]
fn an_app_that_replaces_dies_between_any_two_steps() {
    assert_eq!(of(OF_APP).len(), OF_APP.len());
    walk(OF_APP, |point| async move {
        let script =
            format!("if test -e armed && mkdir has-died 2> /dev/null; then export {VARIABLE}={point}; fi;");
        let (platform, ingestion) = ingested(&script).await;
        std::fs::write(platform.root.path().join("armed"), "").expect("arm the app");
        let _batch_manager = platform.start("batch-manager");
        platform.command(0, &["reprocess", &ingestion]);
        verify_outcome(&platform, &ingestion).await;
        assert!(platform.root.log("clients/client1/batch.log").contains(&format!("failpoint {point}")));
    });
}

/// Whether it is the command that dies, and not batch-manager.
fn is_of_command(point: &str) -> bool {
    ["replace.run-noted", "replace.outcomes-forgotten", "replace.run-staged"].contains(&point)
}

async fn interrupt(point: &'static str) {
    let (platform, ingestion) = ingested("").await;
    let armed = [(VARIABLE, point)];
    if is_of_command(point) {
        let output = Daemon::run(&platform.root, &["reprocess", &ingestion], &armed);
        assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()), "{point}: {output:?}");
        if platform.root.list("staging/client1").is_empty() {
            platform.command(0, &["reprocess", &ingestion]);
        }
    } else {
        platform.command(0, &["reprocess", &ingestion]);
        let mut batch_manager = Daemon::start(&platform.root, &["batch-manager"], &armed);
        until_dead(&platform, batch_manager.pid()).await;
        assert_died(&mut batch_manager, point);
        assert_complete(&platform.documents("readings").await);
    }
    let _batch_manager = platform.start("batch-manager");
    verify_outcome(&platform, &ingestion).await;
}

/// A platform on which the broken app has ingested a file, and nothing runs.
async fn ingested(before: &str) -> (TestPlatform, String) {
    let platform = TestPlatform::new(Store::MongoDb, repairable(before));
    platform.set_arguments(BROKEN);
    let mut daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    platform.drop_file(65, "table.csv", &table());
    assert!(daemons.iter_mut().all(|daemon| daemon.terminate().success()));
    let ingestion = platform.archived();
    platform.set_arguments(REPAIRED);
    (platform, ingestion)
}

/// Reads until the process is dead: each time, all documents are there that both apps store.
async fn until_dead(platform: &TestPlatform, pid: u32) {
    until_async(SOON, "it dies", async || {
        assert_complete(&platform.documents("readings").await);
        !is_running(pid)
    })
    .await;
}

async fn verify_outcome(platform: &TestPlatform, ingestion: &str) {
    until_async(SOON, "the run has ended", async || {
        assert_complete(&platform.documents("readings").await);
        platform.history().await.len() == 2 && platform.root.list("staging/client1").is_empty()
    })
    .await;
    assert_eq!(platform.history().await.len(), 2, "one more run, however often it was interrupted");
    assert_repaired(&platform.documents("readings").await);
    let rejected = platform.documents("rejected").await;
    assert_eq!(
        rejected.iter().map(|reject| reject.get("record")).collect::<Vec<_>>(),
        [Some(&Bson::Int64(41))]
    );
    assert_eq!(platform.archived(), ingestion);
    platform.command(0, &["reconcile"]);
}

/// Asserts that each document that both apps store is there once.
fn assert_complete(documents: &[Document]) {
    let names: BTreeSet<&str> = documents.iter().filter_map(|one| one.get_str("name").ok()).collect();
    assert_eq!(names.len(), documents.len(), "none is stored twice");
    let is_of_both = |row: &usize| ![3, 41].contains(row);
    for row in (0..ROWS).filter(is_of_both) {
        assert!(names.contains(format!("n{row}").as_str()), "row {row} is missing in {names:?}");
    }
}
