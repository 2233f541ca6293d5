//! Ends a run that replaces: removes what earlier runs of the content have stored and this one has not.
//!
//! Nothing is removed before all units are done and the file is known not to be held: by then every replacement is
//! stored, so that readers find the old or the new, and this run's rejects are in `rejected` with their bytes. Each
//! step may be repeated.
//!
//! 1. platform ids: removes the documents of the records that this run has rejected;
//! 2. key ids: removes the documents that an earlier run of this content was the last to write, under any key;
//! 3. removes records that earlier runs had rejected, and this one has not, from `rejected`.

use std::sync::Arc;

use bson::{Binary, Bson};
use mysimbdp_config::REJECTED;
use mysimbdp_model::app::Ids;
use mysimbdp_model::ingestion::RecordId;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::outcome::Outcome;
use mysimbdp_platform::failpoint;
use mysimbdp_spool::staging::{StagingError, read_rejects};
use mysimbdp_store::date::date;
use mysimbdp_store::{Coredms, CoredmsError, EarlierRuns, Removal};

use crate::blocking::blocking;
use crate::context::Context;
use crate::finish::error::FinishError;
use crate::observe::Work;
use crate::record_set::{RecordPage, RecordSet};

/// Ids of one command at most.
const IDS_AT_A_TIME: usize = 1000;

/// Returns the runs that this one replaces, if it replaces any.
pub(crate) fn earlier_runs(manifest: &Manifest) -> Option<EarlierRuns> {
    let runs = EarlierRuns { ingestion: manifest.ingestion, run: date(manifest.staged_at) };
    manifest.replace.then_some(runs)
}

/// Removes what this run has not stored again, and removes from `rejected` what it has not rejected again.
pub(crate) async fn remove_stale(
    context: &Context,
    work: &Arc<Work>,
    outcomes: &[Outcome],
) -> Result<(), FinishError> {
    let store = context.stores.client(work.client()).await?;
    let (collection, ids) = (&work.app().collection, work.app().settings.ids);
    let id = |record: u64| work.manifest.ingestion.record_id(record);
    let (shared, rejecting) = (Arc::clone(work), rejecting_units(outcomes));
    let rejected = blocking(move || rejected_by(&shared, &rejecting)).await?;
    // The whole id space of the content (8 bytes of the ingestion, then the record number): an earlier split may have
    // counted more records.
    let pages = rejected.pages(0..u64::MAX, IDS_AT_A_TIME);
    let mut removed = 0;
    match (ids, earlier_runs(&work.manifest)) {
        (Ids::Platform, _) => {
            for page in pages.iter().filter(|page| !page.records.is_empty()) {
                let rejected = Removal::ByIds(page.records.iter().copied().map(id).collect());
                removed += store.remove(collection, rejected).await?;
            }
        }
        (Ids::Key, Some(runs)) => removed = store.remove(collection, Removal::OfRuns(runs)).await?,
        (Ids::Key | Ids::Object | Ids::None, _) => {}
    }
    failpoint::hit("replace.documents-removed");
    let mut rejects_removed = 0;
    for RecordPage { range, records } in pages {
        let except: Vec<RecordId> = records.into_iter().map(id).collect();
        let others = Removal::Between { first: id(range.start), end: id(range.end), except };
        rejects_removed += store.remove(REJECTED, others).await?;
    }
    failpoint::hit("replace.rejects-removed");
    let Manifest { client, ingestion, file, .. } = &work.manifest;
    tracing::info!(%client, %ingestion, file, removed, rejects_removed, "replaced what earlier runs had stored or rejected");
    Ok(())
}

/// Returns how many of these rejected records still have a document, which an earlier run has stored.
pub(crate) async fn count_stale(
    store: &dyn Coredms,
    collection: &str,
    manifest: &Manifest,
    rejected: &RecordSet,
) -> Result<u64, CoredmsError> {
    let mut stale = 0;
    for RecordPage { records, .. } in rejected.pages(0..manifest.records, IDS_AT_A_TIME) {
        let ids = records.into_iter().map(|record| Binary::from(manifest.ingestion.record_id(record)));
        let ids: Vec<Bson> = ids.map(Bson::from).collect();
        let asked = ids.len();
        if asked > 0 {
            stale += (asked - store.missing_ids(collection, ids).await?.len()) as u64;
        }
    }
    Ok(stale)
}

fn rejecting_units(outcomes: &[Outcome]) -> Vec<u32> {
    outcomes.iter().filter(|outcome| outcome.counts.rejected > 0).map(|outcome| outcome.index).collect()
}

fn rejected_by(work: &Work, units: &[u32]) -> Result<RecordSet, StagingError> {
    let mut rejected = RecordSet::default();
    for index in units {
        for reject in read_rejects(&work.directory, *index)? {
            rejected.insert(reject?.record);
        }
    }
    Ok(rejected)
}
