//! A numbered place for one instance of a stream, and how what is in it may change.
//!
//! A slot has a fixed MQTT client id, and so at most one session at the broker, which goes on queuing messages while
//! no process runs. This is why a slot that has no process is not always empty: only a drain that ended in order ends the
//! session too. All moves are in [`Slot::after`].

use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mysimbdp_config::settings;
use mysimbdp_platform::process::ProcessId;

/// A start that the machine has hindered is tried again after about this long.
const HINDERED_WAIT: Duration = Duration::from_secs(5);

/// What is in a slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Slot {
    /// No process, and no session at the broker.
    #[default]
    Empty,
    /// No process, but the broker keeps the session and queues for it.
    Parked,
    Running(Instance),
    /// To take what is left, end its session and exit; it has been told so if `told` says when.
    Draining {
        instance: Instance,
        told: Option<Told>,
    },
    /// Told to store what it has taken and exit; the session stays.
    Stopping {
        instance: Instance,
        kill_at: Instant,
    },
    /// Crashed; started again at `until`.
    BackingOff {
        until: Instant,
        crashes: u32,
    },
    /// Crashed too often; a person has to look.
    GivenUp {
        crashes: u32,
    },
}

/// A process in a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instance {
    pub process: ProcessId,
    /// For people.
    pub started_at: Timestamp,
    /// When this manager started or found it.
    pub since: Instant,
    /// Found running by this manager, so nobody will learn its exit status.
    pub adopted: bool,
    /// How often the slot had crashed in a row when it was started.
    pub crashes: u32,
    /// Of the program, arguments and environment that it was started with.
    pub fingerprint: u64,
}

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    pub at: Instant,
    pub kill_at: Instant,
}

/// What happens to a slot.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A process was started, or found from before.
    Started(Instance),
    /// Its program could not be run.
    StartFailed,
    /// The machine had not what a start needs, such as room for its record.
    StartHindered,
    /// It is to end and to leave nothing behind at the broker.
    Drain,
    /// It has been sent the signal for that.
    Told(Told),
    /// It is to end; the broker goes on queuing for it.
    Stop {
        kill_at: Instant,
    },
    Ended(Ended),
    /// There is a session, or will be one still, but nothing is to run.
    Park,
    /// The broker has been made to forget the session.
    Forgotten,
    /// A person wants it tried again.
    Revive,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Exit status 0.
    Clean,
    /// Any other, or a signal.
    Failed,
    /// It was adopted: only its parent would be told.
    Unknown,
}

/// When a crashed instance is started again.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    pub backoff_first: Duration,
    pub backoff_max: Duration,
    pub crashes_max: u32,
    /// Factor around 1 that keeps slots which crashed together from restarting together.
    pub jitter: f64,
}

/// A fault of this program: the event does not fit the slot.
#[derive(Debug, thiserror::Error)]
#[error("a slot that is {slot} cannot take the event {event:?}")]
pub struct IllegalMove {
    slot: &'static str,
    event: Event,
}

impl Slot {
    /// What is in the slot after `event`.
    ///
    /// # Errors
    ///
    /// The event does not fit.
    pub fn after(&self, event: Event, restart: &Restart, now: Instant) -> Result<Self, IllegalMove> {
        let crash = |crashes| restart.crashed(crashes, now);
        Ok(match (self.clone(), event) {
            (Self::Empty | Self::Parked | Self::BackingOff { .. }, Event::Started(instance)) => {
                Self::Running(instance)
            }
            (Self::Empty | Self::Parked, Event::StartFailed) => crash(1),
            (Self::BackingOff { crashes, .. }, Event::StartFailed) => crash(crashes.saturating_add(1)),
            // However often: no number of these says anything about the app.
            (slot @ (Self::Empty | Self::Parked | Self::BackingOff { .. }), Event::StartHindered) => {
                Self::BackingOff { until: now + restart.hindered_wait(), crashes: slot.crashes() }
            }

            (Self::Running(instance), Event::Drain) => Self::Draining { instance, told: None },
            (Self::Draining { instance, .. }, Event::Told(told)) => {
                Self::Draining { instance, told: Some(told) }
            }
            (
                Self::Running(instance) | Self::Draining { instance, .. } | Self::Stopping { instance, .. },
                Event::Stop { kill_at },
            ) => Self::Stopping { instance, kill_at },

            (Self::Draining { told: Some(_), .. }, Event::Ended(Ended::Clean)) => Self::Empty,
            (Self::Stopping { .. }, Event::Ended(_)) => Self::Parked,
            // One that ended unasked, or before its session could be ended: messages still wait for the slot.
            (Self::Running(instance) | Self::Draining { instance, .. }, Event::Ended(_)) => {
                let lasted = now.saturating_duration_since(instance.since) >= restart.backoff_max;
                crash(if lasted { 1 } else { instance.crashes.saturating_add(1) })
            }

            (Self::Empty | Self::BackingOff { .. }, Event::Park) => Self::Parked,
            (Self::BackingOff { .. } | Self::GivenUp { .. }, Event::Revive) => Self::Parked,
            (Self::Parked | Self::BackingOff { .. } | Self::GivenUp { .. }, Event::Forgotten) => Self::Empty,
            (slot, event) => return Err(IllegalMove { slot: slot.name(), event }),
        })
    }

