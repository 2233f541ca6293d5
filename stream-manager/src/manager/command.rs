//! Carries out a person's requests.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mysimbdp_model::client::ClientId;
use mysimbdp_platform::clock;
use mysimbdp_platform::process::ProcessId;

use super::Manager;
use super::stream::Stream;
use crate::control::answers::Seen;
use crate::control::waiting::{Condition, Waiting};
use crate::control::{Answer, Auto, Call, ControlCommand, End, Refusal, Request, RequestOutcome, Scale};
use crate::key::{SlotKey, StreamKey};
use crate::slot::{Slot, SlotEvent};

/// A request that needs the broker or the store is refused after this long if that is unavailable. It is still carried out
/// as soon as that is available again.
const OUTAGE_REPORTED_AFTER: Duration = Duration::from_secs(3);

/// A command is answered now, or once a condition is met.
enum Step {
    Done(Answer),
    Wait(Condition),
}

impl Manager {
    pub(super) fn handle_request(&mut self, Call { request, reply }: Call) {
        if self.answers.register(&request.id, reply) != Seen::New {
            return;
        }
        let Request { id, expires_at, command } = request;
        let left = Duration::try_from(expires_at.duration_since(clock::now())).unwrap_or_default();
        if left.is_zero() {
            return self.answers.answer(&id, Refusal::Expired.into());
        }
        let described = serde_json::to_string(&command).unwrap_or_default();
        match command {
            // A list changes nothing, and programs request it again and again.
            ControlCommand::List { .. } => tracing::debug!(id, command = described, "request received"),
            _ => tracing::info!(id, command = described, "request received"),
        }
        match self.run(command) {
            Ok(Step::Done(answer)) => self.answers.answer(&id, RequestOutcome::Answer(answer)),
            Ok(Step::Wait(condition)) => {
                let since = Instant::now();
                self.waiting.push(Waiting { id, since, until: since + left, condition });
            }
            Err(refusal) => self.answers.answer(&id, refusal.into()),
        }
    }

    fn run(&mut self, command: ControlCommand) -> Result<Step, Refusal> {
        match command {
            ControlCommand::Start { client, pid, stream } => self.start_one(&client, pid, stream),
            ControlCommand::Stop { client, pid, forget } => {
                let (key, process) = self.remove_instance(&client, pid, forget)?;
                Ok(Step::Wait(Condition::Stop { key, process, forget }))
            }
            ControlCommand::Drain { client, pid } => {
                let (SlotKey { stream, slot }, _) = self.remove_instance(&client, pid, false)?;
                Ok(Step::Done(Answer::Draining { client, stream: stream.stream, slot, pid }))
            }
            ControlCommand::Scale { client, stream, instances } => {
                self.scale_to(&client, stream, instances).map(Step::Done)
            }
            ControlCommand::List { client } => self.list(client.as_ref()).map(Step::Done),
        }
    }

