//! Judges arrival contracts: whether the files that are expected have come.
//!
//! 1. [`ArrivalWatch`] decides when to judge: at due times, when a file that is expected has been staged or has ended, and after
//!    `scan_every` anyway, as files that wait or are discarded are not announced;
//! 2. [`judge`] goes through all contracts; [`gather`] finds the files that have arrived on disk, and [`files`] adds those in the
//!    history;
//! 3. `mysimbdp_model::arrival` decides, without effects;
//! 4. [`open`] records what has changed, and then [`report`] logs and counts it: at most once, as a crash in between leaves it
//!    recorded.

mod files;
mod gather;
mod judge;
mod open;
mod record;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_platform::clock;

pub(crate) use gather::StagedFiles;
pub(crate) use judge::{ArrivalJudge, JudgeError};

/// Files that end at the same time are judged together.
const PAUSE: Duration = Duration::from_secs(1);
/// Judging takes at most this part of the time, however much there is to read.
const SHARE: u32 = 10;

/// Decides when arrival contracts are judged.
#[derive(Debug)]
pub(crate) struct ArrivalWatch {
    /// `None` while a task judges.
    judge: Option<ArrivalJudge>,
    /// The clients of which an expected file was staged or has ended.
    changed: BTreeSet<ClientId>,
    /// `None` if there are no contracts.
    wake_at: Option<Instant>,
    /// Earlier than that nothing is judged again.
    not_before: Instant,
    began_at: Instant,
    /// Why contracts cannot be judged; it has been logged.
    error: Option<String>,
}

/// What a task has judged, to be handed back to [`ArrivalWatch::ended`].
#[derive(Debug)]
pub(crate) struct Judged {
    judge: ArrivalJudge,
    /// The next due time of all contracts.
    result: Result<Option<Timestamp>, JudgeError>,
}

impl ArrivalWatch {
    pub(crate) fn new(config: &Config) -> Self {
        let mut watch = Self {
            judge: Some(ArrivalJudge::default()),
            changed: BTreeSet::new(),
            wake_at: None,
            not_before: Instant::now(),
            began_at: Instant::now(),
            error: None,
        };
        watch.configure(config);
        watch
    }

    /// Uses another config.
    pub(crate) fn configure(&mut self, config: &Config) {
        let has_contracts = config.clients.values().any(|client| !client.contracts.is_empty());
        // Contracts that were removed are forgotten.
        let must_forget = self.judge.as_ref().is_none_or(ArrivalJudge::has_contracts);
        self.wake_at = (has_contracts || must_forget).then(Instant::now);
    }

    /// A file of a client was staged or has ended.
    pub(crate) fn file_changed(&mut self, config: &Config, client: &ClientId, file: &str) {
        let Some(of) = config.client(client) else { return };
        if of.contracts.iter().any(|contract| of.expects(contract, file)) {
            self.changed.insert(client.clone());
            self.wake_at = Some(Instant::now());
        }
    }

    /// When the contracts are to be judged.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.judge.as_ref().and(self.wake_at).map(|at| at.max(self.not_before))
    }

    /// Begins to judge. Returns the judge, and the clients of which something has changed.
    pub(crate) fn begin(&mut self) -> Option<(ArrivalJudge, BTreeSet<ClientId>)> {
        let judge = self.judge.take()?;
        self.began_at = Instant::now();
        self.wake_at = None;
        Some((judge, std::mem::take(&mut self.changed)))
    }

    pub(crate) fn ended(&mut self, Judged { judge, result }: Judged, scan_every: Duration) {
        let now = Instant::now();
        self.not_before = now + PAUSE.max(self.began_at.elapsed() * SHARE);
        let next_due = match result {
            Ok(next_due) => {
                if self.error.take().is_some() {
                    tracing::info!("arrival contracts can be judged again");
                }
                next_due
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        };
        let until_due =
            next_due.map(|due| Duration::try_from(due.duration_since(clock::now())).unwrap_or_default());
        let tick = (judge.has_contracts() || self.error.is_some()).then_some(scan_every);
        let again = tick.map(|tick| now + until_due.map_or(tick, |until_due| until_due.min(tick)));
        self.wake_at = self.wake_at.into_iter().chain(again).min();
        self.judge = Some(judge);
    }

    /// Logs only the first failure until they can be judged again.
    fn failed(&mut self, error: &JudgeError) {
        let error = error_chain(error);
        if self.error.is_none() {
            tracing::warn!(error, "arrival contracts cannot be judged, it will be tried again");
        }
        self.error = Some(error);
    }

    /// Why contracts cannot be judged at the moment.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

/// Judges the contracts once.
pub(crate) async fn judge(
    mut judge: ArrivalJudge,
    context: Arc<crate::context::Context>,
    config: Arc<Config>,
    staged: StagedFiles,
    changed: BTreeSet<ClientId>,
) -> Judged {
    let result = judge.judge(&context.stores, &config, Arc::new(staged), &changed).await;
    if result.is_err() {
        judge.read_history_again();
    }
    Judged { judge, result }
}
