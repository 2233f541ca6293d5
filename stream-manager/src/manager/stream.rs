//! One stream and all that the manager knows of it.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use mysimbdp_config::{Config, settings};
use mysimbdp_model::message::Report;
use mysimbdp_platform::clock;

use crate::control::{InstanceStatus, StreamStatus};
use crate::instances::Wanted;
use crate::key::StreamKey;
use crate::load::Load;
use crate::prepare::Obstacle;
use crate::scaling::{Bounds, Memory, Policy, Rule};
use crate::slot::{Slot, Told};

/// An app that has not come to listen to the signal to drain after this long never will: it gets it all the same.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// A drain may take this long where it gets on. One that takes longer is ended and started anew, which loses nothing.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// A machine that is busy delays a report by as much, which is no silence.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) key: StreamKey,
    pub(crate) client: mysimbdp_config::Client,
    pub(crate) config: mysimbdp_config::Stream,
    pub(crate) policy: Policy,
    pub(crate) memory: Memory,
    /// The number is a person's; else the policy decides.
    pub(crate) pinned: bool,
    /// Collections and session are there.
    pub(crate) prepared: bool,
    /// What its preparation waits for.
    pub(crate) obstacle: Obstacle,
    /// The config does not have it any more: its instances are being stopped.
    pub(crate) retired: bool,
    pub(crate) slots: Vec<Slot>,
    pub(crate) load: Load,
    /// Why the last start failed, until one does not.
    pub(crate) start_error: Option<String>,
    tallies: Vec<Tally>,
    report_every: Duration,
    /// An instance that reports nothing for so long hangs; zero: that is not asked.
    pub(crate) silence_max: Duration,
    drain_patience: Duration,
    /// When a report came that names no instance.
    heard_at: Option<Instant>,
}

/// What a slot's instances have reported and suffered since the manager started.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// When the last report came.
    heard_at: Option<Instant>,
    messages: u64,
    rejected: u64,
    /// Of the last report.
    backlog: u64,
    messages_per_second: f64,
    average_processing_seconds: f64,
    restarts: u32,
}

impl Stream {
    pub(crate) fn new(
        config: &Config,
        client: &mysimbdp_config::Client,
        stream: &mysimbdp_config::Stream,
        now: Instant,
    ) -> Self {
        let Rules { policy, report_every, silence_max, drain_patience } = Rules::of(config, stream);
        let bounds = policy.bounds;
        Self {
            key: StreamKey { client: client.id.clone(), stream: stream.name.clone() },
            client: client.clone(),
            config: stream.clone(),
            policy,
            memory: Memory::new(bounds.min, now),
            pinned: false,
            prepared: false,
            obstacle: Obstacle::default(),
            retired: false,
            slots: vec![Slot::Empty; bounds.max as usize],
            load: Load::new(report_every),
            start_error: None,
            tallies: vec![Tally::default(); bounds.max as usize],
            report_every,
            silence_max,
            drain_patience,
            heard_at: None,
        }
    }

    /// Goes by another config; what runs is told apart by its fingerprint, and started again if that is another.
    pub(crate) fn take_over(
        &mut self,
        config: &Config,
        client: &mysimbdp_config::Client,
        stream: &mysimbdp_config::Stream,
    ) {
        let Rules { policy, report_every, silence_max, drain_patience } = Rules::of(config, stream);
        if report_every != self.report_every {
            self.load = Load::new(report_every);
        }
        (self.policy, self.report_every) = (policy, report_every);
        (self.silence_max, self.drain_patience) = (silence_max, drain_patience);
        (self.client, self.config) = (client.clone(), stream.clone());
        self.retired = false;
        let slots = policy.bounds.max.max(1) - 1;
        self.reach(slots);
        self.memory.wanted = self.memory.wanted.min(policy.bounds.max);
    }

    /// Whether other settings of this stream need other collections or another session.
    pub(crate) fn is_prepared_alike(
        &self,
        client: &mysimbdp_config::Client,
        stream: &mysimbdp_config::Stream,
    ) -> bool {
        self.config.topic_filter == stream.topic_filter
            && self.config.collection == stream.collection
            && self.client.settings.collections == client.settings.collections
    }

