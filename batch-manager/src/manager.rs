//! The reconcile loop: scans, plans, and carries out the plan, until the shutdown.
//!
//! Level-triggered: a staged notification, the clock and the end of a task only make it scan and plan sooner. What it
//! keeps besides (back-offs, running tasks, turns, what was logged) a restart loses without harm.

mod ended;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_config::live::LiveConfig;
use mysimbdp_config::{Config, settings};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::outcome::Outcome;
use mysimbdp_model::reason::Objection;
use mysimbdp_platform::notice::NoticeFile;
use mysimbdp_spool::staging::{self, Attempt, StagedIngestion, StagingError};
use mysimbdp_telemetry::logging::{Bursts, Unreported};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::arrivals::{self, ArrivalWatch, Judged};
use crate::attempt::{AttemptEnd, make_attempt};
use crate::blocking::blocking;
use crate::context::Context;
use crate::finish::error::FinishError;
use crate::finish::{Finish, finish, hold};
use crate::job::{IngestionKey, Job};
use crate::listener::{Listener, Notification, ToScan};
use crate::observe::{Scan, Work, scan, scan_requested};
use crate::outbox::OutboxError;
use crate::plan::{Action, Policy, Served, plan};
use crate::queue::Queue;
use crate::{metrics, retention};

/// Workers that have been idle for this long are ended.
const WORKER_IDLE_MAX: Duration = Duration::from_secs(60);
/// Often enough, as retention is counted in days.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How often a burst of equal events is logged while it continues.
const LOG_BURSTS_EVERY: Duration = Duration::from_secs(60);
/// What a shutdown may take beyond the grace of the apps: the steps of a finish, whose store may be unavailable.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);

/// One staged ingestion: the state of its work, and what is on disk about it.
#[derive(Debug)]
struct Ingestion {
    job: Job,
    work: Arc<Work>,
    attempts: BTreeMap<u32, Attempt>,
    outcomes: BTreeMap<u32, Outcome>,
}

/// A task that has ended, with its result.
#[derive(Debug)]
enum TaskResult {
    Attempt { key: IngestionKey, unit: usize, attempted: AttemptEnd },
    Finish { key: IngestionKey, result: Result<Finish, FinishError> },
    Hold { key: IngestionKey, reasons: Vec<Objection>, result: Result<(), FinishError> },
    Published(Result<(), OutboxError>),
    Swept,
    ArrivalsJudged(Judged),
}

/// Identifies work that may wait: that of an app of a client, before or after all units are done.
type WaitKey = (ClientId, String, Part);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Units,
    End,
}

/// Work that waits for something unavailable.
#[derive(Debug, Default)]
struct Waiting {
    /// How often it has been tried since it began to wait.
    tries: u64,
    reason: String,
}

#[derive(Debug)]
pub(crate) struct Manager {
    live: LiveConfig,
    /// The config in use.
    config: Arc<Config>,
    context: Arc<Context>,
    listener: Listener,
    ingestions: BTreeMap<IngestionKey, Ingestion>,
    /// Selects those of them that a plan has to consider.
    queue: Queue,
    served: Served,
    tasks: JoinSet<TaskResult>,
    /// Ingestions that are left where they are, unreadable or without a client or app in the config; they have been
    /// logged.
    left_in_place: BTreeSet<IngestionKey>,
    left_in_place_bursts: Bursts<ClientId, (IngestionId, String)>,
    /// Files with rejected records, and how many.
    rejected_bursts: Bursts<ClientId, (IngestionId, u64)>,
    /// Clients with new ingestions that have not been read yet.
    behind: BTreeSet<ClientId>,
    /// Ingestions that were announced while their run was ending: their content has been staged again.
    staged_again: BTreeSet<IngestionKey>,
    /// The work that waits, and why.
    waiting: BTreeMap<WaitKey, Waiting>,
    /// Why staging cannot be scanned; it has been logged.
    scan_error: Option<String>,
    /// Shows in the status what waits.
    status_file: NoticeFile,
    /// A task is publishing the outbox.
    publishing: bool,
    swept_at: Option<Instant>,
    arrivals: ArrivalWatch,
}

impl Manager {
    pub(crate) fn new(live: LiveConfig, context: Arc<Context>) -> Self {
        let config = live.running();
        Self {
            live,
            listener: Listener::new(Arc::clone(&config)),
            status_file: NoticeFile::new(&config.layout, crate::PROCESS_NAME, "work"),
            scan_error: None,
            arrivals: ArrivalWatch::new(&config),
            config,
            context,
            ingestions: BTreeMap::new(),
            queue: Queue::default(),
            served: Served::default(),
            tasks: JoinSet::new(),
            left_in_place: BTreeSet::new(),
            left_in_place_bursts: Bursts::new(LOG_BURSTS_EVERY),
            rejected_bursts: Bursts::new(LOG_BURSTS_EVERY),
            behind: BTreeSet::new(),
            staged_again: BTreeSet::new(),
            waiting: BTreeMap::new(),
            publishing: false,
            swept_at: None,
        }
    }