    fn start_one(&mut self, client: &ClientId, pid: u32, stream: Option<String>) -> Result<Step, Refusal> {
        if pid != 0 {
            return Err(Refusal::PidOfNone { pid });
        }
        let all_max = self.config.settings.stream_manager.instances_max;
        let may_start = self.may_start();
        let key = self.stream_of(client, stream)?;
        let stream = self.streams.get_mut(&key).ok_or_else(|| no_streams(client))?;
        let before: BTreeSet<u32> =
            stream.slots.iter().filter_map(Slot::instance).map(|instance| instance.process.pid).collect();
        let given_up =
            stream.numbered().find(|(_, slot)| matches!(slot, Slot::GivenUp { .. })).map(|(slot, _)| slot);
        if may_start == 0 {
            return Err(Refusal::AllMaxReached { max: all_max });
        }
        match given_up {
            // A slot that was given up already counts towards the desired number.
            Some(slot) => self.apply(&key.slot(slot), SlotEvent::Revive),
            None if stream.memory.desired >= stream.policy.bounds.max => {
                let max = stream.policy.bounds.max;
                return Err(Refusal::MaxReached { client: key.client, stream: key.stream, max });
            }
            None => {
                let desired = stream.memory.desired + 1;
                self.set_manual_number(&key, desired);
                self.restore_session(&key);
            }
        }
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.start_error = None;
        }
        Ok(Step::Wait(Condition::Start { stream: key, before }))
    }

    /// Begins to remove the instance with this pid if it is running, and lowers the desired number to what remains. An
    /// instance that is already ending is left alone.
    fn remove_instance(
        &mut self,
        client: &ClientId,
        pid: u32,
        forget: bool,
    ) -> Result<(SlotKey, ProcessId), Refusal> {
        self.streams_of(client)?;
        let of_client = |key: &SlotKey| key.stream.client == *client;
        let instances = self.slots().filter_map(|(key, state)| Some((key, state.instance()?.process)));
        let ours: Vec<(SlotKey, ProcessId)> = instances.filter(|(key, _)| of_client(key)).collect();
        let Some((key, process)) = ours.iter().find(|(_, process)| process.pid == pid && pid != 0).cloned()
        else {
            let (ours, client) = (ours.iter().map(|(_, process)| process.pid).collect(), client.clone());
            return Err(if pid == 0 {
                Refusal::NoPid { client, ours }
            } else {
                Refusal::NotOurs { pid, client, ours }
            });
        };
        let Some(stream) = self.streams.get(&key.stream) else { return Err(no_streams(client)) };
        let is_last = stream.is_last(key.slot);
        if stream.running().contains(&key.slot) {
            let others = stream.count(Slot::counts_as_desired).saturating_sub(1);
            let desired = stream.memory.desired.saturating_sub(1).min(others);
            self.set_manual_number(&key.stream, desired);
            if forget {
                self.ending_sessions.insert(key.clone());
            }
            if is_last && forget {
                tracing::warn!(
                    instance = %key,
                    pid,
                    "last session ends: messages published from now on are not kept for the client"
                );
            }
            if is_last && !forget { self.stop(&key) } else { self.apply(&key, SlotEvent::Drain) }
        }
        Ok((key, process))
    }

    fn scale_to(&mut self, client: &ClientId, stream: Option<String>, to: Scale) -> Result<Answer, Refusal> {
        let key = self.stream_of(client, stream)?;
        let stream = self.streams.get_mut(&key).ok_or_else(|| no_streams(client))?;
        let bounds = stream.policy.bounds;
        let given_up: Vec<u32> = stream
            .numbered()
            .filter(|(_, slot)| matches!(slot, Slot::GivenUp { .. }))
            .map(|(slot, _)| slot)
            .collect();
        match to {
            Scale::Count(desired) if desired > bounds.max => {
                return Err(Refusal::MaxReached { client: key.client, stream: key.stream, max: bounds.max });
            }
            Scale::Count(desired) => self.set_manual_number(&key, desired),
            Scale::Auto(Auto::Auto) => {
                stream.is_manual = false;
                let desired = bounds.clamp(stream.memory.desired);
                stream.memory.set(desired, Instant::now());
                self.record_desired(&key);
            }
        }
        self.restore_session(&key);
        for slot in given_up {
            self.apply(&key.slot(slot), SlotEvent::Revive);
        }
        let stream = self.streams.get(&key).ok_or_else(|| no_streams(client))?;
        let (desired, is_manual) = (stream.memory.desired, stream.is_manual);
        Ok(Answer::Scaled { client: key.client, stream: key.stream, desired, is_manual })
    }

    fn list(&self, client: Option<&ClientId>) -> Result<Answer, Refusal> {
        if let Some(client) = client {
            self.streams_of(client)?;
        }
        let broker = self.broker_obstacle();
        let streams =
            self.streams.values().filter(|stream| client.is_none_or(|client| stream.key.client == *client));
        Ok(Answer::Listed { streams: streams.map(|stream| stream.status(broker.as_deref())).collect() })
    }

    /// Begins to create a session again for a stream whose last session a person has ended.
    fn restore_session(&mut self, key: &StreamKey) {
        if self.streams.get(key).is_some_and(|stream| stream.prepared && stream.is_empty()) {
            self.begin_to_prepare(key);
        }
    }

    fn set_manual_number(&mut self, key: &StreamKey, desired: u32) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        tracing::info!(
            client = %key.client,
            stream = key.stream,
            from = stream.memory.desired,
            to = desired,
            "number set by manual override"
        );
        crate::metrics::scaled(key, stream.memory.desired, desired);
        stream.decisions.note_manual(stream.memory.desired, desired);
        stream.memory.set(desired, Instant::now());
        stream.is_manual = true;
        self.record_desired(key);
    }

    fn stream_of(&self, client: &ClientId, stream: Option<String>) -> Result<StreamKey, Refusal> {
        let mut streams = self.streams_of(client)?;
        match stream {
            Some(stream) if streams.contains(&stream) => Ok(StreamKey { client: client.clone(), stream }),
            Some(stream) => Err(Refusal::UnknownStream { client: client.clone(), stream, streams }),
            None if streams.len() > 1 => Err(Refusal::WhichStream { client: client.clone(), streams }),
            None => {
                let stream = streams.pop().ok_or_else(|| no_streams(client))?;
                Ok(StreamKey { client: client.clone(), stream })
            }
        }
    }

    /// Returns the names of the client's streams, at least one.
    fn streams_of(&self, client: &ClientId) -> Result<Vec<String>, Refusal> {
        let Some(config) = self.config.client(client) else {
            let known = self.config.clients.keys().cloned().collect();
            return Err(Refusal::UnknownClient { client: client.clone(), known });
        };
        let names: Vec<String> = config.streams.iter().map(|stream| stream.name.clone()).collect();
        if names.is_empty() { Err(no_streams(client)) } else { Ok(names) }
    }

    /// Answers the requests whose condition is met, or whose time is up.
    pub(super) fn answer_waiting(&mut self) {
        let now = Instant::now();
        let mut claimed = BTreeSet::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            if let Condition::Start { before, .. } = &mut waiting.condition {
                // Two requests at the same time each get a process of their own.
                before.extend(&claimed);
            }
            let reports_outage = now >= waiting.since + OUTAGE_REPORTED_AFTER;
            match self.outcome(&waiting.condition, now >= waiting.until, reports_outage) {
                Some(outcome) => {
                    if let RequestOutcome::Answer(Answer::Started { pid, .. }) = &outcome {
                        claimed.insert(*pid);
                    }
                    self.answers.answer(&waiting.id, outcome);
                }
                None => self.waiting.push(waiting),
            }
        }
    }

    /// If `reports_outage`, an unavailable broker or store is a reason to answer now; the request is still carried out.
    fn outcome(&self, condition: &Condition, expired: bool, reports_outage: bool) -> Option<RequestOutcome> {
        let (Condition::Start { stream: of, .. } | Condition::Stop { key: SlotKey { stream: of, .. }, .. }) =
            condition;
        let Some(stream) = self.streams.get(of) else { return Some(no_streams(&of.client).into()) };
        match condition {
            Condition::Start { before, .. } => self.start_outcome(stream, before, expired, reports_outage),
            Condition::Stop { key, process, forget } => {
                let (SlotKey { stream: StreamKey { client, stream: name }, slot }, pid) =
                    (key.clone(), process.pid);
                if self.process(key) == Some(*process) {
                    // The instance needs a broker to end its subscription and to receive what is left.
                    let waits_for = self.broker_obstacle().filter(|_| reports_outage);
                    let is_over = expired || waits_for.is_some();
                    return is_over.then(|| Refusal::StillDraining { client, pid, waits_for }.into());
                }
                let (state, manual_number) = (stream.slots.get(slot as usize)?, stream.manual_number());
                let end = match state {
                    Slot::Empty if *forget => End::Forgotten,
                    Slot::Empty => End::Drained,
                    // The session has not been ended at the broker yet.
                    _ if *forget && !expired => return None,
                    Slot::Idle => End::SessionKept,
                    _ => End::Unfinished,
                };
                Some(RequestOutcome::Answer(Answer::Stopped {
                    client,
                    stream: name,
                    slot,
                    pid,
                    end,
                    manual_number,
                }))
            }
        }
    }

    /// Why the broker is unavailable now.
    fn broker_obstacle(&self) -> Option<String> {
        self.broker.obstacle()
    }

    fn start_outcome(
        &self,
        stream: &Stream,
        before: &BTreeSet<u32>,
        expired: bool,
        reports_outage: bool,
    ) -> Option<RequestOutcome> {
        let StreamKey { client, stream: name } = stream.key.clone();
        let new = stream.numbered().find_map(|(slot, state)| match state {
            Slot::Running(instance) if !before.contains(&instance.process.pid) => {
                Some((slot, instance.process.pid))
            }
            _ => None,
        });
        if let Some((slot, pid)) = new {
            let manual_number = stream.manual_number();
            return Some(RequestOutcome::Answer(Answer::Started {
                client,
                stream: name,
                slot,
                pid,
                manual_number,
            }));
        }
        if let Some(reason) = stream.start_error.clone() {
            return Some(Refusal::CannotStart { client, stream: name, reason }.into());
        }
        let obstacle = stream.obstacle().or_else(|| self.broker_obstacle()).filter(|_| reports_outage);
        let is_over = expired || obstacle.is_some();
        let waits_for = obstacle.unwrap_or_else(|| match stream.prepared {
            true => "its slot is not free yet".to_owned(),
            false => "its collections in the store and its session at the broker are still being created"
                .to_owned(),
        });
        is_over.then(|| Refusal::StillStarting { client, stream: name, waits_for }.into())
    }
}

fn no_streams(client: &ClientId) -> Refusal {
    Refusal::NoStreams { client: client.clone() }
}