    /// Makes room for a slot that an earlier config allowed.
    pub(crate) fn reach(&mut self, slot: u32) {
        let count = self.slots.len().max(slot as usize + 1);
        self.slots.resize(count, Slot::Empty);
        self.tallies.resize(count, Tally::default());
    }

    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(&self.slots)
    }

    pub(crate) fn count(&self, accept: impl Fn(&Slot) -> bool) -> u32 {
        self.slots.iter().filter(|slot| accept(slot)).count() as u32
    }

    /// Whether there is neither a process nor a session.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| *slot == Slot::Empty)
    }

    /// Slots whose instance is at work, and not on its way out.
    pub(crate) fn running(&self) -> BTreeSet<u32> {
        self.numbered().filter(|(_, slot)| matches!(slot, Slot::Running(_))).map(|(slot, _)| slot).collect()
    }

    /// Slots whose instance hangs: it reports nothing, though the broker was there all the while since `connected_since`.
    pub(crate) fn silent(&self, connected_since: Option<Instant>, now: Instant) -> BTreeSet<u32> {
        let Some(connected_since) = connected_since.filter(|_| !self.silence_max.is_zero()) else {
            return BTreeSet::new();
        };
        let is_silent = |slot: u32| {
            let silence =
                self.heard_at(slot).map(|heard| now.saturating_duration_since(heard.max(connected_since)));
            silence.is_some_and(|silence| silence >= self.silence_max)
        };
        self.running().into_iter().filter(|slot| is_silent(*slot)).collect()
    }

    /// When the running instance of a slot was started or found, or has reported last.
    fn heard_at(&self, slot: u32) -> Option<Instant> {
        let since = self.slots.get(slot as usize)?.instance()?.since;
        let reports = [self.tallies.get(slot as usize)?.heard_at, self.heard_at];
        Some(reports.into_iter().flatten().fold(since, Instant::max))
    }

    /// Slots that drain and can be told so.
    pub(crate) fn listening(&self, now: Instant) -> BTreeSet<u32> {
        use mysimbdp_platform::process::Signal;
        let listens = |slot: &Slot| match slot {
            Slot::Draining { instance, told: None } => {
                let old = now.saturating_duration_since(instance.since) >= LISTENS_WITHIN;
                old || instance.process.listens_to(Signal::USR1)
            }
            _ => false,
        };
        self.numbered().filter(|(_, slot)| listens(slot)).map(|(slot, _)| slot).collect()
    }

    /// Whether the slot's session is the only one that will be left.
    pub(crate) fn is_last(&self, slot: u32) -> bool {
        !self.numbered().any(|(other, state)| other != slot && state.keeps_session())
    }

    /// Takes a report; `slot` is the instance that it names.
    pub(crate) fn take(&mut self, report: &Report, slot: Option<u32>, now: Instant) {
        self.load.take(report, slot, now);
        let Some(slot) = slot.map(|slot| slot as usize) else {
            self.heard_at = Some(now);
            return;
        };
        let seconds =
            report.interval.filter(|seconds| *seconds > 0.0).unwrap_or(self.report_every.as_secs_f64());
        let messages = report.total_number_of_messages_ingested;
        if let Some(tally) = self.tallies.get_mut(slot) {
            tally.heard_at = Some(now);
            tally.messages = tally.messages.saturating_add(messages);
            tally.rejected = tally.rejected.saturating_add(report.rejected);
            tally.backlog = report.backlog;
            tally.messages_per_second = messages as f64 / seconds;
            tally.average_processing_seconds = report.average_processing_time;
        }
        if let Some(Slot::Draining { told: Some(told), .. }) = self.slots.get_mut(slot)
            && messages > 0
        {
            told.kill_at = (now + self.drain_patience).min(told.at + DRAIN_MAX);
        }
    }

    pub(crate) fn count_restart(&mut self, slot: u32) {
        if let Some(tally) = self.tallies.get_mut(slot as usize) {
            tally.restarts = tally.restarts.saturating_add(1);
        }
    }

    /// A drain that begins now.
    pub(crate) fn told(&self, now: Instant) -> Told {
        Told { at: now, kill_at: now + self.drain_patience }
    }

    /// The number that a person has given.
    pub(crate) fn pinned_to(&self) -> Option<u32> {
        self.pinned.then_some(self.memory.wanted)
    }

    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { key: self.key.clone(), wanted: self.memory.wanted, pinned: self.pinned }
    }

    /// The next moment at which something is due without anything happening.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        /// How soon an app that has just been started is looked at again for whether it listens.
        const LISTEN_LOOK: Duration = Duration::from_millis(50);
        let due = |slot: &Slot| match slot {
            Slot::BackingOff { until, .. } => Some(*until),
            Slot::Draining { told: None, .. } => Some(now + LISTEN_LOOK),
            Slot::Draining { told: Some(told), .. } => Some(told.kill_at),
            Slot::Stopping { kill_at, .. } => Some(*kill_at),
            Slot::Empty | Slot::Parked | Slot::Running(_) | Slot::GivenUp { .. } => None,
        };
        self.slots.iter().filter_map(due).min()
    }

    /// Why its preparation has not succeeded yet.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let obstacle = self.obstacle.lock().unwrap_or_else(PoisonError::into_inner);
        obstacle.clone().filter(|_| !self.prepared)
    }

    /// `broker` says why the broker is away.
    pub(crate) fn status(&self, broker: Option<&str>) -> StreamStatus {
        let there = self.numbered().filter(|(_, state)| **state != Slot::Empty);
        StreamStatus {
            client: self.key.client.clone(),
            stream: self.key.stream.clone(),
            wanted: self.memory.wanted,
            pinned: self.pinned,
            min: self.policy.bounds.min,
            max: self.policy.bounds.max,
            ready: self.prepared && broker.is_none(),
            waits_for: self.obstacle().or(broker.map(str::to_owned)).or(self.start_error.clone()),
            instances: there.map(|(slot, state)| self.instance_status(slot, state)).collect(),
        }
    }

    fn instance_status(&self, slot: u32, state: &Slot) -> InstanceStatus {
        let instance = state.instance();
        let tally = self.tallies.get(slot as usize).copied().unwrap_or_default();
        let age = |started| clock::now().duration_since(started).as_secs().max(0).cast_unsigned();
        let silence = self.heard_at(slot).map(|heard| heard.elapsed());
        // A little more than what a report that comes late makes of it.
        let is_silent = |silence: &Duration| *silence > self.report_every * 2 + SILENCE_MARGIN;
        InstanceStatus {
            slot,
            state: state.name().to_owned(),
            pid: instance.map(|instance| instance.process.pid),
            started_at: instance.map(|instance| instance.started_at),
            uptime_seconds: instance.map(|instance| age(instance.started_at)),
            adopted: instance.is_some_and(|instance| instance.adopted),
            messages: tally.messages,
            messages_per_second: if instance.is_some() { tally.messages_per_second } else { 0.0 },
            average_processing_seconds: tally.average_processing_seconds,
            restarts: tally.restarts,
            backlog: tally.backlog,
            rejected: tally.rejected,
            reported_seconds_ago: tally.heard_at.map(|heard| heard.elapsed().as_secs()),
            silent_seconds: silence.filter(is_silent).map(|silence| silence.as_secs()),
        }
    }
}

/// What the config says of a stream.
struct Rules {
    policy: Policy,
    report_every: Duration,
    silence_max: Duration,
    drain_patience: Duration,
}

impl Rules {
    fn of(config: &Config, stream: &mysimbdp_config::Stream) -> Self {
        let manager = &config.settings.stream_manager;
        let report_every = manager.report_every.duration();
        let settings::Instances { min, max } = stream.settings.instances;
        Self {
            policy: Policy { rule: Rule::of(&stream.settings.scaling), bounds: Bounds { min, max } },
            report_every,
            silence_max: config.settings.silence_max(),
            // A drain that neither ends nor reports that it gets on in this time hangs.
            drain_patience: manager.drain_quiet.duration() + report_every * 2 + manager.stop_grace.duration(),
        }
    }
}
