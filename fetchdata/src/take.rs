//! Takes one settled file through its steps, to staging or to `discarded/`.
//!
//! 1. inspect it by itself: claim, validate, split ([`crate::inspect`]);
//! 2. the same content is known: wait for it, retry it, refuse it, or go on;
//! 3. stage, notify.
//!
//! Whatever does not work leaves the file where it lies, to be taken again later.

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
use mysimbdp_spool::replace::{self, Succession};
use mysimbdp_spool::staging::{self, StagingError};
use mysimbdp_telemetry::timing::Stage;
use tokio::task::{JoinError, spawn_blocking};

use crate::discard::{Refused, discard};
use crate::duplicate::{self, EarlierIngestions, Known};
use crate::inspect::{Accepted, Inspection, inspect, is_still_closed};
use crate::late::{self, Waits};
use crate::moves::Moved;
use crate::notify_staged::StagedNotifier;
use crate::scan::Look;
use crate::settle::{Ended, Ready};
use crate::stage::{self, Source, Staging};
use crate::tell::{Cause, Tell};
use crate::watch::Watch;
use crate::{recover, route};

/// What all files share.
#[derive(Debug)]
pub(crate) struct FileIntake {
    config: Arc<Config>,
    shared: Arc<Shared>,
}

/// What does not change with the config.
#[derive(Debug)]
struct Shared {
    watch: Arc<Watch>,
    history: EarlierIngestions,
    notifier: StagedNotifier,
    tell: Tell,
    /// Contents in work: the same content dropped twice is not staged twice at once.
    claims: Mutex<HashSet<(ClientId, IngestionId)>>,
}

/// Why a file could not be taken through.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot return the held ingestion to staging")]
    Retry(#[from] StagingError),
    #[error("nobody knows what it would replace, as the history is not available")]
    NoHistory,
    #[error("a step has crashed")]
    Crashed(#[from] JoinError),
}

impl TakeError {
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
            Self::NoHistory => Cause { action: "ask the history", code: None },
            Self::Crashed(_) => Cause { action: "crash", code: None },
        }
    }
}

impl FileIntake {
    pub(crate) fn new(config: Arc<Config>, watch: Arc<Watch>) -> Self {
        let history = EarlierIngestions::new(&config);
        let notifier = StagedNotifier::new(Arc::clone(&config));
        let shared = Shared { watch, history, notifier, tell: Tell::new(), claims: Mutex::default() };
        Self { config, shared: Arc::new(shared) }
    }

    /// Takes the next files by the rules of another config; those in work go on by the rules that they began with.
    pub(crate) fn with(&self, config: Arc<Config>) -> Self {
        Self { config, shared: Arc::clone(&self.shared) }
    }

    /// Finishes what the directories alone could not: see [`recover::all`].
    pub(crate) async fn recover(&self, waiting: recover::Originals) -> Result<(), JoinError> {
        recover::originals(&self.config.layout, &self.shared.history, waiting).await
    }

    pub(crate) fn tell(&self) -> &Tell {
        &self.shared.tell
    }

    pub(crate) async fn close(&self) {
        self.shared.notifier.close().await;
        self.shared.history.close().await;
    }

    /// Takes a file as far as it goes. What goes wrong is logged here, and the file is taken again later.
    pub(crate) async fn take(self: Arc<Self>, ready: Ready) -> Ended {
        let (path, client) = (ready.look.path.clone(), ready.look.owner.client.clone());
        match Arc::clone(&self).steps(ready).await {
            Ok(ended) => ended,
            // Its sender has taken it back, or put something else in the place of its directory.
            Err(TakeError::File(error))
                if (error.is_not_found() || error.is_obstructed()) && !self.lies_at(&path) =>
            {
                Ended::Gone
            }
            Err(error) if error.is_exhausted() => Ended::Exhausted(mysimbdp_model::error_chain(&error)),
            Err(error) => {
                self.shared.tell.not_taken(
                    client.as_ref(),
                    &path,
                    error.cause(),
                    mysimbdp_model::error_chain(&error),
                );
                Ended::Failed
            }
        }
    }

