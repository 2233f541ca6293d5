//! The reconcile loop: read the state, decide, do what is due, wait for an event.

mod adopt;
mod command;
mod execute;
mod messages;
mod stream;
mod take_over;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_config::Config;
use mysimbdp_config::live::LiveConfig;
use mysimbdp_platform::process::ProcessId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::control::Call;
use crate::control::answers::Answers;
use crate::control::mqtt::Replies;
use crate::control::waiting::Waiting;
use crate::instances::Registry;
use crate::key::{SlotKey, StreamKey};
use crate::metrics;
use crate::observe::{BrokerSubscription, InvalidBursts};
use crate::plan::{StreamSnapshot, plan, retire};
use crate::prepare::Obstacle;
use crate::scaling::{Decision, ScalingReason, decide};
use crate::slot::{Ended, Slot};
use crate::spawn::Launch;
use stream::Stream;

/// A pass runs at least this often, even if nothing happens. Such a pass does no I/O, except that it reads the state of
/// a process that is to be drained.
const TICK: Duration = Duration::from_secs(1);

/// How long to wait for the end of a killed process before continuing without it.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A longer time between two passes means that the process or the machine stood still.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// The manager.
#[derive(Debug)]
pub(crate) struct Manager {
    live: LiveConfig,
    /// The config that the manager runs with.
    config: Arc<Config>,
    registry: Registry,
    streams: BTreeMap<StreamKey, Stream>,
    /// One task for each process, started or adopted; it ends with the process.
    processes: JoinSet<ProcessEnd>,
    /// One task for each preparation of a stream, each end of a session, and each stop of an orphan.
    background: JoinSet<BackgroundEnd>,
    broker: BrokerSubscription,
    /// When the last pass began.
    passed_at: Instant,
    invalid: InvalidBursts,
    answers: Answers,
    waiting: Vec<Waiting>,
    /// Slots whose broker session is to end with their process.
    ending_sessions: BTreeSet<SlotKey>,
    replies: Replies,
}

/// A process of a slot has ended.
#[derive(Debug)]
struct ProcessEnd {
    key: SlotKey,
    process: ProcessId,
    ended: Ended,
    /// Only shown to people.
    status: String,
}

/// A background task that has completed.
#[derive(Debug)]
enum BackgroundEnd {
    /// The collections exist, and so does the slot's session if one was requested.
    Stream { key: StreamKey, session: Option<SlotKey>, obstacle: Obstacle },
    /// The broker has removed the session.
    SessionEnded { key: SlotKey },
    /// A process of a stream that is no longer configured has ended.
    Orphan,
}

