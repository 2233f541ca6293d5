//! The runs that have ended, in the platform's database: what is read again when a power cut has taken what lay on disk.

use bson::{Document, doc};
use jiff::Timestamp;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::message::{self, Finished};
use mysimbdp_model::outcome::{Counts, Run};
use mysimbdp_spool::replace;
use mysimbdp_store::CoredmsError;

use crate::observe::Work;
use crate::stores::Stores;

/// Far more often than anybody has one content ingested.
const RUNS_MAX: i64 = 10_000;

/// Why the history was not written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error(transparent)]
    Store(#[from] CoredmsError),
    #[error("the history of the run is not a document")]
    NotADocument(#[source] bson::error::Error),
}

/// Writes how a run has ended, in place of what was written of it before.
pub(crate) async fn put(stores: &Stores, run: &Run) -> Result<(), HistoryError> {
    let run = bson::serialize_to_document(run).map_err(HistoryError::NotADocument)?;
    Ok(stores.platform().await?.put(Run::COLLECTION, run).await?)
}

/// Whether the content of this run was in another one before.
pub(crate) async fn has_earlier_run(stores: &Stores, manifest: &Manifest) -> Result<bool, CoredmsError> {
    let own = Run::id(manifest.ingestion, manifest.staged_at);
    // Of two at least one is not this run's.
    let runs = find(stores, doc! { "ingestion": manifest.ingestion.to_string() }, 2).await?;
    Ok(runs.iter().any(|run| run.get_str("_id").is_ok_and(|id| id != own)))
}

/// Why the run cannot replace what the content's last one has stored; `None` if it can. The config may have changed since it was
/// staged.
pub(crate) async fn refusal_to_replace(stores: &Stores, work: &Work) -> Result<Option<String>, CoredmsError> {
    let ingestion = work.manifest.ingestion.to_string();
    let runs = find(stores, doc! { "ingestion": ingestion }, RUNS_MAX).await?;
    let runs: Vec<Run> =
        runs.into_iter().filter_map(|run| bson::deserialize_from_document(run).ok()).collect();
    Ok(replace::refusal(work.app(), replace::last_ingested(&runs)))
}

/// What is to be said of a run that has ended; `None` where it has no history.
pub(crate) async fn message(stores: &Stores, run: &str) -> Result<Option<Finished>, HistoryError> {
    let found = find(stores, doc! { "_id": run }, 1).await?.pop();
    let Some(run) = found.and_then(|run| bson::deserialize_from_document::<Run>(run).ok()) else {
        return Ok(None);
    };
    let count = |signed: i64| signed.unsigned_abs();
    let (Ok(client_id), Ok(ingestion)) = (run.client.parse(), run.ingestion.parse()) else { return Ok(None) };
    Ok(Some(Finished {
        version: message::VERSION,
        client_id,
        ingestion,
        file: run.file,
        bytes: run.bytes,
        micro_batches: run.micro_batches,
        counts: Counts {
            received: count(run.received),
            stored: count(run.stored),
            duplicates: count(run.duplicates),
            rejected: count(run.rejected),
        },
        seconds: run.seconds,
        state: run.state,
        reason: (!run.reasons.is_empty()).then(|| run.reasons.join("; ")),
        codes: run.codes,
    }))
}

async fn find(stores: &Stores, filter: Document, limit: i64) -> Result<Vec<Document>, CoredmsError> {
    stores.platform().await?.find(Run::COLLECTION, filter, limit).await
}

/// As it is in documents.
pub(crate) fn date(time: Timestamp) -> bson::DateTime {
    bson::DateTime::from_millis(time.as_millisecond())
}