    async fn steps(self: Arc<Self>, ready: Ready) -> Result<Ended, TakeError> {
        let known_twin = ready.twin;
        if let Some(twin) = known_twin
            && self.is_staged(&ready.look, twin)
        {
            return Ok(Ended::Twin(twin));
        }
        let taker = Arc::clone(&self);
        let accepted = match spawn_blocking(move || taker.inspect(&ready)).await?? {
            Ok(accepted) => Arc::new(accepted),
            Err(ended) => return Ok(ended),
        };
        failpoint::hit("fetchdata.inspected");
        let (client, ingestion) = (&accepted.client, accepted.split.ingestion);
        let Some(_claim) = Claim::take(&self.shared.claims, client, ingestion) else {
            return Ok(Ended::Twin(ingestion));
        };
        let mut replaces = None;
        match duplicate::seek(&self.config.layout, &self.shared.history, client, ingestion).await {
            Known::Staged => {
                if known_twin != Some(ingestion) {
                    let (client, ingestion, file) = (client.as_str(), ingestion.to_string(), accepted.name());
                    tracing::info!(client, ingestion, file, "same content is staged, waits for its end");
                }
                return Ok(Ended::Twin(ingestion));
            }
            Known::Held => {
                let (taker, accepted) = (Arc::clone(&self), Arc::clone(&accepted));
                if let Some(ended) = spawn_blocking(move || taker.retry_held(&accepted)).await?? {
                    return Ok(ended);
                }
            }
            Known::Ingested(runs) => match self.on_duplicate(client) {
                OnDuplicate::Discard => {
                    return self
                        .refuse_known(accepted, ReasonCode::Duplicate.because(repeat_of(&runs)))
                        .await;
                }
                OnDuplicate::Reload => {}
                OnDuplicate::Replace => {
                    if let Some(reason) = self.refusal_to_replace(&accepted, &runs) {
                        return self.refuse_known(accepted, reason).await;
                    }
                    let times = replace::after(&runs, clock::now());
                    replaces = times.map(|times| times.dropped_at(accepted.received_at));
                }
            },
            // It would be stored beside what it is to replace.
            Known::No
                if self.on_duplicate(client) == OnDuplicate::Replace && self.shared.history.is_away() =>
            {
                return Err(TakeError::NoHistory);
            }
            Known::No => {}
        }
        failpoint::hit("fetchdata.sought");
        self.stage(accepted, replaces).await
    }

    fn inspect(&self, ready: &Ready) -> Result<Result<Accepted, Ended>, TakeError> {
        Ok(Err(match inspect(&self.config, &self.shared.watch, ready)? {
            Inspection::Accepted(accepted) => return Ok(Ok(*accepted)),
            Inspection::Busy => Ended::Busy,
            Inspection::LeasesDoNotWork => Ended::LeasesDoNotWork,
            Inspection::Refused(reasons) => self.refuse(&ready.look, None, clock::now(), reasons)?,
        }))
    }

