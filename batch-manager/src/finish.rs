//! Ends an ingestion. Each step may be repeated, and is repeated if a later one failed:
//!
//! 1. the whole file is verified once more: it is held if it was changed while it was staged, or if too many of its
//!    records were rejected;
//! 2. the rejected records go to the client's collection `rejected`, with their bytes; then a run that replaces removes
//!    what it has not stored again;
//! 3. the history document of the run goes to the platform's database;
//! 4. the receipt goes to the drop directory, if the client asks for it: synced, as nobody could write it again;
//! 5. the message `Finished` goes to the outbox;
//! 6. the file is archived or removed. Bytes are destroyed only now that coredms has acknowledged all of them.

pub(crate) mod error;

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use mysimbdp_model::app::Ids;
use mysimbdp_model::error_chain;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::message::{self, Finished};
use mysimbdp_model::outcome::{Counts, FinalState, Outcome, Run};
use mysimbdp_model::reason::{self, Objection, ReasonCode, ReasonFile};
use mysimbdp_platform::files::FileError;
use mysimbdp_platform::{clock, failpoint};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath};
use mysimbdp_spool::staging;
use mysimbdp_spool::staging::content::ContentError;
use mysimbdp_store::CoredmsError;
use mysimbdp_store::date::date;
use mysimbdp_telemetry::timing::Stage;

use self::error::FinishError;
use crate::blocking::blocking;
use crate::context::Context;
use crate::feed::verify_whole;
use crate::observe::Work;
use crate::{rejects, replace, timing};

/// Removing it would leave whoever reads the object with missing chunks, so a person must do it.
const OBJECT_STAYS: &str = "the app rejects the file, and what an earlier run has stored of it is an object, which is not \
    removed automatically: remove it from the store by hand, or repair the app and retry";

/// The result of [`finish`].
#[derive(Debug)]
pub(crate) enum Finish {
    Ingested(Counts),
    /// It must be held: the content is not what was staged, or too many records were rejected.
    MustHold(Objection),
}

/// Ends an ingestion whose units are all done.
pub(crate) async fn finish(
    context: &Context,
    work: &Arc<Work>,
    outcomes: &[Outcome],
) -> Result<Finish, FinishError> {
    let since = Instant::now();
    let verified = Arc::clone(work);
    match blocking(move || verify_whole(&verified.directory, &verified.manifest)).await {
        Ok(()) => {}
        Err(error @ ContentError::Changed { .. }) => {
            return Ok(Finish::MustHold(ReasonCode::Damaged.because(error.to_string())));
        }
        Err(error) => return Err(error.into()),
    }
    failpoint::hit("batch-manager.whole-verified");
    let manifest = &work.manifest;
    let mut counts = Counts::default();
    // Ranges add nothing: the join has counted their records.
    outcomes.iter().for_each(|outcome| counts += outcome.counts);
    if counts.rejected > 0
        && let Some(objection) = store_rejects(context, work, outcomes, counts).await?
    {
        return Ok(Finish::MustHold(objection));
    }
    if manifest.replace {
        replace::remove_stale(context, work, outcomes).await?;
    }
    // The last outcome's time and not the current one: the run's document is the same each time it is written.
    let finished_at = outcomes.iter().map(|outcome| outcome.finished_at).max().unwrap_or(manifest.staged_at);
    let ended = RunEnd {
        counts,
        audited: outcomes.iter().all(|outcome| outcome.audited),
        state: FinalState::Ingested,
        at: finished_at,
        reasons: Vec::new(),
    };
    put_run(context, &ended.run(work)).await?;
    failpoint::hit("batch-manager.run-recorded");
    let message = ended.message(manifest);
    let (layout, outbox, run) = (context.config.layout.clone(), context.outbox.clone(), run_id(manifest));
    let (shared, client) = (Arc::clone(work), work.client().clone());
    blocking(move || {
        if client.settings.receipt {
            write_receipt(&layout, &shared.manifest, &message)?;
            failpoint::hit("batch-manager.receipt-written");
        }
        outbox.put(&run, &message)?;
        failpoint::hit("batch-manager.finished-noted");
        let (client_id, ingestion) = (&shared.manifest.client, shared.manifest.ingestion);
        match client.settings.archive {
            Some(_) => staging::archive(&layout, client_id, ingestion),
            None => staging::remove(&layout, client_id, ingestion),
        }
    })
    .await?;
    failpoint::hit("batch-manager.cleared");
    timing::of_file(Stage::Finish, manifest, since.elapsed());
    timing::of_file(Stage::Whole, manifest, timing::since(began_at(manifest)));
    Ok(Finish::Ingested(counts))
}

/// Stores the rejected records, unless the file is to be held because of them.
async fn store_rejects(
    context: &Context,
    work: &Arc<Work>,
    outcomes: &[Outcome],
    counts: Counts,
) -> Result<Option<Objection>, FinishError> {
    if let Some(reason) = work.app().settings.rejects_max.excess(counts) {
        let text = format!("{reason}; `mysimbdp rejected {}` shows them", work.manifest.ingestion);
        return Ok(Some(ReasonCode::TooManyRejects.because(text)));
    }
    if work.manifest.replace && work.app().settings.ids == Ids::Object {
        return Ok(Some(ReasonCode::NotReplaceable.because(OBJECT_STAYS)));
    }
    match rejects::store_all(context, work, outcomes).await {
        Err(FinishError::Content(error @ ContentError::Changed { .. })) => {
            return Ok(Some(ReasonCode::Damaged.because(error.to_string())));
        }
        listed => listed?,
    }
    failpoint::hit("batch-manager.rejects-listed");
    Ok(None)
}

