//! One attempt at a work unit: from the baseline to the outcome.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_model::app::{Ids, Protocol};
use mysimbdp_model::error_chain;
use mysimbdp_model::outcome::Outcome;
use mysimbdp_model::reason::{Objection, ReasonCode};
use mysimbdp_platform::files::FileError;
use mysimbdp_platform::{clock, failpoint};
use mysimbdp_spool::staging::content::ContentError;
use mysimbdp_spool::staging::{Attempt, RejectsWriter, write_attempt, write_outcome};
use mysimbdp_store::{Coredms, CoredmsError, object_length};
use mysimbdp_telemetry::timing::Stage;

use crate::blocking::blocking;
use crate::context::Context;
use crate::feed::Feed;
use crate::observe::Work;
use crate::run::{KeyCheck, Lists, UnitRun, Verdict, run_unit};
use crate::unit::{Input, WorkUnit};
use crate::verify_report::{Evidence, verify_report};
use crate::{audit, history, metrics, replace, timing};

/// The result of an attempt, with the record of it that the next attempt needs.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    Done(Outcome),
    /// The app is at fault: tried again a limited number of times.
    Failed {
        attempt: Attempt,
        reason: Objection,
    },
    /// Something that the attempt needs is unavailable: tried again without limit.
    TryLater {
        attempt: Attempt,
        reason: String,
    },
    /// It will never succeed.
    Hopeless {
        attempt: Attempt,
        reason: Objection,
    },
    /// Stopped by the shutdown: the next start runs the unit again.
    Stopped,
}

/// Why an attempt could not be made; none of these is the app's fault.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Store(#[from] CoredmsError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("cannot replace what an earlier run has stored: {0}")]
    NotReplaceable(String),
}

/// Makes the next attempt at a unit after `before`.
pub(crate) async fn make_attempt(
    context: &Context,
    work: &Arc<Work>,
    unit: usize,
    before: Attempt,
) -> AttemptEnd {
    let since = Instant::now();
    let unit = &work.units[unit];
    let program = match context.program(work.config(), work.client(), work.app()) {
        Ok(program) => program,
        // A person must repair that; a few attempts leave time for it.
        Err(error) => {
            return fail(work, unit.index, before, ReasonCode::AppFailed.because(error_chain(&error))).await;
        }
    };
    let (attempt, feed, store) = match prepare(context, work, unit, before.clone()).await {
        Ok(prepared) => prepared,
        Err(error @ Obstacle::Content(ContentError::Changed { .. })) => {
            let reason = ReasonCode::Damaged.because(error.to_string());
            return AttemptEnd::Hopeless { attempt: before, reason };
        }
        Err(error @ Obstacle::NotReplaceable(_)) => {
            let reason = ReasonCode::NotReplaceable.because(error.to_string());
            return AttemptEnd::Hopeless { attempt: before, reason };
        }
        Err(error) => return later(work, unit.index, before, error_chain(&error)).await,
    };
    let encoding = work.client().settings.files.encoding.as_str();
    let header = unit.header(&work.manifest, encoding, attempt.attempt, feed.length());
    if attempt.attempt == 1 {
        timing::of_unit(Stage::Queue, work, unit, timing::since(work.manifest.staged_at));
    }
    let keys = (work.app().settings.ids == Ids::Key).then(|| {
        let earlier = replace::earlier_runs(&work.manifest);
        KeyCheck::new(Arc::clone(&store), work.app().collection.clone(), unit.records, earlier)
    });
    let lists = Lists { rejects: RejectsWriter::new(&work.directory, unit.index), keys };
    let stop = context.stop.subscribe();
    let ran = match program.protocol {
        Protocol::Stdin => run_unit(&program, &header, feed, lists, stop).await,
        Protocol::Worker => {
            let key = Context::worker_key(work.client(), work.app(), &program);
            context.workers.run(&key, &program, &header, feed, lists, stop).await
        }
    };
    if ran.spawn > Duration::ZERO {
        timing::of_unit(Stage::Spawn, work, unit, ran.spawn);
    }
    metrics::app_ended(work.manifest.client.as_str(), &work.app().name, &ran.verdict);
    conclude(store.as_ref(), work, unit, attempt, ran, since).await
}

/// Counts the records that coredms has already, verifies the unit's bytes, and records that the attempt has begun.
async fn prepare(
    context: &Context,
    work: &Arc<Work>,
    unit: &WorkUnit,
    before: Attempt,
) -> Result<(Attempt, Feed, Arc<dyn Coredms>), Obstacle> {
    // Needed even if nothing is counted: opening it sets the collections up as the config says.
    let store = context.stores.client(work.client()).await?;
    if work.manifest.replace
        && let Some(reason) = history::refusal_to_replace(&context.stores, work).await?
    {
        return Err(Obstacle::NotReplaceable(reason));
    }
    let baseline = if before.attempt == 0 {
        baseline(context, store.as_ref(), work, unit).await?
    } else {
        // The last attempt may have failed because the store was unavailable, and this one would too.
        store.ping().await?;
        before.baseline
    };
    failpoint::hit("batch-manager.baseline-counted");
    let attempt = Attempt { attempt: before.attempt + 1, baseline, ..before };
    let (shared, unit, noted) = (Arc::clone(work), unit.clone(), attempt.clone());
    let feed = blocking(move || {
        let feed = Feed::verified(&shared.directory, &shared.manifest, &unit)?;
        write_attempt(&shared.directory, unit.index, &noted)?;
        failpoint::hit("batch-manager.attempt-noted");
        Ok::<_, Obstacle>(feed)
    });
    Ok((attempt, feed.await?, store))
}

