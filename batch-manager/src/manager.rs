//! The reconcile loop: looks, plans, and carries out, until the shutdown.
//!
//! Level-triggered: a ring, the clock and the end of a task only make it look and plan sooner. What it knows beyond
//! what lies in staging are back-offs and running tasks, which a restart forgets without harm.

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
use mysimbdp_platform::sign::Sign;
use mysimbdp_spool::staging::{self, Attempt, Staged, StagingError};
use mysimbdp_telemetry::logging::{Bursts, Untold};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::attempt::{Attempted, attempt};
use crate::blocking::blocking;
use crate::context::Context;
use crate::finish::error::FinishError;
use crate::finish::{Finish, finish, hold};
use crate::job::{Job, Key};
use crate::listener::{Listener, Named, Notification};
use crate::observe::{Look, Work, look, look_for};
use crate::outbox::OutboxError;
use crate::plan::{Action, Policy, Served, plan};
use crate::queue::Queue;
use crate::retention;

/// Workers that had nothing to do for so long are ended.
const WORKER_IDLE_MAX: Duration = Duration::from_secs(60);
/// The archive's age counts in days.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How often a burst of like events that goes on is told.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// What a shutdown may take beyond the grace of the apps: the steps of a finish, whose store may be away.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);

/// One staged ingestion.
#[derive(Debug)]
struct Ingestion {
    job: Job,
    work: Arc<Work>,
    attempts: BTreeMap<u32, Attempt>,
    outcomes: BTreeMap<u32, Outcome>,
}

/// What has come to an end.
#[derive(Debug)]
enum Ended {
    Attempt { key: Key, unit: usize, attempted: Attempted },
    Finish { key: Key, result: Result<Finish, FinishError> },
    Hold { key: Key, reasons: Vec<Objection>, result: Result<(), FinishError> },
    Published(Result<(), OutboxError>),
    Swept,
}

/// Work that may wait: of an app of a client, before or after the app's own part.
type Waiter = (ClientId, String, Part);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Units,
    End,
}

/// What work waits for.
#[derive(Debug, Default)]
struct Waiting {
    /// How often it was tried since.
    tries: u64,
    reason: String,
}

#[derive(Debug)]
pub(crate) struct Manager {
    live: LiveConfig,
    /// What it runs on.
    config: Arc<Config>,
    context: Arc<Context>,
    listener: Listener,
    ingestions: BTreeMap<Key, Ingestion>,
    /// What of them a plan has to see.
    queue: Queue,
    served: Served,
    tasks: JoinSet<Ended>,
    /// Directories that could not be read.
    unreadable: BTreeSet<Key>,
    unreadable_told: Bursts<ClientId, (IngestionId, String)>,
    /// Files of which records were rejected, and how many.
    rejected_told: Bursts<ClientId, (IngestionId, u64)>,
    /// Clients of whom not everything has been taken up.
    behind: BTreeSet<ClientId>,
    /// Whose work waits for something.
    waiting: BTreeMap<Waiter, Waiting>,
    /// Why staging could not be looked at, which was said.
    blind: Option<String>,
    /// Says what waits to who asks for the status.
    sign: Sign,
    /// The outbox is being published, or was found not to be publishable until the next ring.
    publishing: bool,
    swept_at: Option<Instant>,
}

impl Manager {
    pub(crate) fn new(live: LiveConfig, context: Arc<Context>) -> Self {
        let config = live.running();
        Self {
            live,
            listener: Listener::new(Arc::clone(&config)),
            sign: Sign::new(&config.layout, crate::ROLE, "work"),
            blind: None,
            config,
            context,
            ingestions: BTreeMap::new(),
            queue: Queue::default(),
            served: Served::default(),
            tasks: JoinSet::new(),
            unreadable: BTreeSet::new(),
            unreadable_told: Bursts::new(TELL_EVERY),
            rejected_told: Bursts::new(TELL_EVERY),
            behind: BTreeSet::new(),
            waiting: BTreeMap::new(),
            publishing: false,
            swept_at: None,
        }
    }

