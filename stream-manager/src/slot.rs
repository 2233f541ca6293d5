//! The state of a slot, the numbered place of one instance of a stream, and its legal transitions.
//!
//! A slot has a fixed MQTT client id, and so at most one session at the broker, which keeps queuing messages while no
//! process runs. This is why a slot without a process is not always empty: only a drain that completed cleanly ends the
//! session too. All transitions are in [`Slot::after`].

use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mysimbdp_config::settings;
use mysimbdp_platform::process::ProcessId;

/// A start that failed for lack of resources is tried again after about this long.
const EXHAUSTED_WAIT: Duration = Duration::from_secs(5);

/// The state of a slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Slot {
    /// No process, and no session at the broker.
    #[default]
    Empty,
    /// No process, but the broker keeps the session and queues messages for it.
    Idle,
    Running(Instance),
    /// The process is to handle what is left, end its session and exit. `signal` is `None` until it has been signalled.
    Draining {
        instance: Instance,
        signal: Option<DrainSignal>,
    },
    /// The process has been signalled to store the messages it has received and exit; the session stays.
    Stopping {
        instance: Instance,
        kill_at: Instant,
    },
    /// The process crashed; it is restarted at `until`.
    BackingOff {
        until: Instant,
        crashes: u32,
    },
    /// The process crashed too often; a person has to intervene.
    GivenUp {
        crashes: u32,
    },
}

/// A process in a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instance {
    pub process: ProcessId,
    /// Only shown to people.
    pub started_at: Timestamp,
    /// When this manager started or adopted it.
    pub since: Instant,
    /// This manager found it running, so its exit status will never be known.
    pub adopted: bool,
    /// How many times in a row the slot had crashed when this process was started.
    pub crashes: u32,
    /// Fingerprint of the program, arguments and environment that it was started with.
    pub fingerprint: u64,
}

/// When a drain was signalled, and when it is killed if it has not ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrainSignal {
    pub at: Instant,
    pub kill_at: Instant,
}

/// An event that changes the state of a slot.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotEvent {
    /// A process was started or adopted.
    Started(Instance),
    /// The program could not be run.
    StartFailed,
    /// The machine lacks a resource that a start needs, such as disk space for its record.
    StartExhausted,
    /// The process is to end and to leave no session at the broker.
    Drain,
    /// The process has been sent the signal to drain.
    DrainSignalled(DrainSignal),
    /// The process is to end; the broker keeps queuing for the slot.
    Stop {
        kill_at: Instant,
    },
    Ended(Ended),
    /// A session exists, or is being created, but no process is to run.
    Park,
    /// The broker has removed the session.
    SessionEnded,
    /// A person has asked for another attempt.
    Revive,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Exit status 0.
    Clean,
    /// Exit status 71: the system refused it threads or processes.
    Exhausted,
    /// Any other exit status, or a signal.
    Failed,
    /// The process was adopted, and only its parent learns the exit status.
    Unknown,
}

/// When a crashed instance is restarted.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    pub backoff_first: Duration,
    pub backoff_max: Duration,
    pub crashes_max: u32,
    /// A factor around 1 that keeps slots that crashed together from restarting together.
    pub jitter: f64,
}

/// A bug in this program: the event is not legal in the slot's state.
#[derive(Debug, thiserror::Error)]
#[error("event {event:?} is not allowed in slot state {slot}")]
pub struct IllegalMove {
    slot: &'static str,
    event: SlotEvent,
}

