//! Executes planned actions, and records their results.

use std::sync::Arc;
use std::time::Instant;

use mysimbdp_model::{error_chain, exit};
use mysimbdp_platform::process::{Child, ProcessError, ProcessId, Signal};
use mysimbdp_platform::{clock, failpoint, random};
use tokio::task::JoinError;

use super::stream::Stream;
use super::{BackgroundEnd, KILLED_WITHIN, Manager, ProcessEnd};
use crate::instances::{Record, Started};
use crate::key::{SlotKey, StreamKey};
use crate::plan::Action;
use crate::prepare::end_broker_session;
use crate::slot::{Ended, Instance, Restart, Slot, SlotEvent};
use crate::spawn::Launch;

impl Manager {
    pub(super) async fn execute(&mut self, key: &StreamKey, action: Action, broker_url: Option<&str>) {
        match action {
            Action::Start(slot) => self.start_instance(&key.slot(slot), broker_url).await,
            Action::Drain(slot) => self.apply(&key.slot(slot), SlotEvent::Drain),
            Action::SignalDrain(slot) => self.signal_drain(&key.slot(slot)),
            Action::Stop(slot) => self.stop(&key.slot(slot)),
            Action::Replace(slot) => self.replace(&key.slot(slot)),
            Action::Kill(slot) => self.kill(&key.slot(slot)),
            Action::Park(slot) => self.apply(&key.slot(slot), SlotEvent::Park),
        }
    }

    async fn start_instance(&mut self, key: &SlotKey, broker_url: Option<&str>) {
        let Some((stream, broker_url)) = self.streams.get(&key.stream).zip(broker_url) else { return };
        let launch = Launch::new(&self.config, &stream.client, &stream.config, broker_url);
        let fingerprint = launch.fingerprint();
        // The session is recorded before the process that creates it is started.
        let recorded = self.registry.write(&Record { key: key.clone(), process: None });
        failpoint::hit("stream-manager.slot-noted");
        let started = match recorded {
            Ok(()) => launch.start(key).await.map_err(|error| (error_chain(&error), error.is_exhausted())),
            Err(error) => Err((error_chain(&error), error.is_exhausted())),
        };
        match started {
            Ok(child) => self.started(key, child, fingerprint),
            Err((error, is_exhausted)) => {
                let Some(stream) = self.streams.get_mut(&key.stream) else { return };
                // The machine may lack a resource for hours: logged once.
                if !is_exhausted || stream.start_error.is_none() {
                    tracing::warn!(
                        client = %key.stream.client,
                        stream = key.stream.stream,
                        slot = key.slot,
                        error,
                        "instance not started"
                    );
                }
                stream.start_error = Some(error);
                self.apply(
                    key,
                    if is_exhausted { SlotEvent::StartExhausted } else { SlotEvent::StartFailed },
                );
            }
        }
    }

    fn started(&mut self, key: &SlotKey, child: Child, fingerprint: u64) {
        failpoint::hit("stream-manager.instance-started");
        let process = child.id();
        let started = Started { id: process, at: clock::now(), fingerprint };
        if let Err(error) = self.registry.write(&Record { key: key.clone(), process: Some(started) }) {
            // The next manager would find the process by its tag, and end it.
            tracing::error!(
                instance = %key,
                pid = process.pid,
                error = %error_chain(&error),
                "instance not recorded"
            );
        }
        failpoint::hit("stream-manager.instance-noted");
        let Some(stream) = self.streams.get_mut(&key.stream) else { return };
        stream.start_error = None;
        let crashes = stream.slots.get(key.slot as usize).map_or(0, Slot::crashes);
        let instance = Instance {
            process,
            started_at: started.at,
            since: Instant::now(),
            adopted: false,
            crashes,
            fingerprint,
        };
        tracing::info!(
            client = %key.stream.client,
            stream = key.stream.stream,
            slot = key.slot,
            pid = process.pid,
            "instance started"
        );
        self.processes.spawn(wait_for_child(key.clone(), child));
        self.apply(key, SlotEvent::Started(instance));
    }

    /// Signals the process to drain.
    fn signal_drain(&mut self, key: &SlotKey) {
        let Some((process, signal)) =
            self.process(key).zip(self.streams.get(&key.stream).map(|s| s.drain_signal(Instant::now())))
        else {
            return;
        };
        tracing::info!(
            client = %key.stream.client,
            stream = key.stream.stream,
            slot = key.slot,
            pid = process.pid,
            "instance is draining"
        );
        log_signal_error(key, process, process.signal(Signal::USR1));
        failpoint::hit("stream-manager.drain-requested");
        self.apply(key, SlotEvent::DrainSignalled(signal));
    }