impl Manager {
    /// The number of streams.
    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Runs the loop until `shutdown` is true, or its sender is dropped.
    pub(crate) async fn work(
        &mut self,
        mut calls: mpsc::Receiver<Call>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        while !*shutdown.borrow_and_update() {
            let due = self.reconcile().await;
            tokio::select! {
                changed = shutdown.changed() => if changed.is_err() { return },
                Some(call) = calls.recv() => self.handle_request(call),
                messages = self.broker.next() => self.handle_messages(messages),
                Some(ended) = self.processes.join_next() => self.process_ended(ended),
                Some(ended) = self.background.join_next() => self.background_ended(ended),
                config = self.live.offer() => self.take_over(config),
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// Runs one pass; returns when the next one is due at the latest.
    async fn reconcile(&mut self) -> Instant {
        self.watch_connection();
        let keys: Vec<StreamKey> = self.streams.keys().cloned().collect();
        for key in &keys {
            self.scale(key);
            self.execute_plan(key).await;
        }
        self.streams.values().for_each(Stream::measure);
        self.remove_retired();
        self.answer_waiting();
        self.log_invalid();
        let now = Instant::now();
        let due = self.streams.values().filter_map(|stream| stream.due(now));
        let waiting = self.waiting.iter().map(|waiting| waiting.until);
        due.chain(waiting).min().map_or(now + TICK, |due| due.clamp(now, now + TICK))
    }

    /// Records whether the broker is connected. A manager that stood still has not received reports either, so the time for
    /// which an instance may be silent begins again.
    fn watch_connection(&mut self) {
        let now = Instant::now();
        let has_stood_still = now.saturating_duration_since(self.passed_at) > STOOD_STILL;
        self.passed_at = now;
        self.broker.watch_connection(has_stood_still, now);
    }

    /// Lets the policy decide, unless there is a manual override.
    fn scale(&mut self, key: &StreamKey) {
        let may_start = self.may_start();
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.is_manual || stream.retired {
            return;
        }
        let now = Instant::now();
        let load = stream.load.summarize(&stream.running(), stream.memory.changed_at, now);
        let decision = decide(&load, &stream.policy, &stream.memory, now);
        let (before, desired) = (stream.memory.desired, decision.desired);
        // The policy may not want more than all clients together may have. Otherwise `desired` would grow while nothing
        // can start, and all those instances would start at once when another client releases capacity.
        let lacks_capacity =
            desired > before && may_start == 0 && decision.reason != ScalingReason::OutOfBounds;
        if desired == before || lacks_capacity {
            let reason = if lacks_capacity { ScalingReason::LacksCapacity } else { decision.reason };
            tracing::debug!(stream = %key, desired = before, %reason, ?load, "number kept");
            let kept = Decision { desired: before, reason, ..decision };
            stream.memory.note(&kept, &stream.policy, now);
            stream.decisions.note(&kept, &load, before);
            return;
        }
        stream.memory.note(&decision, &stream.policy, now);
        stream.decisions.note(&decision, &load, before);
        metrics::scaled(key, before, desired);
        tracing::info!(
            client = %key.client,
            stream = key.stream,
            from = before,
            to = desired,
            reason = %decision.reason,
            running = load.running,
            reporting = load.reporting,
            busy = %format_args!("{:.3}", load.busy),
            processing_seconds = %format_args!("{:.6}", load.processing_seconds),
            messages_per_report = %format_args!("{:.1}", load.messages_per_report),
            "scaled"
        );
        self.record_desired(key);
    }

    async fn execute_plan(&mut self, key: &StreamKey) {
        let now = Instant::now();
        let may_start = self.may_start();
        let Some(stream) = self.streams.get(key) else { return };
        let broker_url = self.broker.url().map(str::to_owned);
        let launch = broker_url.as_ref().filter(|_| stream.prepared);
        let launch = launch.map(|url| Launch::new(&self.config, &stream.client, &stream.config, url));
        let ready_to_drain = stream.ready_to_drain(now);
        let connected_since = self.broker.connected_since();
        let hanging = stream.hanging(connected_since, now);
        let fingerprint = launch.as_ref().map(Launch::fingerprint);
        let snapshot = StreamSnapshot {
            slots: &stream.slots,
            desired: stream.memory.desired,
            may_start,
            ready_to_drain: &ready_to_drain,
            hanging: &hanging,
            fingerprint,
        };
        let actions = if stream.retired { retire(&snapshot, now) } else { plan(&snapshot, now) };
        for action in actions {
            self.execute(key, action, broker_url.as_deref()).await;
        }
    }

    /// How many processes may be started, for all clients together. A slot that is backing off counts as a process.
    fn may_start(&self) -> u32 {
        let counts = |slot: &Slot| slot.instance().is_some() || matches!(slot, Slot::BackingOff { .. });
        let existing = self.slots().filter(|(_, state)| counts(state)).count() as u32;
        self.config.settings.stream_manager.instances_max.saturating_sub(existing)
    }

    /// Stops all instances and waits until they have ended, within `stop_grace` and a moment for those that must be killed.
    pub(crate) async fn stop_all(&mut self) {
        self.background.shutdown().await;
        let keys: Vec<SlotKey> = self.occupied();
        for key in &keys {
            self.stop(key);
        }
        let grace = self.config.settings.stream_manager.stop_grace.duration();
        if !self.all_ended(grace).await {
            for key in self.occupied() {
                self.kill(&key);
            }
            if !self.all_ended(KILLED_WITHIN).await {
                tracing::error!(
                    instances = self.occupied().len(),
                    "instances are still running after SIGKILL"
                );
            }
        }
        // A process that the kernel could not end is left for the next manager to adopt.
        self.processes.shutdown().await;
        self.broker.close().await;
    }

    async fn all_ended(&mut self, within: Duration) -> bool {
        let all = async {
            while !self.occupied().is_empty() {
                match self.processes.join_next().await {
                    Some(ended) => self.process_ended(ended),
                    None => return,
                }
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }

    /// All slots of all streams.
    fn slots(&self) -> impl Iterator<Item = (SlotKey, &Slot)> {
        self.streams
            .values()
            .flat_map(|stream| stream.numbered().map(move |(slot, state)| (stream.key.slot(slot), state)))
    }

    /// The slots that have a process.
    fn occupied(&self) -> Vec<SlotKey> {
        self.slots().filter(|(_, state)| state.instance().is_some()).map(|(key, _)| key).collect()
    }
}