    /// Refuses content that is known, for this reason.
    async fn refuse_known(
        self: &Arc<Self>,
        accepted: Arc<Accepted>,
        reason: Objection,
    ) -> Result<Ended, TakeError> {
        let taker = Arc::clone(self);
        let refuse = move || {
            let (ingestion, taken_at) = (accepted.split.ingestion, accepted.taken_at);
            taker.refuse(&accepted.look, Some(ingestion), taken_at, vec![reason])
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
        look: &Look,
        ingestion: Option<IngestionId>,
        received_at: Timestamp,
        reasons: Vec<Objection>,
    ) -> Result<Ended, TakeError> {
        let client = self.client_id(look);
        let receipt = client.as_ref().and_then(|client| self.config.client(client));
        let receipt = receipt.is_some_and(|client| client.settings.receipt);
        let refused = Refused { look, client: client.as_ref(), ingestion, received_at, reasons, receipt };
        Ok(match discard(&self.config.layout, &self.shared.tell, refused)? {
            Moved::Yes => {
                self.remove_sentinel(look);
                Ended::Gone
            }
            Moved::Replaced => Ended::Busy,
        })
    }

    /// The drop of what is held acts as `retry`. `None` where what is held is damaged, and so makes room for the drop.
    fn retry_held(&self, accepted: &Accepted) -> Result<Option<Ended>, TakeError> {
        let (layout, client, ingestion) = (&self.config.layout, &accepted.client, accepted.split.ingestion);
        let held = layout.held(client, ingestion);
        let is_whole = match staging::read_manifest(&held) {
            Ok(manifest) => recover::matches(&manifest, &held)?,
            Err(_) => false,
        };
        if !is_whole {
            put_aside(&held, client, ingestion)?;
            return Ok(None);
        }
        // Out of sight until the held one is staged: were this cut off, the file would be found and inspected once more.
        let drop_directory = DropDirectory::open(layout)?;
        let (look, whose) = (&accepted.look, (client, ingestion));
        let waits = late::set_aside(&drop_directory, accepted.closed, whose, &look.path, &look.stamp)?;
        let original = match waits {
            Waits::Yes(original) => original,
            Waits::Replaced => return Ok(Some(Ended::Busy)),
            Waits::Occupied => return Ok(Some(Ended::Twin(ingestion))),
        };
        failpoint::hit("fetchdata.repeat-hidden");
        let retried = match self.on_duplicate(client) {
            OnDuplicate::Replace => staging::retry_dropped(layout, client, ingestion, accepted.received_at),
            OnDuplicate::Discard | OnDuplicate::Reload => staging::retry_held(layout, client, ingestion),
        };
        if let Err(error) = retried {
            original.restore(&drop_directory)?;
            return Err(error.into());
        }
        failpoint::hit("fetchdata.held-returned");
        original.end(&drop_directory)?;
        self.remove_sentinel(&accepted.look);
        let (client, ingestion, file) = (client.as_str(), ingestion.to_string(), accepted.name());
        tracing::info!(client, ingestion, file, "what is held was dropped again, retried");
        Ok(Some(Ended::Gone))
    }

    async fn stage(
        self: &Arc<Self>,
        accepted: Arc<Accepted>,
        replaces: Option<Succession>,
    ) -> Result<Ended, TakeError> {
        let mut manifest = accepted.manifest();
        if let Some(times) = replaces {
            manifest.replace = true;
            (manifest.received_at, manifest.staged_at) = (times.received_at, times.staged_at);
        }
        let started = Instant::now();
        let (taker, source) = (Arc::clone(self), Arc::clone(&accepted));
        let (staging, manifest) = spawn_blocking(move || {
            let (path, closed) = (&source.look.path, source.closed);
            let is_still_closed = || is_still_closed(&taker.shared.watch, path, closed);
            let file = Source {
                path,
                file: &source.file,
                stamp: source.look.stamp,
                closed,
                is_still_closed: &is_still_closed,
            };
            let parts = taker.config.settings.fetchdata.staging_parts;
            stage::stage(&taker.config.layout, parts, &file, &mut manifest).map(|staging| (staging, manifest))
        })
        .await??;
        match staging {
            Staging::Replaced => return Ok(Ended::Busy),
            Staging::Twin => return Ok(Ended::Twin(manifest.ingestion)),
            Staging::Done => {}
        }
        accepted.log_timing(Stage::Stage, started.elapsed());
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
        self.remove_sentinel(&accepted.look);
        let started = Instant::now();
        self.shared.notifier.notify(&manifest).await;
        failpoint::hit("fetchdata.notified");
        accepted.log_timing(Stage::Notify, started.elapsed());
        Ok(Ended::Gone)
    }

    fn is_staged(&self, look: &Look, ingestion: IngestionId) -> bool {
        self.client_id(look)
            .is_some_and(|client| files::exists(&self.config.layout.staged(&client, ingestion)))
    }

    fn client_id(&self, look: &Look) -> Option<ClientId> {
        route::client(&self.config, &look.place, look.path.name()).ok().map(|client| client.id.clone())
    }

    fn lies_at(&self, path: &DropPath) -> bool {
        DropDirectory::open(&self.config.layout).is_ok_and(|drop_directory| drop_directory.exists(path))
    }

    /// Last of all: a file without its sentinel would never be taken.
    fn remove_sentinel(&self, look: &Look) {
        let Some(sentinel) = &look.sentinel else { return };
        let removed = DropDirectory::open(&self.config.layout)
            .and_then(|drop_directory| drop_directory.parent(sentinel)?.remove_file(sentinel.name()));
        if let Err(error) = removed
            && !error.is_not_found()
        {
            tracing::warn!(
                error = mysimbdp_model::error_chain(&error),
                "sentinel is left behind, the next file of its name will not wait for one"
            );
        }
    }

    fn on_duplicate(&self, client: &ClientId) -> OnDuplicate {
        self.config.client(client).map(|client| client.settings.on_duplicate).unwrap_or_default()
    }
}

/// The first run is named: it is the one that the sender knows of.
fn repeat_of(runs: &[Run]) -> String {
    let first = runs.iter().find(|run| run.state == FinalState::Ingested);
    first.map_or_else(String::new, |first| {
        let when = Timestamp::from_millisecond(first.finished_at.timestamp_millis()).unwrap_or_default();
        format!("same content as {:?}, ingested {when:.0}", first.file)
    })
}

fn put_aside(held: &Path, client: &ClientId, ingestion: IngestionId) -> Result<(), FileError> {
    let aside = held.with_file_name(format!("{ingestion}-damaged-{:016x}", random::number()));
    files::rename(held, &aside)?;
    let (client, directory) = (client.as_str(), aside.display());
    tracing::warn!(client, %directory, "held content is damaged, put aside for the same content dropped again");
    Ok(())
}

/// The right to work on a content, given back when dropped.
struct Claim<'a> {
    claims: &'a Mutex<HashSet<(ClientId, IngestionId)>>,
    key: (ClientId, IngestionId),
}

impl<'a> Claim<'a> {
    fn take(
        claims: &'a Mutex<HashSet<(ClientId, IngestionId)>>,
        client: &ClientId,
        ingestion: IngestionId,
    ) -> Option<Self> {
        let key = (client.clone(), ingestion);
        // Made only where the key was free: dropping one gives the key back.
        lock(claims).insert(key.clone()).then(|| Self { claims, key })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(self.claims).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
