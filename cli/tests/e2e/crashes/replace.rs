//! A run that replaces is cut off, and ended by the next start. Readers find the old or the new all the while.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use bson::{Bson, Document};
use mysimbdp_testbed::{Daemon, Signal, is_running, until_async};

use super::{VARIABLE, has_died, of, walk};
use crate::reprocess::{BROKEN, MENDED, ROWS, Site, Store, is_mended, mendable, table};
use crate::support::SOON;

pub const REPLACE: &[&str] = &["replace."];

/// Of other tests, too: there the run stores for the first time.
const OF_EVERY_RUN: &[&str] = &[
    "batch-manager.attempt-noted",
    "batch-manager.app-ended",
    "batch-manager.audited",
    "batch-manager.outcome-written",
    "batch-manager.rejects-listed",
    "batch-manager.run-recorded",
    "batch-manager.finished-noted",
];

/// Where an app dies.
const OF_APP: &[&str] = &["batch-app.batch-stored", "batch-app.all-stored", "batch-app.done-said"];

#[test]
fn a_run_that_replaces_dies_between_any_two_of_its_own_steps() {
    walk(REPLACE, cut_off);
}

#[test]
fn a_run_that_replaces_dies_between_other_steps() {
    walk(OF_EVERY_RUN, cut_off);
}

#[test]
fn an_app_that_replaces_dies_between_any_two_steps() {
    assert_eq!(of(OF_APP).len(), OF_APP.len());
    walk(OF_APP, |point| async move {
        let script =
            format!("if test -e armed && mkdir has-died 2> /dev/null; then export {VARIABLE}={point}; fi;");
        let (site, ingestion) = ingested(&script).await;
        std::fs::write(site.root.path().join("armed"), "").expect("arm the app");
        let _batch_manager = site.start("batch-manager");
        site.command(0, &["reprocess", &ingestion]);
        ends_well(&site, &ingestion).await;
        assert!(site.root.log("clients/client1/batch.log").contains(&format!("failpoint {point}")));
    });
}

/// Whether it is the command line that dies.
fn is_of_command(point: &str) -> bool {
    ["replace.run-noted", "replace.outcomes-forgotten", "replace.run-staged"].contains(&point)
}

async fn cut_off(point: &'static str) {
    let (site, ingestion) = ingested("").await;
    let armed = [(VARIABLE, point)];
    if is_of_command(point) {
        let output = Daemon::run(&site.root, &["reprocess", &ingestion], &armed);
        assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()), "{point}: {output:?}");
        if site.root.list("staging/client1").is_empty() {
            site.command(0, &["reprocess", &ingestion]);
        }
    } else {
        site.command(0, &["reprocess", &ingestion]);
        let mut batch_manager = Daemon::start(&site.root, &["batch-manager"], &armed);
        until_dead(&site, batch_manager.pid()).await;
        has_died(&mut batch_manager, point);
        nothing_is_missing(&site.documents("readings").await);
    }
    let _batch_manager = site.start("batch-manager");
    ends_well(&site, &ingestion).await;
}

/// A site on which a file was ingested by the broken app, and nothing runs.
async fn ingested(before: &str) -> (Site, String) {
    let site = Site::new(Store::MongoDb, mendable(before));
    site.mend(BROKEN);
    let mut daemons = ["fetchdata", "batch-manager"].map(|role| site.start(role));
    site.drop_file(65, "table.csv", &table());
    assert!(daemons.iter_mut().all(|daemon| daemon.terminate().success()));
    let ingestion = site.archived();
    site.mend(MENDED);
    (site, ingestion)
}

/// Reads until the process is dead: each time all is there that both apps store.
async fn until_dead(site: &Site, pid: u32) {
    until_async(SOON, "it dies", async || {
        nothing_is_missing(&site.documents("readings").await);
        !is_running(pid)
    })
    .await;
}

async fn ends_well(site: &Site, ingestion: &str) {
    until_async(SOON, "the run has ended", async || {
        nothing_is_missing(&site.documents("readings").await);
        site.history().await.len() == 2 && site.root.list("staging/client1").is_empty()
    })
    .await;
    assert_eq!(site.history().await.len(), 2, "one run more, however often it was cut off");
    is_mended(&site.documents("readings").await);
    let rejected = site.documents("rejected").await;
    assert_eq!(
        rejected.iter().map(|reject| reject.get("record")).collect::<Vec<_>>(),
        [Some(&Bson::Int64(41))]
    );
    assert_eq!(site.archived(), ingestion);
    site.command(0, &["reconcile"]);
}

/// All that both apps store is there, once.
fn nothing_is_missing(documents: &[Document]) {
    let names: BTreeSet<&str> = documents.iter().filter_map(|one| one.get_str("name").ok()).collect();
    assert_eq!(names.len(), documents.len(), "none is there twice");
    let is_of_both = |row: &usize| ![3, 41].contains(row);
    for row in (0..ROWS).filter(is_of_both) {
        assert!(names.contains(format!("n{row}").as_str()), "row {row} is missing in {names:?}");
    }
}