/// Counts the unit's records that were in coredms before this run wrote any; `None` if they cannot be counted.
///
/// If the content had no earlier run, the records found were stored by an attempt of this run of which a power cut has
/// left no trace, so they do not count.
async fn baseline(
    context: &Context,
    store: &dyn Coredms,
    work: &Work,
    unit: &WorkUnit,
) -> Result<Option<u64>, CoredmsError> {
    let (manifest, collection) = (&work.manifest, &work.app().collection);
    if manifest.replace {
        // Existing records are replaced, so none of them is a duplicate.
        return Ok(None);
    }
    let found = match (work.app().settings.ids, unit.input) {
        (Ids::Platform, _) => audit::records(store, collection, manifest, unit).await?,
        (Ids::Object, Input::File | Input::Join) => {
            let length = object_length(store, collection, manifest.ingestion).await?;
            if length.is_some() { unit.records } else { 0 }
        }
        (Ids::Object | Ids::Key | Ids::None, _) => return Ok(None),
    };
    let had_earlier_run = found > 0 && history::has_earlier_run(&context.stores, manifest).await?;
    Ok(Some(if had_earlier_run { found } else { 0 }))
}

async fn conclude(
    store: &dyn Coredms,
    work: &Work,
    unit: &WorkUnit,
    attempt: Attempt,
    ran: UnitRun,
    since: Instant,
) -> AttemptEnd {
    let evidence = Evidence {
        ids: work.app().settings.ids,
        baseline: attempt.baseline,
        replaces: work.manifest.replace,
    };
    let report = match ran.verdict {
        Verdict::Done(report) => report,
        Verdict::BadData(reason) => {
            return AttemptEnd::Hopeless { attempt, reason: ReasonCode::DataRefused.because(reason) };
        }
        Verdict::TryLater(reason) => return later(work, unit.index, attempt, reason).await,
        Verdict::Crashed(reason) => {
            return match store.ping().await {
                Ok(()) => fail(work, unit.index, attempt, ReasonCode::AppFailed.because(reason)).await,
                // The store may be the cause, so the app is not blamed.
                Err(error) => {
                    later(work, unit.index, attempt, format!("{reason}, and {}", error_chain(&error))).await
                }
            };
        }
        Verdict::Stopped => return AttemptEnd::Stopped,
    };
    let not_believed =
        |reason: String| ReasonCode::AppNotBelieved.because(format!("app is not believed: it {reason}"));
    let counts = match verify_report(unit, &report, evidence) {
        Ok(counts) => counts,
        Err(reason) => return fail(work, unit.index, attempt, not_believed(reason)).await,
    };
    let counted = match audit::count(store, work, unit, &report).await {
        Ok(counted) => counted,
        // The unit is run again, and the app finds its records in the store.
        Err(error) => return later(work, unit.index, attempt, error_chain(&error)).await,
    };
    let audited = match audit::compare(counts, &counted) {
        Ok(audited) => audited,
        Err(reason) => return fail(work, unit.index, attempt, not_believed(reason)).await,
    };
    failpoint::hit("batch-manager.audited");
    let took = since.elapsed();
    let outcome = Outcome {
        version: mysimbdp_model::manifest::VERSION,
        index: unit.index,
        attempt: attempt.attempt,
        counts,
        bytes: unit.bytes(&work.manifest),
        seconds: took.as_secs_f64(),
        finished_at: clock::now(),
        audited,
        rejects_xxh3: None,
    };
    let directory = work.directory.clone();
    match blocking(move || record_outcome(&directory, ran.rejects, outcome)).await {
        Ok(outcome) => {
            timing::of_unit(Stage::Ingest, work, unit, took);
            AttemptEnd::Done(outcome)
        }
        // The unit is run again, and the app finds its records in the store.
        Err(error) => later(work, unit.index, attempt, error_chain(&error)).await,
    }
}

fn record_outcome(
    directory: &Path,
    rejects: RejectsWriter,
    mut outcome: Outcome,
) -> Result<Outcome, FileError> {
    outcome.rejects_xxh3 = rejects.commit()?;
    failpoint::hit("batch-manager.rejects-kept");
    write_outcome(directory, &outcome)?;
    failpoint::hit("batch-manager.outcome-written");
    Ok(outcome)
}

async fn fail(work: &Work, index: u32, attempt: Attempt, reason: Objection) -> AttemptEnd {
    let attempt = Attempt { failures: attempt.failures + 1, reason: Some(reason.text.clone()), ..attempt };
    record_attempt(work, index, &attempt).await;
    AttemptEnd::Failed { attempt, reason }
}

async fn later(work: &Work, index: u32, attempt: Attempt, reason: String) -> AttemptEnd {
    let attempt = Attempt { reason: Some(reason.clone()), ..attempt };
    record_attempt(work, index, &attempt).await;
    AttemptEnd::TryLater { attempt, reason }
}

/// Writes the attempt to disk, for a restart and for people. The manager has it in memory even if that fails.
async fn record_attempt(work: &Work, index: u32, attempt: &Attempt) {
    let (directory, noted) = (work.directory.clone(), attempt.clone());
    let written = blocking(move || write_attempt(&directory, index, &noted)).await;
    // An exhausted resource becomes the reason of the next wait and is reported there.
    if let Err(error) = written.or_else(|error| if error.is_exhausted() { Ok(()) } else { Err(error) }) {
        tracing::warn!(ingestion = %work.manifest.ingestion, error = error_chain(&error), "an attempt could not be recorded");
    }
}
