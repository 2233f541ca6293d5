//! A stream, and everything that the manager knows about it.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use mysimbdp_config::{Config, settings};
use mysimbdp_model::message::Report;
use mysimbdp_platform::clock;

use crate::control::{InstanceStatus, StreamStatus};
use crate::decisions::RecentDecisions;
use crate::instances::DesiredInstances;
use crate::key::StreamKey;
use crate::load::Load;
use crate::metrics::{self, Instances};
use crate::prepare::Obstacle;
use crate::scaling::{Bounds, Memory, Rule, ScalingPolicy};
use crate::slot::{DrainSignal, Slot};

/// An app that does not handle the drain signal after this long never will: it is signalled all the same.
const SIGNAL_HANDLED_WITHIN: Duration = Duration::from_secs(10);

/// A drain that makes progress may take this long. A longer one is killed and the slot restarted, which loses nothing.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// A busy machine may delay a report by this much; that is not silence.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) key: StreamKey,
    pub(crate) client: mysimbdp_config::Client,
    pub(crate) config: mysimbdp_config::Stream,
    pub(crate) policy: ScalingPolicy,
    pub(crate) memory: Memory,
    /// Manual override: a person has set the number. Otherwise the policy decides.
    pub(crate) is_manual: bool,
    /// The collections and the session exist.
    pub(crate) prepared: bool,
    /// What the preparation waits for.
    pub(crate) obstacle: Obstacle,
    /// The stream is no longer configured, and its instances are being stopped.
    pub(crate) retired: bool,
    pub(crate) slots: Vec<Slot>,
    pub(crate) load: Load,
    pub(crate) decisions: RecentDecisions,
    /// Why the last start failed, until one succeeds.
    pub(crate) start_error: Option<String>,
    summaries: Vec<SlotSummary>,
    report_every: Duration,
    /// An instance that reports nothing for this long hangs; zero disables the check.
    pub(crate) silence_max: Duration,
    drain_timeout: Duration,
    /// When the last report that names no instance arrived.
    reported_at: Option<Instant>,
}

/// The reports and restarts of a slot's instances since the manager started.
#[derive(Clone, Copy, Debug, Default)]
struct SlotSummary {
    /// When the last report arrived.
    reported_at: Option<Instant>,
    messages: u64,
    rejected: u64,
    /// From the last report, as are the next three.
    backlog: u64,
    messages_per_second: f64,
    average_processing_seconds: f64,
    utilization: Option<f64>,
    restarts: u32,
}

impl Stream {
    pub(crate) fn new(
        config: &Config,
        client: &mysimbdp_config::Client,
        stream: &mysimbdp_config::Stream,
        now: Instant,
    ) -> Self {
        let Rules { policy, report_every, silence_max, drain_timeout } = Rules::of(config, stream);
        let bounds = policy.bounds;
        Self {
            key: StreamKey { client: client.id.clone(), stream: stream.name.clone() },
            client: client.clone(),
            config: stream.clone(),
            policy,
            memory: Memory::new(bounds.min, now),
            is_manual: false,
            prepared: false,
            obstacle: Obstacle::default(),
            retired: false,
            slots: vec![Slot::Empty; bounds.max as usize],
            load: Load::new(report_every),
            decisions: RecentDecisions::default(),
            start_error: None,
            summaries: vec![SlotSummary::default(); bounds.max as usize],
            report_every,
            silence_max,
            drain_timeout,
            reported_at: None,
        }
    }

    /// Switches to another config. Running instances are compared by fingerprint, and restarted if it has changed.
    pub(crate) fn take_over(
        &mut self,
        config: &Config,
        client: &mysimbdp_config::Client,
        stream: &mysimbdp_config::Stream,
    ) {
        let Rules { policy, report_every, silence_max, drain_timeout } = Rules::of(config, stream);
        if report_every != self.report_every {
            self.load = Load::new(report_every);
        }
        (self.policy, self.report_every) = (policy, report_every);
        (self.silence_max, self.drain_timeout) = (silence_max, drain_timeout);
        (self.client, self.config) = (client.clone(), stream.clone());
        self.retired = false;
        let slots = policy.bounds.max.max(1) - 1;
        self.extend_to(slots);
        self.memory.desired = self.memory.desired.min(policy.bounds.max);
    }

    /// Whether these settings need the same collections and session as the present ones.
    pub(crate) fn needs_same_preparation(
        &self,
        client: &mysimbdp_config::Client,
        stream: &mysimbdp_config::Stream,
    ) -> bool {
        self.config.topic_filter == stream.topic_filter
            && self.config.collection == stream.collection
            && self.client.settings.collections == client.settings.collections
    }