    /// The process that is in it.
    pub fn instance(&self) -> Option<&Instance> {
        match self {
            Self::Running(instance) | Self::Draining { instance, .. } | Self::Stopping { instance, .. } => {
                Some(instance)
            }
            Self::Empty | Self::Parked | Self::BackingOff { .. } | Self::GivenUp { .. } => None,
        }
    }

    /// Crashes in a row.
    pub fn crashes(&self) -> u32 {
        match self {
            Self::BackingOff { crashes, .. } | Self::GivenUp { crashes } => *crashes,
            other => other.instance().map_or(0, |instance| instance.crashes),
        }
    }

    /// Whether it counts towards the wanted number.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Running(_) | Self::BackingOff { .. } | Self::GivenUp { .. })
    }

    /// Whether its session will still be there when all that is under way has ended.
    pub fn keeps_session(&self) -> bool {
        !matches!(self, Self::Empty | Self::Draining { .. })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Parked => "parked",
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

    fn hindered_wait(&self) -> Duration {
        HINDERED_WAIT.min(self.backoff_max).mul_f64(self.jitter)
    }

    fn crashed(&self, crashes: u32, now: Instant) -> Slot {
        if crashes > self.crashes_max {
            return Slot::GivenUp { crashes };
        }
        // 2^20 times anything sensible is beyond any maximum.
        let wait = self.backoff_first.saturating_mul(1 << (crashes - 1).min(20)).min(self.backoff_max);
        Slot::BackingOff { until: now + wait.mul_f64(self.jitter), crashes }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
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

    fn told(now: Instant) -> Told {
        Told { at: now, kill_at: now }
    }

    #[test]
    fn only_a_clean_end_of_a_drain_that_was_told_leaves_the_slot_empty() {
        let now = Instant::now();
        let draining = |told| Slot::Draining { instance: instance(now), told };
        let after = |slot: Slot, ended| slot.after(Event::Ended(ended), &restart(), now).expect("legal");
        assert_eq!(after(draining(Some(told(now))), Ended::Clean), Slot::Empty);
        for (slot, ended) in [
            (draining(Some(told(now))), Ended::Failed),
            (draining(Some(told(now))), Ended::Unknown),
            (draining(None), Ended::Clean),
            (Slot::Running(instance(now)), Ended::Clean),
        ] {
            assert!(
                matches!(after(slot.clone(), ended), Slot::BackingOff { crashes: 1, .. }),
                "{slot:?} {ended:?}"
            );
        }
        for ended in [Ended::Clean, Ended::Failed, Ended::Unknown] {
            assert_eq!(after(Slot::Stopping { instance: instance(now), kill_at: now }, ended), Slot::Parked);
        }
    }

    #[test]
    fn back_off_doubles_up_to_its_maximum_and_then_the_slot_is_given_up() {
        let now = Instant::now();
        let (mut slot, mut waits) = (Slot::Empty, Vec::new());
        while !matches!(slot, Slot::GivenUp { .. }) {
            let started = Event::Started(Instance { crashes: slot.crashes(), ..instance(now) });
            slot = slot.after(started, &restart(), now).expect("legal");
            slot = slot.after(Event::Ended(Ended::Failed), &restart(), now).expect("legal");
            if let Slot::BackingOff { until, .. } = slot {
                waits.push((until - now).as_secs());
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(slot.after(Event::Revive, &restart(), now).expect("legal"), Slot::Parked);
    }

    #[test]
    fn an_instance_that_lasted_starts_its_count_anew() {
        let start = Instant::now();
        let running = Slot::Running(Instance { crashes: 9, ..instance(start) });
        let after = |seconds| {
            let now = start + Duration::from_secs(seconds);
            running.after(Event::Ended(Ended::Failed), &restart(), now).expect("legal").crashes()
        };
        assert_eq!((after(59), after(60)), (10, 1));
    }

    #[test]
    fn a_program_that_cannot_be_run_backs_off_too() {
        let now = Instant::now();
        let mut slot = Slot::Parked;
        for crashes in 1..=10 {
            slot = slot.after(Event::StartFailed, &restart(), now).expect("legal");
            assert_eq!((slot.name(), slot.crashes()), ("backing-off", crashes));
        }
        assert_eq!(slot.after(Event::StartFailed, &restart(), now).expect("legal").name(), "given-up");
    }

    #[test]
    fn a_start_that_the_machine_hinders_is_tried_for_ever() {
        let now = Instant::now();
        let mut slot = Slot::BackingOff { until: now, crashes: 2 };
        for _ in 0..1000 {
            slot = slot.after(Event::StartHindered, &restart(), now).expect("legal");
            assert_eq!((slot.name(), slot.crashes()), ("backing-off", 2));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let now = Instant::now();
        let events = [
            (Slot::Running(instance(now)), Event::Started(instance(now))),
            (Slot::GivenUp { crashes: 3 }, Event::Started(instance(now))),
            (Slot::Empty, Event::Ended(Ended::Clean)),
            (Slot::Empty, Event::Drain),
            (Slot::Stopping { instance: instance(now), kill_at: now }, Event::Drain),
            (Slot::Running(instance(now)), Event::Told(told(now))),
        ];
        for (slot, event) in events {
            assert!(slot.after(event.clone(), &restart(), now).is_err(), "{slot:?} {event:?}");
        }
    }
}
