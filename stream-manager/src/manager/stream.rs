//! One stream and all that the manager knows of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mysimbdp_core::config::{self, Config};
use mysimbdp_core::io::clock;
use mysimbdp_core::message::Report;

use crate::control::{InstanceStatus, StreamStatus};
use crate::instances::Wanted;
use crate::key::StreamKey;
use crate::load::Load;
use crate::scaling::{Bounds, Memory, Policy, Rule};
use crate::slot::{Slot, Told};

/// An app that has not come to listen to the signal to drain after this long never will: it gets it all the same.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// A drain may take this long where it gets on. One that takes longer is ended and started anew, which loses nothing.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) key: StreamKey,
    pub(crate) client: config::Client,
    pub(crate) config: config::Stream,
    pub(crate) policy: Policy,
    pub(crate) memory: Memory,
    /// The number is a person's; else the policy decides.
    pub(crate) pinned: bool,
    /// Collections and session are there.
    pub(crate) prepared: bool,
    pub(crate) slots: Vec<Slot>,
    pub(crate) load: Load,
    /// Why the last start failed, until one does not.
    pub(crate) start_error: Option<String>,
    tallies: Vec<Tally>,
    report_every: Duration,
    drain_patience: Duration,
}

/// What a slot's instances have reported and suffered since the manager started.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    messages: u64,
    messages_per_second: f64,
    average_processing_seconds: f64,
    restarts: u32,
}

impl Stream {
    pub(crate) fn new(
        config: &Config,
        client: &config::Client,
        stream: &config::Stream,
        now: Instant,
    ) -> Self {
        let manager = &config.settings.stream_manager;
        let instances = stream.settings.instances;
        let report_every = manager.report_every.duration();
        let bounds = Bounds { min: instances.min, max: instances.max };
        Self {
            key: StreamKey { client: client.id.clone(), stream: stream.name.clone() },
            client: client.clone(),
            config: stream.clone(),
            policy: Policy { rule: Rule::of(&stream.settings.scaling), bounds },
            memory: Memory::new(bounds.min, now),
            pinned: false,
            prepared: false,
            slots: vec![Slot::Empty; bounds.max as usize],
            load: Load::new(report_every),
            start_error: None,
            tallies: vec![Tally::default(); bounds.max as usize],
            report_every,
            // A drain that neither ends nor reports that it gets on in this time hangs.
            drain_patience: manager.drain_quiet.duration() + report_every * 2 + manager.stop_grace.duration(),
        }
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

    /// Slots that drain and can be told so.
    pub(crate) fn listening(&self, now: Instant) -> BTreeSet<u32> {
        use mysimbdp_core::io::process::Signal;
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
        let Some(slot) = slot.map(|slot| slot as usize) else { return };
        let seconds =
            report.interval.filter(|seconds| *seconds > 0.0).unwrap_or(self.report_every.as_secs_f64());
        let messages = report.total_number_of_messages_ingested;
        if let Some(tally) = self.tallies.get_mut(slot) {
            tally.messages = tally.messages.saturating_add(messages);
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

    pub(crate) fn status(&self, broker_known: bool) -> StreamStatus {
        let there = self.numbered().filter(|(_, state)| **state != Slot::Empty);
        StreamStatus {
            client: self.key.client.clone(),
            stream: self.key.stream.clone(),
            wanted: self.memory.wanted,
            pinned: self.pinned,
            min: self.policy.bounds.min,
            max: self.policy.bounds.max,
            ready: self.prepared && broker_known,
            instances: there.map(|(slot, state)| self.instance_status(slot, state)).collect(),
        }
    }

    fn instance_status(&self, slot: u32, state: &Slot) -> InstanceStatus {
        let instance = state.instance();
        let tally = self.tallies.get(slot as usize).copied().unwrap_or_default();
        let age = |started| clock::now().duration_since(started).as_secs().max(0).cast_unsigned();
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
        }
    }
}
