//! Takes one settled file through its steps, to staging or to `discarded/`.
//!
//! 1. inspect the file itself: open, validate, split ([`crate::inspect`]);
//! 2. if the same content is known: wait for it, retry it, refuse the file, or continue;
//! 3. stage and notify.
//!
//! If a step fails, the file stays where it is and is processed again later.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_config::settings::OnDuplicate;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_model::reason::{Objection, ReasonCode};
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::{clock, failpoint, random};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath};
use mysimbdp_spool::replace::{self, ReplacementTimes};
use mysimbdp_spool::staging::{self, StagingError};
use mysimbdp_telemetry::metrics::metrics;
use mysimbdp_telemetry::timing::Stage;
use tokio::task::{JoinError, spawn_blocking};

use crate::burst_log::{BurstLog, Cause};
use crate::discard::{Refused, discard};
use crate::duplicate::{self, ContentState, EarlierIngestions};
use crate::inspect::{Accepted, Inspection, inspect, is_still_closed};
use crate::late::{self, SetAsideResult};
use crate::moves::Moved;
use crate::notify_staged::StagedNotifier;
use crate::scan::FileSnapshot;
use crate::settle::{Ended, Ready};
use crate::stage::{self, SourceFile, Staging};
use crate::watch::Watch;
use crate::{recover, route};

/// Takes files through their steps: one for all files that begin under the same config.
#[derive(Debug)]
pub(crate) struct FileIntake {
    config: Arc<Config>,
    shared: Arc<SharedState>,
}

/// What does not change with the config.
#[derive(Debug)]
struct SharedState {
    watch: Arc<Watch>,
    earlier_ingestions: EarlierIngestions,
    notifier: StagedNotifier,
    log: BurstLog,
    /// Contents in progress, so that the same content dropped twice is not staged twice at once.
    locked_contents: Mutex<HashSet<(ClientId, IngestionId)>>,
}

