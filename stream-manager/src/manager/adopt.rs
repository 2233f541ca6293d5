//! The start of the manager: finds and adopts what an earlier manager left running.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_config::live::LiveConfig;
use mysimbdp_model::error_chain;
use mysimbdp_platform::process::{ProcessId, kill_left_behind};
use tokio::task::JoinSet;

use super::stream::Stream;
use super::{BackgroundEnd, Manager, ProcessEnd};
use crate::Error;
use crate::control::answers::Answers;
use crate::control::mqtt::Replies;
use crate::instances::{Record, Registry};
use crate::key::SlotKey;
use crate::observe::{BrokerSubscription, invalid_bursts};
use crate::prepare::{Obstacle, prepare};
use crate::scaling::Memory;
use crate::slot::{Ended, Instance, Slot, SlotEvent};
use crate::spawn::owner;

/// The bound of one wait for the end of an adopted process; the wait is repeated.
const WAIT_AT_A_TIME: Duration = Duration::from_secs(3600);

impl Manager {
    /// Reads the recorded state, adopts running processes, and begins to prepare the streams.
    pub(crate) async fn start(live: LiveConfig) -> Result<Self, Error> {
        let now = Instant::now();
        let config = live.running();
        let registry = Registry::open(&config.layout)?;
        let streams = config
            .clients
            .values()
            .flat_map(|client| client.streams.iter().map(move |stream| (client, stream)));
        let streams = streams.map(|(client, stream)| Stream::new(&config, client, stream, now));
        let streams: BTreeMap<_, _> = streams.map(|stream| (stream.key.clone(), stream)).collect();
        let broker = BrokerSubscription::new(&config);
        let mut manager = Self {
            live,
            config,
            registry,
            streams,
            processes: JoinSet::new(),
            background: JoinSet::new(),
            broker,
            passed_at: now,
            invalid: invalid_bursts(),
            answers: Answers::default(),
            waiting: Vec::new(),
            ending_sessions: BTreeSet::new(),
            replies: Replies::default(),
        };
        for record in manager.registry.records()? {
            manager.adopt(record, now)?;
        }
        manager.clean_up().await;
        manager.restore_desired(now)?;
        let keys: Vec<_> = manager.streams.keys().cloned().collect();
        for key in &keys {
            manager.begin_to_prepare(key);
        }
        Ok(manager)
    }

    fn adopt(&mut self, record: Record, now: Instant) -> Result<(), Error> {
        let running = record.process.filter(|process| process.id.alive());
        let Some(stream) = self.streams.get_mut(&record.key.stream) else {
            self.end_orphan(&record.key, running.map(|process| process.id));
            return Ok(self.registry.remove(&record.key)?);
        };
        stream.extend_to(record.key.slot);
        let Some(process) = running else {
            self.apply(&record.key, SlotEvent::Park);
            return Ok(());
        };
        tracing::info!(
            client = %record.key.stream.client,
            stream = record.key.stream.stream,
            slot = record.key.slot,
            pid = process.id.pid,
            "instance adopted"
        );
        let instance = Instance {
            process: process.id,
            started_at: process.at,
            since: now,
            adopted: true,
            crashes: 0,
            fingerprint: process.fingerprint,
        };
        self.apply(&record.key, SlotEvent::Started(instance));
        let owner = owner(&self.config, &record.key);
        self.processes.spawn(wait_for_adopted(record.key, process.id, owner));
        Ok(())
    }

    /// Stops a process whose client or stream is no longer configured. Its session expires at the broker by itself.
    fn end_orphan(&mut self, key: &SlotKey, process: Option<ProcessId>) {
        let Some(process) = process else { return };
        tracing::warn!(
            instance = %key,
            pid = process.pid,
            "stopping an instance of a stream that is no longer configured"
        );
        let grace = self.config.settings.stream_manager.stop_grace.duration();
        let instance = key.to_string();
        self.background.spawn(async move {
            if let Err(error) = process.stop(grace).await {
                tracing::error!(instance, pid = process.pid, error = %error_chain(&error), "instance not stopped");
            }
            BackgroundEnd::Orphan
        });
    }

    /// Kills processes that have no record, because an earlier manager was killed between starting and recording them.
    async fn clean_up(&self) {
        for (key, state) in self.slots().filter(|(_, state)| state.instance().is_none()) {
            let killed = kill_left_behind(&owner(&self.config, &key)).await;
            if killed > 0 {
                tracing::warn!(
                    instance = %key,
                    killed,
                    state = state.name(),
                    "killed processes without a record"
                );
            }
        }
    }

    fn restore_desired(&mut self, now: Instant) -> Result<(), Error> {
        for stream in self.streams.values_mut() {
            let sessions = stream.count(Slot::keeps_session);
            stream.memory = Memory::new(stream.policy.bounds.clamp(sessions), now);
        }
        for recorded in self.registry.desired()? {
            let Some(stream) = self.streams.get_mut(&recorded.key) else { continue };
            let bounds = stream.policy.bounds;
            let desired = if recorded.is_manual {
                recorded.desired.min(bounds.max)
            } else {
                bounds.clamp(recorded.desired)
            };
            stream.memory = Memory::new(desired, now);
            stream.is_manual = recorded.is_manual;
        }
        Ok(())
    }

    /// Begins to create the collections, and the session of a stream that has none: without one, the broker would drop
    /// messages that are published before an instance has subscribed. A stream that a person has stopped gets no session.
    pub(super) fn begin_to_prepare(&mut self, key: &crate::key::StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.prepared = false;
        // A task that prepares for an earlier config may still write to the previous one.
        stream.obstacle = Obstacle::default();
        let obstacle = Arc::clone(&stream.obstacle);
        let is_stopped = stream.is_manual && stream.memory.desired == 0;
        let is_new = !is_stopped && stream.is_empty();
        let session = is_new.then(|| key.slot(0));
        let (config, client, settings) =
            (Arc::clone(&self.config), stream.client.clone(), stream.config.clone());
        let key = key.clone();
        self.background.spawn(async move {
            prepare(config, client, settings, session.clone(), Arc::clone(&obstacle)).await;
            BackgroundEnd::Stream { key, session, obstacle }
        });
    }
}

/// Waits for a process whose parent is not this process, and kills what it has left behind: nothing else is started in
/// the slot before this has ended.
async fn wait_for_adopted(key: SlotKey, process: ProcessId, owner: String) -> ProcessEnd {
    while !process.wait_ended(WAIT_AT_A_TIME).await {}
    kill_left_behind(&owner).await;
    ProcessEnd {
        key,
        process,
        ended: Ended::Unknown,
        status: "unknown, because the process was adopted".to_owned(),
    }
}