impl Slot {
    /// Returns the state of the slot after `event`.
    ///
    /// # Errors
    ///
    /// If the event is not legal in this state.
    pub fn after(&self, event: SlotEvent, restart: &Restart, now: Instant) -> Result<Self, IllegalMove> {
        let crash = |crashes| restart.crashed(crashes, now);
        Ok(match (self.clone(), event) {
            (Self::Empty | Self::Idle | Self::BackingOff { .. }, SlotEvent::Started(instance)) => {
                Self::Running(instance)
            }
            (Self::Empty | Self::Idle, SlotEvent::StartFailed) => crash(1),
            (Self::BackingOff { crashes, .. }, SlotEvent::StartFailed) => crash(crashes.saturating_add(1)),
            // Never given up: no number of such failures says anything about the app.
            (slot @ (Self::Empty | Self::Idle | Self::BackingOff { .. }), SlotEvent::StartExhausted) => {
                Self::BackingOff { until: now + restart.exhausted_wait(), crashes: slot.crashes() }
            }

            (Self::Running(instance), SlotEvent::Drain) => Self::Draining { instance, signal: None },
            (Self::Draining { instance, .. }, SlotEvent::DrainSignalled(signal)) => {
                Self::Draining { instance, signal: Some(signal) }
            }
            (
                Self::Running(instance) | Self::Draining { instance, .. } | Self::Stopping { instance, .. },
                SlotEvent::Stop { kill_at },
            ) => Self::Stopping { instance, kill_at },

            (Self::Draining { signal: Some(_), .. }, SlotEvent::Ended(Ended::Clean)) => Self::Empty,
            (Self::Stopping { .. }, SlotEvent::Ended(_)) => Self::Idle,
            // However long that lasts, it alone does not make anybody give the slot up.
            (
                Self::Running(instance) | Self::Draining { instance, .. },
                SlotEvent::Ended(Ended::Exhausted),
            ) => {
                let most = instance.crashes.max(restart.crashes_max / 2).max(1);
                crash(instance.crashes.saturating_add(1).min(most))
            }
            // The process ended without being asked, or before it ended its session: messages still wait for the slot.
            (Self::Running(instance) | Self::Draining { instance, .. }, SlotEvent::Ended(_)) => {
                let ran_long_enough = now.saturating_duration_since(instance.since) >= restart.backoff_max;
                crash(if ran_long_enough { 1 } else { instance.crashes.saturating_add(1) })
            }

            (Self::Empty | Self::BackingOff { .. }, SlotEvent::Park) => Self::Idle,
            (Self::BackingOff { .. } | Self::GivenUp { .. }, SlotEvent::Revive) => Self::Idle,
            (Self::Idle | Self::BackingOff { .. } | Self::GivenUp { .. }, SlotEvent::SessionEnded) => {
                Self::Empty
            }
            (slot, event) => return Err(IllegalMove { slot: slot.name(), event }),
        })
    }

    /// The process in the slot.
    pub fn instance(&self) -> Option<&Instance> {
        match self {
            Self::Running(instance) | Self::Draining { instance, .. } | Self::Stopping { instance, .. } => {
                Some(instance)
            }
            Self::Empty | Self::Idle | Self::BackingOff { .. } | Self::GivenUp { .. } => None,
        }
    }

    /// The number of crashes in a row.
    pub fn crashes(&self) -> u32 {
        match self {
            Self::BackingOff { crashes, .. } | Self::GivenUp { crashes } => *crashes,
            other => other.instance().map_or(0, |instance| instance.crashes),
        }
    }

    /// Whether the slot counts towards the desired number.
    pub fn counts_as_desired(&self) -> bool {
        matches!(self, Self::Running(_) | Self::BackingOff { .. } | Self::GivenUp { .. })
    }

    /// Whether the session will still exist once everything in progress has ended.
    pub fn keeps_session(&self) -> bool {
        !matches!(self, Self::Empty | Self::Draining { .. })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Idle => "parked",
            Self::Running(_) => "running",
            Self::Draining { .. } => "draining",
            Self::Stopping { .. } => "stopping",
            Self::BackingOff { .. } => "backing-off",
            Self::GivenUp { .. } => "given-up",
        }
    }
}

impl Restart {
    pub fn of(settings: &settings::StreamManager, jitter: f64) -> Self {
        Self {
            backoff_first: settings.backoff_first.duration(),
            backoff_max: settings.backoff_max.duration(),
            crashes_max: settings.restarts_max,
            jitter,
        }
    }

    fn exhausted_wait(&self) -> Duration {
        EXHAUSTED_WAIT.min(self.backoff_max).mul_f64(self.jitter)
    }

