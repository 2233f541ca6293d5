//! Marks durable numbers, and publishes receipts that tell the sources which numbers are received.
//!
//! This runs beside the messages, which never wait for it. Durable numbers collect here; one cycle at a time
//!
//! 1. marks them in the sequence state, which all instances share;
//! 2. records the numbers that their source has lost;
//! 3. reads how far each source is received, over all instances, and publishes its receipt.
//!
//! While the store or the broker is unavailable, cycles wait. Every step may be repeated. Numbers that are forgotten
//! here (the process was killed, or there are too many sources) are sent again by their source, and the duplicates lead
//! to a new receipt.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_broker::Publish;
use mysimbdp_broker::consumer::Consumer;
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::Source;
use mysimbdp_store::gaps::Gaps;
use mysimbdp_store::sequences::{Progress, Sequences};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::StreamAppSettings;
use super::cycle::{Step, mark_and_read, send};
use super::durable::DurableBySource;
use super::wait::wait_until;

/// The shortest time between two cycles: what arrives in between is reported together.
const CYCLE_EVERY: Duration = Duration::from_millis(50);

/// The wait before a new receipt is made, if the broker has not accepted the last one.
const SEND_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The most sources that are tracked at a time; if there are more, those that were silent longest are forgotten.
const SOURCES_MAX: usize = 10_000;

/// The receipts of an instance.
#[derive(Debug)]
pub(crate) struct Receipts {
    sequences: Sequences,
    consumer: Arc<Consumer>,
    settings: StreamAppSettings,
    waiting: DurableBySource,
    sources: HashMap<Source, TrackedSource>,
    /// At most one cycle.
    cycle: JoinSet<Step>,
    next_cycle_at: Instant,
    has_warned: bool,
}

/// What an instance knows of a source.
#[derive(Debug)]
struct TrackedSource {
    through: u64,
    gaps: Gaps,
    /// When its receipt is due even if no message arrives.
    check_at: Option<Instant>,
    last_seen_at: Instant,
}

impl Receipts {
    pub(crate) fn new(settings: &StreamAppSettings, sequences: Sequences, consumer: Arc<Consumer>) -> Self {
        Self {
            sequences,
            consumer,
            settings: settings.clone(),
            waiting: BTreeMap::new(),
            sources: HashMap::new(),
            cycle: JoinSet::new(),
            next_cycle_at: Instant::now(),
            has_warned: false,
        }
    }

    /// Adds the numbers of a durable batch.
    pub(crate) fn add(&mut self, durable: DurableBySource) {
        let mut forgotten = false;
        for (source, durable) in durable {
            if self.waiting.len() >= SOURCES_MAX && !self.waiting.contains_key(&source) {
                forgotten = true;
                continue;
            }
            let waiting = self.waiting.entry(source).or_default();
            forgotten |= waiting.add(&durable);
        }
        if forgotten && !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(
                "too many sources or gaps wait for their receipts: some sources will be requested to send again"
            );
        }
    }

    /// Runs the next step when it is due. The future may be dropped while it waits.
    pub(crate) async fn step(&mut self) {
        let due = self.due();
        tokio::select! {
            Some(ended) = self.cycle.join_next() => self.continue_cycle(ended),
            () = wait_until(due), if due.is_some() => self.begin_cycle(),
            else => std::future::pending().await,
        }
    }

    /// Marks the numbers that are durable by now and publishes their receipts, for at most `limit`.
    pub(crate) async fn finish(&mut self, limit: Duration) {
        let finished = timeout(limit, async {
            while !self.is_idle() {
                self.next_cycle_at = Instant::now();
                self.step().await;
            }
        })
        .await;
        if finished.is_err() {
            tracing::warn!(
                "store or broker is unavailable: the last receipts are sent when their messages are delivered again"
            );
        }
        self.cycle.shutdown().await;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.cycle.is_empty()
    }

    /// Returns when the next cycle begins.
    fn due(&self) -> Option<Instant> {
        if !self.cycle.is_empty() {
            return None;
        }
        if !self.waiting.is_empty() {
            return Some(self.next_cycle_at);
        }
        let checks = self.sources.values().filter_map(|tracked| tracked.check_at);
        checks.min().map(|at| at.max(self.next_cycle_at))
    }

    fn begin_cycle(&mut self) {
        let now = Instant::now();
        self.next_cycle_at = now + CYCLE_EVERY;
        let mut durable = std::mem::take(&mut self.waiting);
        for (source, tracked) in &mut self.sources {
            if tracked.check_at.is_some_and(|at| at <= now) {
                tracked.check_at = None;
                durable.entry(source.clone()).or_default();
            }
        }
        let known =
            durable.keys().map(|source| self.sources.get(source).map_or(0, |tracked| tracked.through));
        let known: Vec<u64> = known.collect();
        self.cycle.spawn(mark_and_read(self.sequences.clone(), durable, known));
    }

    fn continue_cycle(&mut self, ended: Result<Step, JoinError>) {
        match ended {
            Ok(Step::ProgressRead(progress)) => self.publish(progress),
            Ok(Step::Published(unsent)) => {
                let again_at = Instant::now() + SEND_AGAIN_AFTER;
                for source in unsent {
                    if let Some(tracked) = self.sources.get_mut(&source) {
                        tracked.check_at = Some(tracked.check_at.map_or(again_at, |at| at.min(again_at)));
                    }
                }
            }
            // The sources send again every number without a receipt.
            Err(error) => tracing::error!(%error, "receipt cycle failed"),
        }
    }

    fn publish(&mut self, progress: Vec<(Source, Progress)>) {
        let Some(topic) = self.settings.receipt_topic.clone() else { return };
        let now = Instant::now();
        let receipts: Vec<(Source, Publish)> = progress
            .into_iter()
            .map(|(source, progress)| {
                let missing = self.update(&source, &progress, now);
                let receipt = progress.receipt(self.settings.client.clone(), &source, &missing);
                let payload = serde_json::to_vec(&receipt).expect("all keys of a receipt are strings");
                let publish =
                    Publish { retain: true, ..Publish::new(format!("{topic}/{}", source.name), payload) };
                (source, publish)
            })
            .collect();
        self.cycle.spawn(send(Arc::clone(&self.consumer), receipts));
    }

    /// Updates the progress of the source, and returns the numbers to request.
    fn update(&mut self, source: &Source, progress: &Progress, now: Instant) -> Ranges {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(source) {
            let silent = self.sources.iter().min_by_key(|(_, tracked)| tracked.last_seen_at);
            if let Some(silent) = silent.map(|(source, _)| source.clone()) {
                self.sources.remove(&silent);
            }
        }
        let delay = self.settings.gap_delay;
        let tracked = self.sources.entry(source.clone()).or_insert_with(|| TrackedSource {
            through: 0,
            gaps: Gaps::default(),
            check_at: None,
            last_seen_at: now,
        });
        let overdue = tracked.gaps.overdue(progress, delay, now);
        tracked.through = progress.through;
        tracked.check_at = tracked.gaps.next_check_at(delay);
        tracked.last_seen_at = now;
        overdue
    }
}