    /// Runs until `shutdown` is true, or nobody can turn it any more.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), JoinError> {
        let mut looked_at = None;
        loop {
            let look_at =
                looked_at.map_or_else(Instant::now, |at| at + self.settings().scan_every.duration());
            let wake = self.start_planned();
            self.show_waiting();
            tokio::select! {
                () = told(&mut shutdown) => break,
                () = tokio::time::sleep_until(look_at.into()) => {
                    self.look_everywhere().await;
                    looked_at = Some(Instant::now());
                }
                config = self.live.offer() => self.take_over(config).await,
                notification = self.listener.next() => self.notified(notification).await,
                Some(ended) = self.tasks.join_next() => self.ended(ended?),
                () = std::future::ready(()), if !self.behind.is_empty() => self.catch_up().await,
                () = at(wake) => {}
            }
        }
        self.shut_down().await
    }

    fn settings(&self) -> &settings::BatchManager {
        &self.config.settings.batch_manager
    }

    /// Goes by another config. What waits is taken up by the new rules; see [`Job::may_change_rules`].
    async fn take_over(&mut self, config: Arc<Config>) {
        self.context.stores.take_over(Arc::clone(&config));
        self.listener.take_over(Arc::clone(&config));
        self.live.taken_over(&config);
        self.config = config;
        let waiting = |(key, found): (&Key, &Ingestion)| found.job.may_change_rules().then(|| key.clone());
        for key in self.ingestions.iter().filter_map(waiting).collect::<Vec<Key>>() {
            self.forget(&key);
        }
        // What was said of apps may be mended; it is said again if it is not.
        let has_app =
            |(client, app, _): &Waiter| self.config.client(client).is_some_and(|of| of.app(app).is_some());
        self.waiting.retain(|waiter, _| has_app(waiter));
        self.look_everywhere().await;
    }

    async fn notified(&mut self, notification: Notification) {
        match notification {
            Notification::Connected => self.look_everywhere().await,
            Notification::Clients(clients) => {
                for (client, named) in clients {
                    match named {
                        Named::All => _ = self.look_at(&client).await,
                        Named::These(these) => self.look_for(&client, these).await,
                    }
                }
            }
        }
    }

    async fn look_everywhere(&mut self) {
        self.listener.tell_invalid();
        let layout = self.config.layout.clone();
        match blocking(move || staging::clients(&layout)).await {
            Ok(clients) => {
                // Those whose directory is gone are looked at too.
                let known = self.ingestions.keys().map(|(client, _)| client.clone());
                let all: BTreeSet<ClientId> = clients.into_iter().chain(known).collect();
                let mut seen_all = true;
                for client in all {
                    seen_all &= self.look_at(&client).await;
                }
                if seen_all && self.blind.take().is_some() {
                    tracing::info!("staging can be looked at again");
                }
            }
            Err(error) => self.cannot_look(&error),
        }
        self.tell_bursts();
        self.publish_outbox();
        self.sweep();
    }

    /// Takes up some more of each client of whom there is more.
    async fn catch_up(&mut self) {
        for client in std::mem::take(&mut self.behind) {
            self.look_at(&client).await;
        }
    }

    /// False where it was not possible.
    async fn look_at(&mut self, client: &ClientId) -> bool {
        let of_client = |(of, ingestion): &Key| (of == client).then_some(*ingestion);
        let known: BTreeSet<IngestionId> = self.ingestions.keys().filter_map(of_client).collect();
        let unreadable: BTreeSet<IngestionId> = self.unreadable.iter().filter_map(of_client).collect();
        let (config, looked_at) = (Arc::clone(&self.config), client.clone());
        match blocking(move || look(&config, &looked_at, &known, &unreadable)).await {
            Ok(found) => {
                if found.more {
                    self.behind.insert(client.clone());
                }
                let broken: BTreeSet<IngestionId> =
                    found.unreadable.iter().map(|(ingestion, _)| *ingestion).collect();
                self.unreadable.retain(|(of, ingestion)| of != client || broken.contains(ingestion));
                self.take_up(client, found);
                true
            }
            Err(error) => {
                self.cannot_look(&error);
                false
            }
        }
    }

    /// Whatever else there is waits for the next look at everything.
    async fn look_for(&mut self, client: &ClientId, mut sought: BTreeSet<IngestionId>) {
        sought.retain(|ingestion| !self.ingestions.contains_key(&(client.clone(), *ingestion)));
        let (config, looked_at) = (Arc::clone(&self.config), client.clone());
        match blocking(move || look_for(&config, &looked_at, sought)).await {
            Ok(found) => self.take_up(client, found),
            Err(error) => self.cannot_look(&error),
        }
    }

    /// Said once, until a whole look has been possible again.
    fn cannot_look(&mut self, error: &StagingError) {
        let error = error_chain(error);
        if self.blind.is_none() {
            tracing::warn!(error, "staging cannot be looked at, it is tried again");
        }
        self.blind = Some(error);
    }

    fn show_waiting(&mut self) {
        let waits = |((client, app, _), waiting): (&Waiter, &Waiting)| {
            format!("work of app {app} of {client} waits: {}", waiting.reason)
        };
        let blind = self.blind.iter().map(|error| format!("staging cannot be looked at: {error}"));
        let text = blind.chain(self.waiting.iter().map(waits)).collect::<Vec<_>>().join("; ");
        self.sign.show((!text.is_empty()).then_some(text));
    }

    fn tell_bursts(&mut self) {
        let now = Instant::now();
        for (client, Untold { count, last: (ingestion, error) }) in self.unreadable_told.due(now) {
            tracing::error!(%client, count, last = %ingestion, error, "more staged files are left where they are");
        }
        for (client, Untold { count, last: (ingestion, rejected) }) in self.rejected_told.due(now) {
            tracing::warn!(%client, count, last = %ingestion, rejected, "records of more files were rejected");
        }
    }

    fn take_up(&mut self, client: &ClientId, found: Look) {
        for ingestion in found.gone {
            let key = (client.clone(), ingestion);
            // Tasks that still work on it find out by themselves.
            let idle = |found: &Ingestion| found.job.running() == 0 && !found.job.is_ending();
            if self.ingestions.get(&key).is_some_and(idle) {
                self.forget(&key);
            }
        }
        for (ingestion, error) in found.unreadable {
            if !self.unreadable.insert((client.clone(), ingestion)) {
                continue;
            }
            let event = (ingestion, error_chain(&error));
            if let Some((ingestion, error)) =
                self.unreadable_told.count(client.clone(), event, Instant::now())
            {
                tracing::error!(%client, %ingestion, error, "a staged file is left where it is");
            }
        }
        for (staged, work) in found.new {
            let job = work.job(&staged);
            let Staged { outcomes, attempts, manifest, .. } = staged;
            let key = (manifest.client, manifest.ingestion);
            self.queue.add(&key, &job);
            self.ingestions.insert(key, Ingestion { job, work: Arc::new(work), attempts, outcomes });
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(found) = self.ingestions.remove(key) {
            self.queue.remove(key, &found.job);
        }
    }

    /// Plans until there is nothing to start, and starts it. Returns when the next back-off ends.
    fn start_planned(&mut self) -> Option<Instant> {
        let policy = Policy { units_in_parallel: self.settings().units_in_parallel as usize };
        loop {
            let now = Instant::now();
            let in_sight = self.queue.in_sight(policy.units_in_parallel);
            let jobs: Vec<(&ClientId, &Job)> =
                in_sight.filter_map(|key| Some((&key.0, &self.ingestions.get(key)?.job))).collect();
            let actions = plan(jobs.iter().copied(), policy, &mut self.served, now);
            if actions.is_empty() {
                // What is over already waits for a slot, not for the clock.
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
                    let attempted = Box::pin(attempt(&context, &work, unit, before)).await;
                    Ended::Attempt { key, unit, attempted }
                });
            }
            Action::Finish { .. } => {
                found.job.finish();
                let outcomes = found.outcomes_of_units();
                self.tasks.spawn(async move {
                    let result = finish(&context, &work, &outcomes).await;
                    Ended::Finish { key, result }
                });
            }
            Action::Hold { .. } => {
                let reasons = found.job.hold();
                let outcomes = found.outcomes_of_units();
                self.tasks.spawn(async move {
                    let result = hold(&context, &work, reasons.clone(), &outcomes).await;
                    Ended::Hold { key, reasons, result }
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
        self.tasks
            .spawn(async move { Ended::Published(context.outbox.publish(&link, &context.stores).await) });
    }

    /// Ends workers that nobody needs, and removes files whose time is up.
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
            Ended::Swept
        });
    }

    /// Nothing is started any more, and what runs is stopped.
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
            tracing::warn!("some work did not end in time and is cut off, the next start does it again");
            Ok(())
        });
        // Children of what is cut off are killed as they are dropped.
        self.tasks.shutdown().await;
        self.context.workers.end_all().await;
        self.listener.close().await;
        self.context.stores.close().await;
        joined
    }
}

impl Ingestion {
    /// Those of this config's units, not of another's.
    fn outcomes_of_units(&self) -> Vec<Outcome> {
        let is_done_by = |outcome: &&Outcome| {
            self.work.units.iter().any(|unit| unit.is_done_by(outcome, &self.work.manifest))
        };
        self.outcomes.values().filter(is_done_by).cloned().collect()
    }
}

/// Waits until `shutdown` is true, or nobody can turn it any more.
async fn told(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