/// Moves to `held/` an ingestion that was given up. If the store is unavailable, the run is not recorded in the
/// history: `reason.json` in `held/` says the same.
pub(crate) async fn hold(
    context: &Context,
    work: &Arc<Work>,
    reasons: Vec<Objection>,
    outcomes: &[Outcome],
) -> Result<(), FinishError> {
    let manifest = &work.manifest;
    let mut counts = Counts::default();
    outcomes.iter().for_each(|outcome| counts += outcome.counts);
    let at = clock::now();
    let ended = RunEnd { counts, audited: false, state: FinalState::Held, at, reasons };
    let message = ended.message(manifest);
    let reason = ReasonFile {
        file: manifest.file.clone(),
        client: Some(manifest.client.to_string()),
        ingestion: Some(manifest.ingestion.to_string()),
        dropped_at: returns_to(manifest).join(manifest.file.as_ref()).to_string(),
        bytes: manifest.bytes,
        received_at: manifest.received_at,
        decided_at: at,
        reasons: reason::texts(&ended.reasons),
        codes: reason::codes(&ended.reasons),
    };
    let (layout, outbox, run, shared) =
        (context.config.layout.clone(), context.outbox.clone(), run_id(manifest), Arc::clone(work));
    let receipt = work.client().settings.receipt;
    blocking(move || {
        if receipt {
            write_receipt(&layout, &shared.manifest, &message)?;
            failpoint::hit("batch-manager.hold-receipt-written");
        }
        outbox.put(&run, &message)?;
        failpoint::hit("batch-manager.hold-noted");
        staging::hold(&layout, &shared.manifest.client, shared.manifest.ingestion, &reason)
    })
    .await?;
    failpoint::hit("batch-manager.held");
    if let Err(error) = put_run(context, &ended.run(work)).await {
        tracing::warn!(ingestion = %manifest.ingestion, error = error_chain(&error), "the run of a held file could not be recorded in the history");
    }
    Ok(())
}

async fn put_run(context: &Context, run: &Run) -> Result<(), CoredmsError> {
    context.stores.history().await?.put(run).await
}

/// How a run ended.
struct RunEnd {
    counts: Counts,
    audited: bool,
    state: FinalState,
    at: Timestamp,
    /// Why it was held.
    reasons: Vec<Objection>,
}

impl RunEnd {
    fn seconds(&self, manifest: &Manifest) -> f64 {
        self.at.duration_since(began_at(manifest)).as_secs_f64().max(0.0)
    }

    fn message(&self, manifest: &Manifest) -> Finished {
        Finished {
            version: message::VERSION,
            client_id: manifest.client.clone(),
            ingestion: manifest.ingestion,
            file: manifest.file.clone(),
            bytes: manifest.bytes,
            micro_batches: manifest.micro_batches.len() as u32,
            counts: self.counts,
            seconds: self.seconds(manifest),
            state: self.state,
            reason: (!self.reasons.is_empty()).then(|| reason::joined(&self.reasons)),
            codes: reason::codes(&self.reasons),
        }
    }

    fn run(&self, work: &Work) -> Run {
        let manifest = &work.manifest;
        // No file has more than 2^63 records.
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Run {
            id: run_id(manifest),
            ingestion: manifest.ingestion.to_string(),
            client: manifest.client.to_string(),
            app: manifest.app.clone(),
            lane: manifest.lane,
            file: manifest.file.clone(),
            bytes: manifest.bytes,
            blake3: manifest.blake3.clone(),
            micro_batches: manifest.micro_batches.len() as u32,
            received: signed(self.counts.received),
            stored: signed(self.counts.stored),
            duplicates: signed(self.counts.duplicates),
            rejected: signed(self.counts.rejected),
            audited: self.audited,
            state: self.state,
            received_at: date(manifest.received_at),
            staged_at: date(manifest.staged_at),
            finished_at: date(self.at),
            seconds: self.seconds(manifest),
            columns: manifest.columns.clone(),
            replace: manifest.replace,
            collection: Some(work.app().collection.clone()),
            ids: Some(work.app().settings.ids),
            reasons: reason::texts(&self.reasons),
            codes: reason::codes(&self.reasons),
        }
    }
}

/// Returns when the run began: a run that replaces begins long after its content was dropped.
fn began_at(manifest: &Manifest) -> Timestamp {
    if manifest.replace {
        return manifest.staged_at;
    }
    manifest.taken_at.unwrap_or(manifest.received_at)
}

fn run_id(manifest: &Manifest) -> String {
    Run::id(manifest.ingestion, manifest.staged_at)
}

/// Writes the receipt beside where the file was dropped, under a name that is not taken for a dropped file. If the
/// sender has put something in its way, only the receipt is lost, and the ingestion still ends.
fn write_receipt(layout: &Layout, manifest: &Manifest, message: &Finished) -> Result<(), FileError> {
    let (client, file, key) = (&manifest.client, &manifest.file, manifest.ingestion.to_string());
    match DropDirectory::open_or_create(layout)?.write_receipt(manifest.lane, &key, &message.into()) {
        Err(error) if error.is_obstructed() => {
            tracing::warn!(%client, file, error = error_chain(&error), "receipt is not written, something is in its way");
            Ok(())
        }
        written => written,
    }
}

/// Returns the client's own folder, also for a file that was dropped elsewhere and routed by its name.
fn returns_to(manifest: &Manifest) -> DropPath {
    DropPath::of_client(&manifest.client, manifest.lane)
}