    /// Extends the slots up to `slot`, which an earlier config may have allowed.
    pub(crate) fn extend_to(&mut self, slot: u32) {
        let count = self.slots.len().max(slot as usize + 1);
        self.slots.resize(count, Slot::Empty);
        self.summaries.resize(count, SlotSummary::default());
    }

    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(&self.slots)
    }

    pub(crate) fn count(&self, accept: impl Fn(&Slot) -> bool) -> u32 {
        self.slots.iter().filter(|slot| accept(slot)).count() as u32
    }

    /// Whether the stream has neither a process nor a session.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| *slot == Slot::Empty)
    }

    /// The slots whose instance is running, and not on its way out.
    pub(crate) fn running(&self) -> BTreeSet<u32> {
        self.numbered().filter(|(_, slot)| matches!(slot, Slot::Running(_))).map(|(slot, _)| slot).collect()
    }

    /// The slots whose instance hangs: it has reported nothing, although the broker has been connected since
    /// `connected_since`.
    pub(crate) fn hanging(&self, connected_since: Option<Instant>, now: Instant) -> BTreeSet<u32> {
        let Some(connected_since) = connected_since.filter(|_| !self.silence_max.is_zero()) else {
            return BTreeSet::new();
        };
        let is_hanging = |slot: u32| {
            let silence = self
                .reported_at(slot)
                .map(|reported| now.saturating_duration_since(reported.max(connected_since)));
            silence.is_some_and(|silence| silence >= self.silence_max)
        };
        self.running().into_iter().filter(|slot| is_hanging(*slot)).collect()
    }

    /// When the slot's instance last reported, or if later, when it was started or adopted.
    fn reported_at(&self, slot: u32) -> Option<Instant> {
        let since = self.slots.get(slot as usize)?.instance()?.since;
        let reports = [self.summaries.get(slot as usize)?.reported_at, self.reported_at];
        Some(reports.into_iter().flatten().fold(since, Instant::max))
    }

    /// The draining slots that can be signalled now.
    pub(crate) fn ready_to_drain(&self, now: Instant) -> BTreeSet<u32> {
        use mysimbdp_platform::process::Signal;
        let is_ready = |slot: &Slot| match slot {
            Slot::Draining { instance, signal: None } => {
                let is_overdue = now.saturating_duration_since(instance.since) >= SIGNAL_HANDLED_WITHIN;
                is_overdue || instance.process.handles_signal(Signal::USR1)
            }
            _ => false,
        };
        self.numbered().filter(|(_, slot)| is_ready(slot)).map(|(slot, _)| slot).collect()
    }

    /// Whether the slot's session is the last one that will remain.
    pub(crate) fn is_last(&self, slot: u32) -> bool {
        !self.numbered().any(|(other, state)| other != slot && state.keeps_session())
    }

    /// Records a report; `slot` is the slot of the instance that it names.
    pub(crate) fn record_report(&mut self, report: &Report, slot: Option<u32>, now: Instant) {
        self.load.record(report, slot, now);
        metrics::reported(&self.key, report);
        let Some(slot) = slot.map(|slot| slot as usize) else {
            self.reported_at = Some(now);
            return;
        };
        let seconds =
            report.interval.filter(|seconds| *seconds > 0.0).unwrap_or(self.report_every.as_secs_f64());
        let messages = report.total_number_of_messages_ingested;
        if let Some(summary) = self.summaries.get_mut(slot) {
            summary.reported_at = Some(now);
            summary.messages = summary.messages.saturating_add(messages);
            summary.rejected = summary.rejected.saturating_add(report.rejected);
            summary.backlog = report.backlog;
            summary.messages_per_second = messages as f64 / seconds;
            summary.average_processing_seconds = report.average_processing_time;
            summary.utilization = report.utilization.map(|share| share.clamp(0.0, 1.0));
        }
        if let Some(Slot::Draining { signal: Some(signal), .. }) = self.slots.get_mut(slot)
            && messages > 0
        {
            signal.kill_at = (now + self.drain_timeout).min(signal.at + DRAIN_MAX);
        }
    }

    pub(crate) fn count_restart(&mut self, slot: u32) {
        metrics::restarted(&self.key);
        if let Some(summary) = self.summaries.get_mut(slot as usize) {
            summary.restarts = summary.restarts.saturating_add(1);
        }
    }

    /// Shows the instances in the metrics.
    pub(crate) fn measure(&self) {
        let running = self.running();
        let backlog = running.iter().filter_map(|slot| self.summaries.get(*slot as usize));
        let backlog = backlog.fold(0_u64, |sum, summary| sum.saturating_add(summary.backlog));
        let desired = self.memory.desired;
        metrics::instances(&self.key, Instances { desired, running: running.len(), backlog });
    }

    /// The deadline of a drain that is signalled now.
    pub(crate) fn drain_signal(&self, now: Instant) -> DrainSignal {
        DrainSignal { at: now, kill_at: now + self.drain_timeout }
    }

    /// The number of the manual override, if there is one.
    pub(crate) fn manual_number(&self) -> Option<u32> {
        self.is_manual.then_some(self.memory.desired)
    }

    pub(crate) fn desired(&self) -> DesiredInstances {
        DesiredInstances { key: self.key.clone(), desired: self.memory.desired, is_manual: self.is_manual }
    }

    /// The next time at which an action is due without an event.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        /// How soon to check again whether an app that has just been started handles the signal.
        const SIGNAL_HANDLER_CHECK: Duration = Duration::from_millis(50);
        let due = |slot: &Slot| match slot {
            Slot::BackingOff { until, .. } => Some(*until),
            Slot::Draining { signal: None, .. } => Some(now + SIGNAL_HANDLER_CHECK),
            Slot::Draining { signal: Some(signal), .. } => Some(signal.kill_at),
            Slot::Stopping { kill_at, .. } => Some(*kill_at),
            Slot::Empty | Slot::Idle | Slot::Running(_) | Slot::GivenUp { .. } => None,
        };
        self.slots.iter().filter_map(due).min()
    }

    /// Why the preparation has not succeeded yet.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let obstacle = self.obstacle.lock().unwrap_or_else(PoisonError::into_inner);
        obstacle.clone().filter(|_| !self.prepared)
    }

    /// Returns the status for a list; `broker` is the reason if the broker is unavailable.
    pub(crate) fn status(&self, broker: Option<&str>) -> StreamStatus {
        let occupied = self.numbered().filter(|(_, state)| **state != Slot::Empty);
        StreamStatus {
            client: self.key.client.clone(),
            stream: self.key.stream.clone(),
            desired: self.memory.desired,
            is_manual: self.is_manual,
            min: self.policy.bounds.min,
            max: self.policy.bounds.max,
            ready: self.prepared && broker.is_none(),
            waits_for: self.obstacle().or(broker.map(str::to_owned)).or(self.start_error.clone()),
            decisions: self.decisions.latest_first(),
            instances: occupied.map(|(slot, state)| self.instance_status(slot, state)).collect(),
        }
    }

    fn instance_status(&self, slot: u32, state: &Slot) -> InstanceStatus {
        let instance = state.instance();
        let summary = self.summaries.get(slot as usize).copied().unwrap_or_default();
        let age = |started| clock::now().duration_since(started).as_secs().max(0).cast_unsigned();
        let silence = self.reported_at(slot).map(|reported| reported.elapsed());
        // Longer than one late report explains.
        let is_silent = |silence: &Duration| *silence > self.report_every * 2 + SILENCE_MARGIN;
        InstanceStatus {
            slot,
            state: state.name().to_owned(),
            pid: instance.map(|instance| instance.process.pid),
            started_at: instance.map(|instance| instance.started_at),
            uptime_seconds: instance.map(|instance| age(instance.started_at)),
            adopted: instance.is_some_and(|instance| instance.adopted),
            messages: summary.messages,
            messages_per_second: if instance.is_some() { summary.messages_per_second } else { 0.0 },
            average_processing_seconds: summary.average_processing_seconds,
            utilization: summary.utilization.filter(|_| instance.is_some()),
            restarts: summary.restarts,
            backlog: summary.backlog,
            rejected: summary.rejected,
            reported_seconds_ago: summary.reported_at.map(|reported| reported.elapsed().as_secs()),
            silent_seconds: silence.filter(is_silent).map(|silence| silence.as_secs()),
        }
    }
}

/// The settings of a stream that the manager uses on every pass.
struct Rules {
    policy: ScalingPolicy,
    report_every: Duration,
    silence_max: Duration,
    drain_timeout: Duration,
}

impl Rules {
    fn of(config: &Config, stream: &mysimbdp_config::Stream) -> Self {
        let manager = &config.settings.stream_manager;
        let report_every = manager.report_every.duration();
        let settings::Instances { min, max } = stream.settings.instances;
        Self {
            policy: ScalingPolicy { rule: Rule::of(&stream.settings.scaling), bounds: Bounds { min, max } },
            report_every,
            silence_max: config.settings.silence_max(),
            // A drain that neither ends nor reports progress within this time hangs.
            drain_timeout: manager.drain_quiet.duration() + report_every * 2 + manager.stop_grace.duration(),
        }
    }
}