    /// Runs until `shutdown` is true or its sender is dropped.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), JoinError> {
        let (mut scanned_at, mut measured_at) = (None, None);
        metrics::configured(&self.config);
        loop {
            let scan_at =
                scanned_at.map_or_else(Instant::now, |at| at + self.settings().scan_every.duration());
            let wake = self.start_planned();
            self.show_waiting();
            let measure_at = measured_at.map_or_else(Instant::now, |at| at + metrics::MEASURE_EVERY);
            tokio::select! {
                () = shutdown_requested(&mut shutdown) => break,
                () = tokio::time::sleep_until(scan_at.into()) => {
                    self.scan_all().await;
                    scanned_at = Some(Instant::now());
                }
                config = self.live.offer() => self.take_over(config).await,
                notification = self.listener.next() => self.notified(notification).await,
                Some(ended) = self.tasks.join_next() => self.ended(ended?),
                () = std::future::ready(()), if !self.behind.is_empty() => self.catch_up().await,
                () = tokio::time::sleep_until(measure_at.into()) => {
                    self.measure();
                    measured_at = Some(Instant::now());
                }
                () = sleep_until(wake) => {}
                () = sleep_until(self.arrivals.wake_at()) => self.judge_arrivals(),
            }
        }
        self.shut_down().await
    }

    fn settings(&self) -> &settings::BatchManager {
        &self.config.settings.batch_manager
    }

    /// Uses another config. It applies to the work that waits too; see [`Job::may_take_config`].
    async fn take_over(&mut self, config: Arc<Config>) {
        self.context.stores.take_over(Arc::clone(&config));
        self.listener.take_over(Arc::clone(&config));
        self.live.set_running(&config);
        metrics::configured(&config);
        self.arrivals.configure(&config);
        self.config = config;
        let waiting =
            |(key, found): (&IngestionKey, &Ingestion)| found.job.may_take_config().then(|| key.clone());
        for key in self.ingestions.iter().filter_map(waiting).collect::<Vec<IngestionKey>>() {
            self.forget(&key);
        }
        // Work of an app that this config does not have no longer waits.
        let has_app =
            |(client, app, _): &WaitKey| self.config.client(client).is_some_and(|of| of.app(app).is_some());
        self.waiting.retain(|waiter, _| has_app(waiter));
        self.scan_all().await;
    }

    async fn notified(&mut self, notification: Notification) {
        match notification {
            Notification::Connected => self.scan_all().await,
            Notification::Clients(clients) => {
                for (client, to_scan) in clients {
                    match to_scan {
                        ToScan::All => _ = self.scan_client(&client).await,
                        ToScan::Only(only) => self.scan_requested(&client, only).await,
                    }
                }
            }
        }
    }

    async fn scan_all(&mut self) {
        self.listener.log_invalid();
        let layout = self.config.layout.clone();
        match blocking(move || staging::clients(&layout)).await {
            Ok(clients) => {
                // Clients whose directory was removed are scanned too.
                let known = self.ingestions.keys().map(|(client, _)| client.clone());
                let all: BTreeSet<ClientId> = clients.into_iter().chain(known).collect();
                let mut all_scanned = true;
                for client in all {
                    all_scanned &= self.scan_client(&client).await;
                }
                if all_scanned && self.scan_error.take().is_some() {
                    tracing::info!("staging can be scanned again");
                }
            }
            Err(error) => self.scan_failed(&error),
        }
        self.log_bursts();
        self.publish_outbox();
        self.sweep();
    }

    /// Reads the next new ingestions of each client that has more of them.
    async fn catch_up(&mut self) {
        for client in std::mem::take(&mut self.behind) {
            self.scan_client(&client).await;
        }
    }

    /// Returns false if the scan has failed.
    async fn scan_client(&mut self, client: &ClientId) -> bool {
        let of_client = |(of, ingestion): &IngestionKey| (of == client).then_some(*ingestion);
        let known: BTreeSet<IngestionId> = self.ingestions.keys().filter_map(of_client).collect();
        let left_in_place: BTreeSet<IngestionId> = self.left_in_place.iter().filter_map(of_client).collect();
        let (config, id) = (Arc::clone(&self.config), client.clone());
        match blocking(move || scan(&config, &id, &known, &left_in_place)).await {
            Ok(found) => {
                if found.more {
                    self.behind.insert(client.clone());
                }
                let broken: BTreeSet<IngestionId> =
                    found.left_in_place.iter().map(|(ingestion, _)| *ingestion).collect();
                self.left_in_place.retain(|(of, ingestion)| of != client || broken.contains(ingestion));
                self.apply_scan(client, found);
                true
            }
            Err(error) => {
                self.scan_failed(&error);
                false
            }
        }
    }

    /// Scans only these ingestions; all others wait for the next scan of the client.
    async fn scan_requested(&mut self, client: &ClientId, mut requested: BTreeSet<IngestionId>) {
        requested.retain(|ingestion| {
            let key = (client.clone(), *ingestion);
            let known = self.ingestions.get(&key);
            if known.is_some_and(|known| known.job.is_ending()) {
                self.staged_again.insert(key);
            }
            known.is_none()
        });
        let (config, id) = (Arc::clone(&self.config), client.clone());
        match blocking(move || scan_requested(&config, &id, requested)).await {
            Ok(found) => self.apply_scan(client, found),
            Err(error) => self.scan_failed(&error),
        }
    }

    /// Logs only the first failure until all clients could be scanned again.
    fn scan_failed(&mut self, error: &StagingError) {
        let error = error_chain(error);
        if self.scan_error.is_none() {
            tracing::warn!(error, "staging cannot be scanned, it will be tried again");
        }
        self.scan_error = Some(error);
    }

    fn measure(&self) {
        metrics::queue(&self.config, self.ingestions.values().map(|found| &found.work.manifest));
    }

    fn show_waiting(&mut self) {
        let waits = |((client, app, _), waiting): (&WaitKey, &Waiting)| {
            format!("work of app {app} of {client} waits: {}", waiting.reason)
        };
        let scan_error = self.scan_error.iter().map(|error| format!("staging cannot be scanned: {error}"));
        let arrivals =
            self.arrivals.error().map(|error| format!("arrival contracts cannot be judged: {error}"));
        let text =
            scan_error.chain(arrivals).chain(self.waiting.iter().map(waits)).collect::<Vec<_>>().join("; ");
        self.status_file.show((!text.is_empty()).then_some(text));
    }

    fn log_bursts(&mut self) {
        let now = Instant::now();
        for (client, Unreported { count, last: (ingestion, error) }) in self.left_in_place_bursts.due(now) {
            tracing::error!(%client, count, last = %ingestion, error, "left more staged files in place");
        }
        for (client, Unreported { count, last: (ingestion, rejected) }) in self.rejected_bursts.due(now) {
            tracing::warn!(%client, count, last = %ingestion, rejected, "records of more files were rejected");
        }
    }

    fn apply_scan(&mut self, client: &ClientId, found: Scan) {
        for ingestion in found.removed {
            let key = (client.clone(), ingestion);
            // A task that still works on it finds out by itself.
            let idle = |found: &Ingestion| found.job.running() == 0 && !found.job.is_ending();
            if self.ingestions.get(&key).is_some_and(idle) {
                self.forget(&key);
            }
        }
        for (ingestion, error) in found.left_in_place {
            if !self.left_in_place.insert((client.clone(), ingestion)) {
                continue;
            }
            let event = (ingestion, error_chain(&error));
            if let Some((ingestion, error)) =
                self.left_in_place_bursts.count(client.clone(), event, Instant::now())
            {
                tracing::error!(%client, %ingestion, error, "left a staged file in place");
            }
        }
        for (staged, work) in found.new {
            let job = work.job(&staged);
            let StagedIngestion { outcomes, attempts, manifest, .. } = staged;
            self.arrivals.file_changed(&self.config, &manifest.client, &manifest.file);
            let key = (manifest.client, manifest.ingestion);
            self.queue.add(&key, &job);
            self.ingestions.insert(key, Ingestion { job, work: Arc::new(work), attempts, outcomes });
        }
    }

    fn forget(&mut self, key: &IngestionKey) {
        if let Some(found) = self.ingestions.remove(key) {
            self.queue.remove(key, &found.job);
        }
        if self.staged_again.remove(key) {
            self.behind.insert(key.0.clone());
        }
    }

    /// Starts what the plan says until there is nothing more to start. Returns when the next back-off ends.
    fn start_planned(&mut self) -> Option<Instant> {
        let policy = Policy { units_in_parallel: self.settings().units_in_parallel as usize };
        loop {
            let now = Instant::now();
            let plannable = self.queue.plannable(policy.units_in_parallel);
            let jobs: Vec<(&ClientId, &Job)> =
                plannable.filter_map(|key| Some((&key.0, &self.ingestions.get(key)?.job))).collect();
            let actions = plan(jobs.iter().copied(), policy, &mut self.served, now);
            if actions.is_empty() {
                // A job whose back-off is over waits for a slot, not for the clock.
                return jobs.iter().filter_map(|(_, job)| job.wakes_at(now)).min();
            }
            for action in actions {
                self.start(action);
            }
        }
    }

    fn start(&mut self, action: Action) {
        let (Action::Start { client, ingestion, .. }
        | Action::Finish { client, ingestion }
        | Action::Hold { client, ingestion }) = &action;
        let key = (client.clone(), *ingestion);
        let Some(found) = self.ingestions.get_mut(&key) else { return };
        self.queue.begin(&key, &found.job);
        let (context, work) = (Arc::clone(&self.context), Arc::clone(&found.work));
        match action {
            Action::Start { unit, .. } => {
                found.job.start(unit);
                let before = found.attempts.get(&work.units[unit].index).cloned().unwrap_or_default();
                self.tasks.spawn(async move {
                    let attempted = Box::pin(make_attempt(&context, &work, unit, before)).await;
                    TaskResult::Attempt { key, unit, attempted }
                });
            }
            Action::Finish { .. } => {
                found.job.begin_finish();
                let outcomes = found.outcomes_of_units();
                self.tasks.spawn(async move {
                    let result = finish(&context, &work, &outcomes).await;
                    TaskResult::Finish { key, result }
                });
            }
            Action::Hold { .. } => {
                let reasons = found.job.begin_hold();
                let outcomes = found.outcomes_of_units();
                self.tasks.spawn(async move {
                    let result = hold(&context, &work, reasons.clone(), &outcomes).await;
                    TaskResult::Hold { key, reasons, result }
                });
            }
        }
    }

    fn publish_outbox(&mut self) {
        let Some(link) = self.listener.link().cloned() else { return };
        if std::mem::replace(&mut self.publishing, true) {
            return;
        }
        let context = Arc::clone(&self.context);
        self.tasks.spawn(async move {
            TaskResult::Published(context.outbox.publish(&link, &context.stores).await)
        });
    }

    fn judge_arrivals(&mut self) {
        let Some((judge, changed)) = self.arrivals.begin() else { return };
        let has_contracts =
            |client: &ClientId| self.config.client(client).is_some_and(|of| !of.contracts.is_empty());
        let staged = self.ingestions.iter().filter(|((client, _), _)| has_contracts(client));
        let staged = staged.map(|(key, found)| (key.clone(), Arc::clone(&found.work))).collect();
        let (context, config) = (Arc::clone(&self.context), Arc::clone(&self.config));
        self.tasks.spawn(async move {
            let judged = Box::pin(arrivals::judge(judge, context, config, staged, changed)).await;
            TaskResult::ArrivalsJudged(judged)
        });
    }

    /// Ends idle workers, and removes expired files.
    fn sweep(&mut self) {
        let sweep_files = self.swept_at.is_none_or(|swept_at| swept_at.elapsed() >= SWEEP_EVERY);
        if sweep_files {
            self.swept_at = Some(Instant::now());
        }
        let (context, config) = (Arc::clone(&self.context), Arc::clone(&self.config));
        self.tasks.spawn(async move {
            context.workers.end_idle(WORKER_IDLE_MAX).await;
            if sweep_files {
                retention::sweep(&config, &context.stores).await;
            }
            TaskResult::Swept
        });
    }

    /// Starts nothing more, and stops what runs.
    async fn shut_down(mut self) -> Result<(), JoinError> {
        self.context.stop.send_replace(true);
        let deadline = self.settings().stop_grace.duration() + SHUTDOWN_MAX;
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.ended(ended?);
            }
            Ok(())
        };
        let joined = tokio::time::timeout(deadline, all).await.unwrap_or_else(|_| {
            tracing::warn!("some work did not end in time and was aborted, the next start repeats it");
            Ok(())
        });
        // The child processes of aborted tasks are killed when they are dropped.
        self.tasks.shutdown().await;
        self.context.workers.end_all().await;
        self.listener.close().await;
        self.context.stores.close().await;
        joined
    }
}

impl Ingestion {
    /// Returns the outcomes of the units of this config; those of another config's units do not count.
    fn outcomes_of_units(&self) -> Vec<Outcome> {
        let is_done_by = |outcome: &&Outcome| {
            self.work.units.iter().any(|unit| unit.is_done_by(outcome, &self.work.manifest))
        };
        self.outcomes.values().filter(is_done_by).cloned().collect()
    }
}

/// Waits until `shutdown` is true or its sender is dropped.
async fn shutdown_requested(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