    /// Ends the process and keeps the session.
    pub(super) fn stop(&mut self, key: &SlotKey) {
        let Some(process) = self.process(key) else { return };
        let kill_at = Instant::now() + self.config.settings.stream_manager.stop_grace.duration();
        tracing::info!(
            client = %key.stream.client,
            stream = key.stream.stream,
            slot = key.slot,
            pid = process.pid,
            "instance is stopping"
        );
        log_signal_error(key, process, process.signal_group(Signal::TERM));
        self.apply(key, SlotEvent::Stop { kill_at });
    }

    /// Stops an instance that hangs, so that its slot is started again.
    fn replace(&mut self, key: &SlotKey) {
        let Some(stream) = self.streams.get_mut(&key.stream) else { return };
        stream.count_restart(key.slot);
        tracing::warn!(
            client = %key.stream.client,
            stream = key.stream.stream,
            slot = key.slot,
            silence_max_seconds = stream.silence_max.as_secs_f64(),
            "instance reports nothing while the broker is connected, restarting it"
        );
        self.stop(key);
    }

    /// Kills a process that was asked to end and did not. The slot changes state when the end is noticed, not here.
    pub(super) fn kill(&mut self, key: &SlotKey) {
        let Some(process) = self.process(key) else { return };
        tracing::warn!(
            client = %key.stream.client,
            stream = key.stream.stream,
            slot = key.slot,
            pid = process.pid,
            "instance did not end in time, killed"
        );
        log_signal_error(key, process, process.signal_group(Signal::KILL));
        let retry_at = Instant::now() + KILLED_WITHIN;
        let Some(slot) = self.slot_mut(key) else { return };
        match slot {
            Slot::Draining { signal: Some(signal), .. } => signal.kill_at = retry_at,
            Slot::Stopping { kill_at, .. } => *kill_at = retry_at,
            _ => {}
        }
    }

    /// Applies an event to the slot.
    pub(super) fn apply(&mut self, key: &SlotKey, event: SlotEvent) {
        let restart = Restart::of(&self.config.settings.stream_manager, random::jitter());
        let Some(slot) = self.slot_mut(key) else { return };
        match slot.after(event, &restart, Instant::now()) {
            Ok(after) => *slot = after,
            Err(error) => {
                tracing::error!(instance = %key, error = %error_chain(&error), "slot state not changed")
            }
        }
    }

    pub(super) fn process_ended(&mut self, ended: Result<ProcessEnd, JoinError>) {
        let Ok(ProcessEnd { key, process, ended, status }) = ended.inspect_err(|error| {
            // The task panicked: only `stop_all` aborts tasks, and it does not read their results.
            tracing::error!(%error, "instance is no longer watched");
        }) else {
            return;
        };
        if self.process(&key) != Some(process) {
            return;
        }
        failpoint::hit("stream-manager.end-noticed");
        self.apply(&key, SlotEvent::Ended(ended));
        let Some(slot) = self.slot_mut(&key).cloned() else { return };
        let recorded = match slot {
            Slot::Empty => self.registry.remove(&key),
            _ => self.registry.write(&Record { key: key.clone(), process: None }),
        };
        if let Err(error) = recorded {
            tracing::error!(instance = %key, error = %error_chain(&error), "end of an instance not recorded");
        }
        failpoint::hit("stream-manager.end-noted");
        crate::metrics::ended(&key.stream, slot.crashes() > 0);
        self.log_end(&key, process, &slot, &status);
        if self.ending_sessions.remove(&key) && slot != Slot::Empty {
            self.begin_to_end_session(&key);
        }
        self.answer_waiting();
    }

