//! The start: what an earlier manager has left is found again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_config::live::LiveConfig;
use mysimbdp_model::error_chain;
use mysimbdp_platform::process::{ProcessId, kill_left_behind};
use tokio::task::JoinSet;

use super::stream::Stream;
use super::{Manager, Prepared, ProcessEnd};
use crate::Error;
use crate::control::answers::Answers;
use crate::control::mqtt::Replies;
use crate::instances::{Record, Registry};
use crate::key::SlotKey;
use crate::observe::{BrokerSubscription, invalid_bursts};
use crate::prepare::{Obstacle, prepare};
use crate::scaling::Memory;
use crate::slot::{Ended, Event, Instance, Slot};
use crate::spawn::owner;

/// How long an adopted process is waited for at a time.
const WAIT_AT_A_TIME: Duration = Duration::from_secs(3600);

impl Manager {
    /// Reads what is remembered, adopts what runs, and begins to prepare the streams.
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
            preparations: JoinSet::new(),
            broker,
            passed_at: now,
            invalid: invalid_bursts(),
            answers: Answers::default(),
            waiting: Vec::new(),
            forgetting: BTreeSet::new(),
            replies: Replies::default(),
        };
        for record in manager.registry.records()? {
            manager.adopt(record, now)?;
        }
        manager.clean_up().await;
        manager.recall_wanted(now)?;
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
        stream.reach(record.key.slot);
        let Some(process) = running else {
            self.apply(&record.key, Event::Park);
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
        self.apply(&record.key, Event::Started(instance));
        let owner = owner(&self.config, &record.key);
        self.processes.spawn(adopted_end(record.key, process.id, owner));
        Ok(())
    }

    /// The client or the stream is not configured any more. Its session expires at the broker by itself.
    fn end_orphan(&mut self, key: &SlotKey, process: Option<ProcessId>) {
        let Some(process) = process else { return };
        tracing::warn!(
            instance = %key,
            pid = process.pid,
            "instance of a stream that is not configured any more, stopped"
        );
        let grace = self.config.settings.stream_manager.stop_grace.duration();
        let instance = key.to_string();
        self.preparations.spawn(async move {
            if let Err(error) = process.stop(grace).await {
                tracing::error!(instance, pid = process.pid, error = %error_chain(&error), "instance not stopped");
            }
            Prepared::Orphan
        });
    }

    /// Ends what was started in a slot and is not known: an earlier manager was killed between a start and its record.
    async fn clean_up(&self) {
        for (key, state) in self.slots().filter(|(_, state)| state.instance().is_none()) {
            let killed = kill_left_behind(&owner(&self.config, &key)).await;
            if killed > 0 {
                tracing::warn!(
                    instance = %key,
                    killed,
                    state = state.name(),
                    "processes without a record killed"
                );
            }
        }
    }

    fn recall_wanted(&mut self, now: Instant) -> Result<(), Error> {
        for stream in self.streams.values_mut() {
            let sessions = stream.count(Slot::keeps_session);
            stream.memory = Memory::new(stream.policy.bounds.clamp(sessions), now);
        }
        for recalled in self.registry.wanted()? {
            let Some(stream) = self.streams.get_mut(&recalled.key) else { continue };
            let bounds = stream.policy.bounds;
            let wanted =
                if recalled.pinned { recalled.wanted.min(bounds.max) } else { bounds.clamp(recalled.wanted) };
            stream.memory = Memory::new(wanted, now);
            stream.pinned = recalled.pinned;
        }
        Ok(())
    }

    /// Has collections made, and the session of a stream that has none: without one, the broker would drop what is
    /// published until an instance has subscribed. A stream that a person has stopped is left as it is.
    pub(super) fn begin_to_prepare(&mut self, key: &crate::key::StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.prepared = false;
        // A task that prepares by an earlier config may still say what it waits for.
        stream.obstacle = Obstacle::default();
        let obstacle = Arc::clone(&stream.obstacle);
        let is_stopped = stream.pinned && stream.memory.wanted == 0;
        let is_new = !is_stopped && stream.is_empty();
        let session = is_new.then(|| key.slot(0));
        let (config, client, settings) =
            (Arc::clone(&self.config), stream.client.clone(), stream.config.clone());
        let key = key.clone();
        self.preparations.spawn(async move {
            prepare(config, client, settings, session.clone(), Arc::clone(&obstacle)).await;
            Prepared::Stream { key, session, obstacle }
        });
    }
}

/// Waits for a process of which this one is not the parent, and kills what it has left behind: nothing else is started in
/// its slot before this has ended.
async fn adopted_end(key: SlotKey, process: ProcessId, owner: String) -> ProcessEnd {
    while !process.wait_gone(WAIT_AT_A_TIME).await {}
    kill_left_behind(&owner).await;
    ProcessEnd { key, process, ended: Ended::Unknown, status: "unknown, as it was adopted".to_owned() }
}
