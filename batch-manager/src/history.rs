//! Reads the runs that have ended from the platform's database: the source after a power cut has lost files on disk.

use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::message::{self, Finished};
use mysimbdp_model::outcome::{Counts, Run};
use mysimbdp_spool::replace;
use mysimbdp_store::CoredmsError;

use crate::observe::Work;
use crate::stores::Stores;

/// Whether the same content had another run before this one.
pub(crate) async fn has_earlier_run(stores: &Stores, manifest: &Manifest) -> Result<bool, CoredmsError> {
    let own = Run::id(manifest.ingestion, manifest.staged_at);
    let runs = stores.history().await?.entries_of(manifest.ingestion).await?;
    Ok(runs.iter().any(|run| run.as_ref().map_or_else(|unreadable| &unreadable.id, |run| &run.id) != &own))
}

/// Returns why the run cannot replace what the content's last run has stored; `None` if it can. The config may have
/// changed since the file was staged.
pub(crate) async fn refusal_to_replace(stores: &Stores, work: &Work) -> Result<Option<String>, CoredmsError> {
    let runs = stores.history().await?.runs_of(work.manifest.ingestion).await?;
    Ok(replace::refusal(work.app(), replace::last_ingested(&runs)))
}

/// Returns the message to publish about a run that has ended; `None` if the history does not have it.
pub(crate) async fn message(stores: &Stores, run: &str) -> Result<Option<Finished>, CoredmsError> {
    let Some(run) = stores.history().await?.run(run).await? else { return Ok(None) };
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