/// Why a file could not be processed.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot return the held ingestion to staging")]
    Retry(#[from] StagingError),
    #[error("the history is unavailable, so it is unknown what the file would replace")]
    NoHistory,
    #[error("a processing step has crashed")]
    Crashed(#[from] JoinError),
}

impl ProcessError {
    fn is_exhausted(&self) -> bool {
        match self {
            Self::File(error) | Self::Retry(StagingError::File(error)) => error.is_exhausted(),
            Self::Retry(_) | Self::NoHistory | Self::Crashed(_) => false,
        }
    }

    fn cause(&self) -> Cause {
        match self {
            Self::File(error) | Self::Retry(StagingError::File(error)) => {
                Cause { action: error.action, code: error.source.raw_os_error() }
            }
            Self::Retry(_) => Cause { action: "retry", code: None },
            Self::NoHistory => Cause { action: "query the history", code: None },
            Self::Crashed(_) => Cause { action: "crash", code: None },
        }
    }
}

impl FileIntake {
    pub(crate) fn new(config: Arc<Config>, watch: Arc<Watch>) -> Self {
        let earlier_ingestions = EarlierIngestions::new(&config);
        let notifier = StagedNotifier::new(Arc::clone(&config));
        let shared = SharedState {
            watch,
            earlier_ingestions,
            notifier,
            log: BurstLog::new(),
            locked_contents: Mutex::default(),
        };
        Self { config, shared: Arc::new(shared) }
    }

    /// Processes the next files by another config; files in progress finish by the one that they began with.
    pub(crate) fn with(&self, config: Arc<Config>) -> Self {
        Self { config, shared: Arc::clone(&self.shared) }
    }

    /// Finishes the recovery that needs the history: see [`recover::all`].
    pub(crate) async fn recover(&self, waiting: recover::Originals) -> Result<(), JoinError> {
        recover::originals(&self.config.layout, &self.shared.earlier_ingestions, waiting).await
    }

    pub(crate) fn log(&self) -> &BurstLog {
        &self.shared.log
    }

    pub(crate) async fn close(&self) {
        self.shared.notifier.close().await;
        self.shared.earlier_ingestions.close().await;
    }

    /// Processes a file as far as possible. A failure is logged here, and the file is processed again later.
    pub(crate) async fn process(self: Arc<Self>, ready: Ready) -> Ended {
        let (path, client) = (ready.snapshot.path.clone(), ready.snapshot.owner.client.clone());
        match Arc::clone(&self).steps(ready).await {
            Ok(ended) => ended,
            // Its sender has taken it back, or replaced its directory with something else.
            Err(ProcessError::File(error))
                if (error.is_not_found() || error.is_obstructed()) && !self.exists_at(&path) =>
            {
                Ended::Removed
            }
            Err(error) if error.is_exhausted() => Ended::Exhausted(mysimbdp_model::error_chain(&error)),
            Err(error) => {
                self.shared.log.not_processed(
                    client.as_ref(),
                    &path,
                    error.cause(),
                    mysimbdp_model::error_chain(&error),
                );
                Ended::Failed
            }
        }
    }

    async fn steps(self: Arc<Self>, ready: Ready) -> Result<Ended, ProcessError> {
        let known_duplicate = ready.duplicate_of;
        if let Some(duplicate_of) = known_duplicate
            && self.is_staged(&ready.snapshot, duplicate_of)
        {
            return Ok(Ended::DuplicateInProgress(duplicate_of));
        }
        let this = Arc::clone(&self);
        let accepted = match spawn_blocking(move || this.inspect(&ready)).await?? {
            Inspected::Accepted(accepted) => Arc::new(*accepted),
            Inspected::Ended(ended) => return Ok(ended),
        };
        failpoint::hit("fetchdata.inspected");
        let (client, ingestion) = (&accepted.client, accepted.split.ingestion);
        let Some(_content_lock) = ContentLock::acquire(&self.shared.locked_contents, client, ingestion)
        else {
            return Ok(Ended::DuplicateInProgress(ingestion));
        };
        let mut replaces = None;
        match duplicate::look_up(&self.config.layout, &self.shared.earlier_ingestions, client, ingestion)
            .await
        {
            ContentState::Staged => {
                if known_duplicate != Some(ingestion) {
                    let (client, ingestion, file) = (client.as_str(), ingestion.to_string(), accepted.name());
                    tracing::info!(client, ingestion, file, "same content is staged, waiting for its end");
                }
                return Ok(Ended::DuplicateInProgress(ingestion));
            }
            ContentState::Held => {
                let (this, accepted) = (Arc::clone(&self), Arc::clone(&accepted));
                if let Some(ended) = spawn_blocking(move || this.retry_held(&accepted)).await?? {
                    if matches!(ended, Ended::Removed) {
                        self.notify_retried(client, ingestion).await?;
                    }
                    return Ok(ended);
                }
            }
            ContentState::Ingested(runs) => match self.on_duplicate(client) {
                OnDuplicate::Discard => {
                    return self
                        .refuse_known(accepted, ReasonCode::Duplicate.because(describe_duplicate(&runs)))
                        .await;
                }
                OnDuplicate::Reload => {}
                OnDuplicate::Replace => {
                    if let Some(reason) = self.refusal_to_replace(&accepted, &runs) {
                        return self.refuse_known(accepted, reason).await;
                    }
                    let times = replace::replacement_times(&runs, clock::now());
                    replaces = times.map(|times| times.dropped_again_at(accepted.received_at));
                }
            },
            // Staged as a first run, it would be stored beside what it should replace.
            ContentState::New
                if self.on_duplicate(client) == OnDuplicate::Replace
                    && self.shared.earlier_ingestions.is_unavailable() =>
            {
                return Err(ProcessError::NoHistory);
            }
            ContentState::New => {}
        }
        failpoint::hit("fetchdata.duplicate-looked-up");
        self.stage(accepted, replaces).await
    }

    fn inspect(&self, ready: &Ready) -> Result<Inspected, ProcessError> {
        Ok(Inspected::Ended(match inspect(&self.config, &self.shared.watch, ready)? {
            Inspection::Accepted(accepted) => return Ok(Inspected::Accepted(accepted)),
            Inspection::Busy => Ended::Busy,
            Inspection::WritersUnknown => Ended::WritersUnknown,
            Inspection::Refused(reasons) => self.refuse(&ready.snapshot, None, clock::now(), reasons)?,
        }))
    }

    /// Refuses content that is known, with this reason.
    async fn refuse_known(
        self: &Arc<Self>,
        accepted: Arc<Accepted>,
        reason: Objection,
    ) -> Result<Ended, ProcessError> {
        let this = Arc::clone(self);
        let refuse = move || {
            let (ingestion, taken_at) = (accepted.split.ingestion, accepted.taken_at);
            this.refuse(&accepted.snapshot, Some(ingestion), taken_at, vec![reason])
        };
        spawn_blocking(refuse).await?
    }

    /// Why the app that the file would go to cannot replace what its last run has stored.
    fn refusal_to_replace(&self, accepted: &Accepted, runs: &[Run]) -> Option<Objection> {
        let app = self.config.client(&accepted.client)?.app(accepted.app())?;
        let reason = replace::refusal(app, replace::last_ingested(runs))?;
        let text = format!("same content was ingested, and cannot be replaced: {reason}");
        Some(ReasonCode::NotReplaceable.because(text))
    }

    fn refuse(
        &self,
        snapshot: &FileSnapshot,
        ingestion: Option<IngestionId>,
        received_at: Timestamp,
        reasons: Vec<Objection>,
    ) -> Result<Ended, ProcessError> {
        let client = self.client_id(snapshot);
        let receipt = client.as_ref().and_then(|client| self.config.client(client));
        let receipt = receipt.is_some_and(|client| client.settings.receipt);
        let refused = Refused { snapshot, client: client.as_ref(), ingestion, received_at, reasons, receipt };
        Ok(match discard(&self.config.layout, &self.shared.log, refused)? {
            Moved::Yes => {
                self.remove_sentinel(snapshot);
                Ended::Removed
            }
            Moved::Changed => Ended::Busy,
        })
    }

    /// Dropping held content again acts as `retry`. `None` if the held content is damaged: its directory has been
    /// renamed, and the dropped file is staged as if nothing were held.
    fn retry_held(&self, accepted: &Accepted) -> Result<Option<Ended>, ProcessError> {
        let (layout, client, ingestion) = (&self.config.layout, &accepted.client, accepted.split.ingestion);
        let held = layout.held(client, ingestion);
        let is_whole = match staging::read_manifest(&held) {
            Ok(manifest) => recover::matches(&manifest, &held)?,
            Err(_) => false,
        };
        if !is_whole {
            set_aside_damaged(&held, client, ingestion)?;
            return Ok(None);
        }
        // The original is set aside until the held content is staged: if this is interrupted, the file is restored
        // and inspected again.
        let drop_directory = DropDirectory::open(layout)?;
        let (snapshot, content) = (&accepted.snapshot, (client, ingestion));
        let result =
            late::set_aside(&drop_directory, accepted.closed, content, &snapshot.path, &snapshot.identity)?;
        let original = match result {
            SetAsideResult::Done(original) => original,
            SetAsideResult::Changed => return Ok(Some(Ended::Busy)),
            SetAsideResult::Occupied => return Ok(Some(Ended::DuplicateInProgress(ingestion))),
        };
        failpoint::hit("fetchdata.repeat-set-aside");
        let retried = match self.on_duplicate(client) {
            OnDuplicate::Replace => staging::retry_dropped(layout, client, ingestion, accepted.received_at),
            OnDuplicate::Discard | OnDuplicate::Reload => staging::retry_held(layout, client, ingestion),
        };
        if let Err(error) = retried {
            original.restore(&drop_directory)?;
            return Err(error.into());
        }
        failpoint::hit("fetchdata.held-returned");
        original.finish(&drop_directory)?;
        self.remove_sentinel(&accepted.snapshot);
        let (client, ingestion, file) = (client.as_str(), ingestion.to_string(), accepted.name());
        tracing::info!(client, ingestion, file, "held content was dropped again, it is retried");
        Ok(Some(Ended::Removed))
    }

    async fn notify_retried(&self, client: &ClientId, ingestion: IngestionId) -> Result<(), ProcessError> {
        let staged = self.config.layout.staged(client, ingestion);
        // Its run may have begun, or even ended, already.
        if let Ok(manifest) = spawn_blocking(move || staging::read_manifest(&staged)).await? {
            self.shared.notifier.notify(&manifest).await;
        }
        Ok(())
    }

    async fn stage(
        self: &Arc<Self>,
        accepted: Arc<Accepted>,
        replaces: Option<ReplacementTimes>,
    ) -> Result<Ended, ProcessError> {
        let mut manifest = accepted.manifest();
        if let Some(times) = replaces {
            manifest.replace = true;
            (manifest.received_at, manifest.staged_at) = (times.received_at, times.staged_at);
        }
        let started = Instant::now();
        let (this, source) = (Arc::clone(self), Arc::clone(&accepted));
        let (staging, manifest) = spawn_blocking(move || {
            let (path, closed) = (&source.snapshot.path, source.closed);
            let is_still_closed = || is_still_closed(&this.shared.watch, path, closed);
            let file = SourceFile {
                path,
                file: &source.file,
                identity: source.snapshot.identity,
                closed,
                is_still_closed: &is_still_closed,
            };
            let parts = this.config.settings.fetchdata.staging_parts;
            stage::stage(&this.config.layout, parts, &file, &mut manifest).map(|staging| (staging, manifest))
        })
        .await??;
        match staging {
            Staging::Changed => return Ok(Ended::Busy),
            Staging::DuplicateInProgress => return Ok(Ended::DuplicateInProgress(manifest.ingestion)),
            Staging::Done => {}
        }
        accepted.log_timing(Stage::Stage, started.elapsed());
        metrics().files_staged.with([manifest.client.as_str(), manifest.lane.as_str()]).inc();
        tracing::info!(
            client = %manifest.client,
            ingestion = %manifest.ingestion,
            file = manifest.file,
            bytes = manifest.bytes,
            records = manifest.records,
            micro_batches = manifest.micro_batches.len(),
            "staged"
        );
        failpoint::hit("fetchdata.staged");
        self.remove_sentinel(&accepted.snapshot);
        let started = Instant::now();
        self.shared.notifier.notify(&manifest).await;
        failpoint::hit("fetchdata.notified");
        accepted.log_timing(Stage::Notify, started.elapsed());
        Ok(Ended::Removed)
    }

    fn is_staged(&self, snapshot: &FileSnapshot, ingestion: IngestionId) -> bool {
        self.client_id(snapshot)
            .is_some_and(|client| files::exists(&self.config.layout.staged(&client, ingestion)))
    }

    fn client_id(&self, snapshot: &FileSnapshot) -> Option<ClientId> {
        route::client(&self.config, &snapshot.origin, snapshot.path.name())
            .ok()
            .map(|client| client.id.clone())
    }

    fn exists_at(&self, path: &DropPath) -> bool {
        DropDirectory::open(&self.config.layout).is_ok_and(|drop_directory| drop_directory.exists(path))
    }

    /// Only after the file has left the drop directory: a file without its sentinel would never be processed.
    fn remove_sentinel(&self, snapshot: &FileSnapshot) {
        let Some(sentinel) = &snapshot.sentinel else { return };
        let removed = DropDirectory::open(&self.config.layout)
            .and_then(|drop_directory| drop_directory.parent(sentinel)?.remove_file(sentinel.name()));
        if let Err(error) = removed
            && !error.is_not_found()
        {
            tracing::warn!(
                error = mysimbdp_model::error_chain(&error),
                "sentinel cannot be removed, the next file of its name will not wait for one"
            );
        }
    }

    fn on_duplicate(&self, client: &ClientId) -> OnDuplicate {
        self.config.client(client).map(|client| client.settings.on_duplicate).unwrap_or_default()
    }
}

/// Names the first run: that is the one that the sender knows.
fn describe_duplicate(runs: &[Run]) -> String {
    let first = runs.iter().find(|run| run.state == FinalState::Ingested);
    first.map_or_else(String::new, |first| {
        let when = mysimbdp_store::date::time(first.finished_at);
        format!("same content as {:?}, ingested {when:.0}", first.file)
    })
}

fn set_aside_damaged(held: &Path, client: &ClientId, ingestion: IngestionId) -> Result<(), FileError> {
    let aside = held.with_file_name(format!("{ingestion}-damaged-{:016x}", random::number()));
    files::rename(held, &aside)?;
    let (client, directory) = (client.as_str(), aside.display());
    tracing::warn!(client, %directory, "held content is damaged, renamed as the same content was dropped again");
    Ok(())
}

/// A file that was inspected: it is staged next, or its processing has ended.
enum Inspected {
    Accepted(Box<Accepted>),
    Ended(Ended),
}

/// The exclusive right to work on a content, released when dropped.
struct ContentLock<'a> {
    locked_contents: &'a Mutex<HashSet<(ClientId, IngestionId)>>,
    key: (ClientId, IngestionId),
}

impl<'a> ContentLock<'a> {
    fn acquire(
        locked_contents: &'a Mutex<HashSet<(ClientId, IngestionId)>>,
        client: &ClientId,
        ingestion: IngestionId,
    ) -> Option<Self> {
        let key = (client.clone(), ingestion);
        // Made only if the key was free: dropping one releases the key.
        lock(locked_contents).insert(key.clone()).then(|| Self { locked_contents, key })
    }
}

impl Drop for ContentLock<'_> {
    fn drop(&mut self) {
        lock(self.locked_contents).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
