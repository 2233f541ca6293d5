//! Marks what is durable, and tells the sources how far they are received.
//!
//! Off the way of the messages: nothing waits for it. What is durable collects here; one round at a time
//!
//! 1. marks it in the sequence state, which all instances share;
//! 2. records numbers that are gone as lost;
//! 3. reads how far each source is received, over all instances, and publishes its receipt.
//!
//! While the store or the broker is away, rounds wait. All of it may be repeated, and what is forgotten here (the process
//! was killed, too many sources) the source sends again: that it is there already makes a fresh receipt.

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

use super::Settings;
use super::durable::DurableBySource;
use super::round::{Step, send, settle};
use super::wait::at;

/// Rounds follow each other no faster: what comes in between is told together.
const ROUND_EVERY: Duration = Duration::from_millis(50);

/// A receipt that the broker has not taken is made anew after this long.
const SEND_AGAIN: Duration = Duration::from_secs(1);

/// Sources that are looked after at a time; of more than these, those that were silent longest are forgotten.
const SOURCES_MAX: usize = 10_000;

/// The receipts of an instance.
#[derive(Debug)]
pub(crate) struct Receipts {
    sequences: Sequences,
    consumer: Arc<Consumer>,
    settings: Settings,
    waiting: DurableBySource,
    sources: HashMap<Source, Watched>,
    /// At most one.
    round: JoinSet<Step>,
    next_round_at: Instant,
    has_warned: bool,
}

/// A source that is looked after.
#[derive(Debug)]
struct Watched {
    through: u64,
    gaps: Gaps,
    /// When its receipt is due even if nothing of it comes.
    look_at: Option<Instant>,
    touched_at: Instant,
}

impl Receipts {
    pub(crate) fn new(settings: &Settings, sequences: Sequences, consumer: Arc<Consumer>) -> Self {
        Self {
            sequences,
            consumer,
            settings: settings.clone(),
            waiting: BTreeMap::new(),
            sources: HashMap::new(),
            round: JoinSet::new(),
            next_round_at: Instant::now(),
            has_warned: false,
        }
    }

    /// Takes over what is durable.
    pub(crate) fn take(&mut self, durable: DurableBySource) {
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
                "too many sources or gaps wait for their receipts: some will be asked to send again"
            );
        }
    }

    /// Does what is due next. May be dropped while it waits.
    pub(crate) async fn step(&mut self) {
        let due = self.due();
        tokio::select! {
            Some(ended) = self.round.join_next() => self.go_on(ended),
            () = at(due), if due.is_some() => self.begin(),
            else => std::future::pending().await,
        }
    }

    /// Marks and tells what is durable by now, as far as `patience` goes.
    pub(crate) async fn finish(&mut self, patience: Duration) {
        let finished = timeout(patience, async {
            while !self.is_idle() {
                self.next_round_at = Instant::now();
                self.step().await;
            }
        })
        .await;
        if finished.is_err() {
            tracing::warn!(
                "store or broker is away: the last receipts are made when their messages come again"
            );
        }
        self.round.shutdown().await;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.round.is_empty()
    }

    /// When the next round begins.
    fn due(&self) -> Option<Instant> {
        if !self.round.is_empty() {
            return None;
        }
        if !self.waiting.is_empty() {
            return Some(self.next_round_at);
        }
        let looks = self.sources.values().filter_map(|watched| watched.look_at);
        looks.min().map(|at| at.max(self.next_round_at))
    }

    fn begin(&mut self) {
        let now = Instant::now();
        self.next_round_at = now + ROUND_EVERY;
        let mut durable = std::mem::take(&mut self.waiting);
        for (source, watched) in &mut self.sources {
            if watched.look_at.is_some_and(|at| at <= now) {
                watched.look_at = None;
                durable.entry(source.clone()).or_default();
            }
        }
        let known =
            durable.keys().map(|source| self.sources.get(source).map_or(0, |watched| watched.through));
        let known: Vec<u64> = known.collect();
        self.round.spawn(settle(self.sequences.clone(), durable, known));
    }

    fn go_on(&mut self, ended: Result<Step, JoinError>) {
        match ended {
            Ok(Step::Looked(progress)) => self.publish(progress),
            Ok(Step::Published(unsent)) => {
                let again_at = Instant::now() + SEND_AGAIN;
                for source in unsent {
                    if let Some(watched) = self.sources.get_mut(&source) {
                        watched.look_at = Some(watched.look_at.map_or(again_at, |at| at.min(again_at)));
                    }
                }
            }
            // The sources send again what has no receipt.
            Err(error) => tracing::error!(%error, "a round of receipts failed"),
        }
    }

    fn publish(&mut self, progress: Vec<(Source, Progress)>) {
        let Some(topic) = self.settings.receipt_topic.clone() else { return };
        let now = Instant::now();
        let receipts: Vec<(Source, Publish)> = progress
            .into_iter()
            .map(|(source, progress)| {
                let missing = self.note(&source, &progress, now);
                let receipt = progress.receipt(self.settings.client.clone(), &source, &missing);
                let payload =
                    serde_json::to_vec(&receipt).expect("a receipt has no map with keys other than text");
                let publish =
                    Publish { retain: true, ..Publish::new(format!("{topic}/{}", source.name), payload) };
                (source, publish)
            })
            .collect();
        self.round.spawn(send(Arc::clone(&self.consumer), receipts));
    }

    /// Remembers how far the source is, and returns which numbers are to be asked for.
    fn note(&mut self, source: &Source, progress: &Progress, now: Instant) -> Ranges {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(source) {
            let silent = self.sources.iter().min_by_key(|(_, watched)| watched.touched_at);
            if let Some(silent) = silent.map(|(source, _)| source.clone()) {
                self.sources.remove(&silent);
            }
        }
        let delay = self.settings.gap_delay;
        let watched = self.sources.entry(source.clone()).or_insert_with(|| Watched {
            through: 0,
            gaps: Gaps::default(),
            look_at: None,
            touched_at: now,
        });
        let overdue = watched.gaps.overdue(progress, delay, now);
        watched.through = progress.through;
        watched.look_at = watched.gaps.look_at(delay);
        watched.touched_at = now;
        overdue
    }
}