    fn log_end(&mut self, key: &SlotKey, process: ProcessId, slot: &Slot, status: &str) {
        let (client, stream, number, pid) = (&key.stream.client, &key.stream.stream, key.slot, process.pid);
        match slot {
            Slot::BackingOff { until, crashes } => {
                let wait = until.saturating_duration_since(Instant::now()).as_secs_f64();
                tracing::warn!(
                    %client,
                    stream,
                    slot = number,
                    pid,
                    status,
                    crashes,
                    wait_seconds = %format_args!("{wait:.3}"),
                    "instance crashed, restarting it"
                );
            }
            Slot::GivenUp { crashes } => {
                tracing::error!(
                    %client,
                    stream,
                    slot = number,
                    pid,
                    status,
                    crashes,
                    "instance crashed too often, given up until start or scale"
                );
            }
            other => {
                tracing::info!(
                    %client,
                    stream,
                    slot = number,
                    pid,
                    status,
                    state = other.name(),
                    "instance ended"
                )
            }
        }
        if slot.crashes() > 0
            && let Some(stream) = self.streams.get_mut(&key.stream)
        {
            stream.count_restart(key.slot);
        }
    }

    fn begin_to_end_session(&mut self, key: &SlotKey) {
        let Some(stream) = self.streams.get_mut(&key.stream) else { return };
        // Nothing may be started in the slot meanwhile, as it would have the same client id.
        stream.prepared = false;
        let (config, client, settings) =
            (Arc::clone(&self.config), stream.client.clone(), stream.config.clone());
        let key = key.clone();
        self.background.spawn(async move {
            end_broker_session(config, client, settings, key.clone()).await;
            BackgroundEnd::SessionEnded { key }
        });
    }

    pub(super) fn background_ended(&mut self, ended: Result<BackgroundEnd, JoinError>) {
        match ended {
            Ok(BackgroundEnd::Stream { key, session, obstacle }) => {
                // Otherwise it was prepared for an earlier config, and is being prepared again.
                let is_latest = |stream: &Stream| Arc::ptr_eq(&stream.obstacle, &obstacle);
                if !self.streams.get(&key).is_some_and(is_latest) {
                    return;
                }
                if let Some(session) = session {
                    if let Err(error) = self.registry.write(&Record { key: session.clone(), process: None }) {
                        tracing::error!(instance = %session, error = %error_chain(&error), "session not recorded");
                    }
                    self.apply(&session, SlotEvent::Park);
                }
                if let Some(stream) = self.streams.get_mut(&key) {
                    stream.prepared = true;
                }
            }
            Ok(BackgroundEnd::SessionEnded { key }) => {
                self.apply(&key, SlotEvent::SessionEnded);
                if let Err(error) = self.registry.remove(&key) {
                    tracing::error!(instance = %key, error = %error_chain(&error), "end of a session not recorded");
                }
                if let Some(stream) = self.streams.get_mut(&key.stream) {
                    stream.prepared = true;
                }
                self.answer_waiting();
            }
            Ok(BackgroundEnd::Orphan) => {}
            // The task panicked: only `stop_all` aborts tasks, and it does not read their results.
            Err(error) => tracing::error!(%error, "preparation failed"),
        }
    }

    pub(super) fn process(&self, key: &SlotKey) -> Option<ProcessId> {
        let slot = self.streams.get(&key.stream)?.slots.get(key.slot as usize)?;
        slot.instance().map(|instance| instance.process)
    }

    fn slot_mut(&mut self, key: &SlotKey) -> Option<&mut Slot> {
        self.streams.get_mut(&key.stream)?.slots.get_mut(key.slot as usize)
    }

    /// Records the desired number, so that the next manager continues with it.
    pub(super) fn record_desired(&self, key: &StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        if let Err(error) = self.registry.write_desired(&stream.desired()) {
            tracing::error!(stream = %key, error = %error_chain(&error), "desired number not recorded");
        }
        failpoint::hit("stream-manager.desired-noted");
    }
}

/// Logs a signal that failed. If the process has ended already, the task that waits for it notices.
fn log_signal_error(key: &SlotKey, process: ProcessId, result: Result<(), ProcessError>) {
    match result {
        Ok(()) | Err(ProcessError::Ended { .. }) => {}
        Err(error) => {
            tracing::error!(
                instance = %key,
                pid = process.pid,
                error = %error_chain(&error),
                "instance not signalled"
            )
        }
    }
}

async fn wait_for_child(key: SlotKey, mut child: Child) -> ProcessEnd {
    let process = child.id();
    let (ended, status) = match child.wait().await {
        Ok(status) if status.success() => (Ended::Clean, status.to_string()),
        Ok(status) if status.code() == Some(i32::from(exit::OS_ERROR)) => {
            (Ended::Exhausted, status.to_string())
        }
        Ok(status) => (Ended::Failed, status.to_string()),
        Err(error) => (Ended::Unknown, error_chain(&error)),
    };
    ProcessEnd { key, process, ended, status }
}