    fn crashed(&self, crashes: u32, now: Instant) -> Slot {
        if crashes > self.crashes_max {
            return Slot::GivenUp { crashes };
        }
        // 2^20 times any sensible first wait exceeds any sensible maximum.
        let wait = self.backoff_first.saturating_mul(1 << (crashes - 1).min(20)).min(self.backoff_max);
        Slot::BackingOff { until: now + wait.mul_f64(self.jitter), crashes }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::Exhausted => "exhausted",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn instance(since: Instant) -> Instance {
        Instance {
            process: ProcessId { pid: 4711, start_time: 1 },
            started_at: Timestamp::UNIX_EPOCH,
            since,
            adopted: false,
            crashes: 0,
            fingerprint: 7,
        }
    }

    pub(crate) fn restart() -> Restart {
        Restart {
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            crashes_max: 10,
            jitter: 1.0,
        }
    }

    fn signal(now: Instant) -> DrainSignal {
        DrainSignal { at: now, kill_at: now }
    }

    #[test]
    fn only_a_clean_end_of_a_signalled_drain_leaves_the_slot_empty() {
        let now = Instant::now();
        let draining = |signal| Slot::Draining { instance: instance(now), signal };
        let after = |slot: Slot, ended| slot.after(SlotEvent::Ended(ended), &restart(), now).expect("legal");
        assert_eq!(after(draining(Some(signal(now))), Ended::Clean), Slot::Empty);
        for (slot, ended) in [
            (draining(Some(signal(now))), Ended::Failed),
            (draining(Some(signal(now))), Ended::Unknown),
            (draining(None), Ended::Clean),
            (Slot::Running(instance(now)), Ended::Clean),
        ] {
            assert!(
                matches!(after(slot.clone(), ended), Slot::BackingOff { crashes: 1, .. }),
                "{slot:?} {ended:?}"
            );
        }
        for ended in [Ended::Clean, Ended::Exhausted, Ended::Failed, Ended::Unknown] {
            assert_eq!(after(Slot::Stopping { instance: instance(now), kill_at: now }, ended), Slot::Idle);
        }
    }

    #[test]
    fn backoff_doubles_up_to_its_maximum_and_then_the_slot_is_given_up() {
        let now = Instant::now();
        let (mut slot, mut waits) = (Slot::Empty, Vec::new());
        while !matches!(slot, Slot::GivenUp { .. }) {
            let started = SlotEvent::Started(Instance { crashes: slot.crashes(), ..instance(now) });
            slot = slot.after(started, &restart(), now).expect("legal");
            slot = slot.after(SlotEvent::Ended(Ended::Failed), &restart(), now).expect("legal");
            if let Slot::BackingOff { until, .. } = slot {
                waits.push((until - now).as_secs());
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(slot.after(SlotEvent::Revive, &restart(), now).expect("legal"), Slot::Idle);
    }

    #[test]
    fn an_instance_that_ran_long_enough_resets_the_crash_count() {
        let start = Instant::now();
        let running = Slot::Running(Instance { crashes: 9, ..instance(start) });
        let after = |seconds| {
            let now = start + Duration::from_secs(seconds);
            running.after(SlotEvent::Ended(Ended::Failed), &restart(), now).expect("legal").crashes()
        };
        assert_eq!((after(59), after(60)), (10, 1));
    }

    #[test]
    fn a_slot_whose_program_cannot_be_run_backs_off_too() {
        let now = Instant::now();
        let mut slot = Slot::Idle;
        for crashes in 1..=10 {
            slot = slot.after(SlotEvent::StartFailed, &restart(), now).expect("legal");
            assert_eq!((slot.name(), slot.crashes()), ("backing-off", crashes));
        }
        assert_eq!(slot.after(SlotEvent::StartFailed, &restart(), now).expect("legal").name(), "given-up");
    }

    #[test]
    fn a_start_that_fails_for_lack_of_resources_is_retried_for_ever() {
        let now = Instant::now();
        let mut slot = Slot::BackingOff { until: now, crashes: 2 };
        for _ in 0..1000 {
            slot = slot.after(SlotEvent::StartExhausted, &restart(), now).expect("legal");
            assert_eq!((slot.name(), slot.crashes()), ("backing-off", 2));
        }
    }

    #[test]
    fn an_instance_that_is_refused_threads_is_never_given_up_for_that() {
        let now = Instant::now();
        let mut slot = Slot::Idle;
        for _ in 0..1000 {
            let started = SlotEvent::Started(Instance { crashes: slot.crashes(), ..instance(now) });
            slot = slot.after(started, &restart(), now).expect("legal");
            slot = slot.after(SlotEvent::Ended(Ended::Exhausted), &restart(), now).expect("legal");
            assert_eq!(slot.name(), "backing-off");
        }
        assert_eq!(slot.crashes(), restart().crashes_max / 2, "some crashes are left before it is given up");
    }

    #[test]
    fn illegal_events_are_refused() {
        let now = Instant::now();
        let events = [
            (Slot::Running(instance(now)), SlotEvent::Started(instance(now))),
            (Slot::GivenUp { crashes: 3 }, SlotEvent::Started(instance(now))),
            (Slot::Empty, SlotEvent::Ended(Ended::Clean)),
            (Slot::Empty, SlotEvent::Drain),
            (Slot::Stopping { instance: instance(now), kill_at: now }, SlotEvent::Drain),
            (Slot::Running(instance(now)), SlotEvent::DrainSignalled(signal(now))),
        ];
        for (slot, event) in events {
            assert!(slot.after(event.clone(), &restart(), now).is_err(), "{slot:?} {event:?}");
        }
    }
}
