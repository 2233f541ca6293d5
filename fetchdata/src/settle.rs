//! Decides when a dropped file is complete.
//!
//! Pure: looks and the time in, files that are ready out. A file is ready when two looks, at least `settle` apart,
//! have seen it the same; events only make looks come sooner. Whether somebody still has it open is asked
//! afterwards, by whoever takes it, and the answer comes back here as [`Ended`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_spool::drop_directory::DropPath;

use crate::scan::{Look, Owner};
use crate::stamp::Stamp;

/// A file of which neither the kernel says whether it is open for writing, nor anybody was seen to close it, must rest this
/// many times as long: an upload that stalls for a minute goes on or has ended.
const LONGER: u32 = 60;

/// Wait after the first failure; it doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How often it is looked whether the staged file of the same content has ended.
const TWIN_WAIT: Duration = Duration::from_secs(1);

/// Files of an owner that have been taken in vain are taken again no more often than this, all together: thousands that fail
/// again and again cost no more than a few.
const AGAIN_EVERY: Duration = Duration::from_millis(20);

/// All files that lie at the drop point.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    files: HashMap<DropPath, State>,
    /// How many files of each owner have been taken in vain.
    in_vain: BTreeMap<Owner, u32>,
}

/// Where a dropped file is on its way.
#[derive(Clone, Debug)]
enum State {
    Settling {
        first_seen: Instant,
        stamp: Stamp,
        since: Instant,
        until: Instant,
        leases_work: bool,
        /// It was taken in vain, as it was open for writing or had changed.
        again: bool,
    },
    /// In work.
    Taken(Rested),
    /// Settled, and to be taken again at a certain time.
    Waiting { rested: Rested, until: Instant, why: Why },
}

/// A file that has settled.
#[derive(Clone, Copy, Debug)]
struct Rested {
    first_seen: Instant,
    stamp: Stamp,
    since: Instant,
    settle: Duration,
    leases_work: bool,
    /// In a row.
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
enum Why {
    Failed,
    Twin(IngestionId),
}

/// A file to take.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) look: Look,
    /// From when it was first seen.
    pub(crate) settled_for: Duration,
    /// False: it has rested so long because the kernel cannot say whether it is open for writing.
    pub(crate) leases_work: bool,
    /// It was found to be the content of this ingestion, which was staged at that time.
    pub(crate) twin: Option<IngestionId>,
}

/// What became of a file that was taken.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It no longer lies at the drop point.
    Gone,
    /// It is open for writing, or has changed.
    Busy,
    /// It rests, but it is not known whether it is open for writing.
    LeasesDoNotWork,
    /// The same content is staged, and must end first.
    Twin(IngestionId),
    /// Something with an effect did not work; it still lies there.
    Failed,
    /// The machine was out of room, descriptors or the like; it still lies there, and was not at fault.
    Exhausted(String),
}

impl Tracker {
    /// Takes up a complete walk and returns the files that may be taken now.
    pub(crate) fn observe(&mut self, now: Instant, looks: Vec<Look>) -> Vec<Ready> {
        let mut before = std::mem::take(&mut self.files);
        self.in_vain.clear();
        let mut ready = Vec::new();
        for look in looks {
            let state = match before.remove(&look.path) {
                Some(state) => state.seen(&look, now),
                None => State::settling(&look, now, now),
            };
            ready.extend(state.ready(&look, now));
            if state.is_in_vain() {
                self.count_in_vain(&look.owner);
            }
            self.files.insert(look.path, state);
        }
        // What is in work has perhaps been moved already; its end is yet to come.
        self.files.extend(before.into_iter().filter(|(_, state)| matches!(state, State::Taken(_))));
        ready
    }

    /// Whether a file is in work.
    pub(crate) fn is_at_work(&self) -> bool {
        self.files.values().any(|state| matches!(state, State::Taken(_)))
    }

    /// Marks a file as in work, where it is still as `ready` says.
    pub(crate) fn take(&mut self, ready: &Ready) -> bool {
        let Some(state) = self.files.get_mut(&ready.look.path) else { return false };
        let Some(rested) = state.rested(ready.look.settle).filter(|rested| rested.stamp == ready.look.stamp)
        else {
            return false;
        };
        *state = State::Taken(rested);
        true
    }

    /// Says what became of a file that was in work. Returns when it is to be looked at again, where it waits for that.
    pub(crate) fn ended(
        &mut self,
        path: &DropPath,
        owner: &Owner,
        ended: Ended,
        now: Instant,
    ) -> Option<Instant> {
        if matches!(ended, Ended::Busy | Ended::Twin(_) | Ended::Failed) {
            self.count_in_vain(owner);
        }
        let turn = now + AGAIN_EVERY * self.in_vain.get(owner).copied().unwrap_or_default();
        let Entry::Occupied(mut entry) = self.files.entry(path.clone()) else { return None };
        let State::Taken(rested) = *entry.get() else { return None };
        let next = match ended {
            Ended::Gone => {
                entry.remove();
                return None;
            }
            Ended::Busy => rested.settle_again(now, turn),
            Ended::LeasesDoNotWork => rested.settle_longer(),
            Ended::Twin(ingestion) => {
                let rested = Rested { failures: 0, ..rested };
                State::Waiting { rested, until: turn.max(now + TWIN_WAIT), why: Why::Twin(ingestion) }
            }
            Ended::Exhausted(_) => State::Waiting { rested, until: now, why: Why::Failed },
            Ended::Failed => {
                let until = turn.max(now + backoff(rested.failures));
                let rested = Rested { failures: rested.failures.saturating_add(1), ..rested };
                State::Waiting { rested, until, why: Why::Failed }
            }
        };
        let look = next.next_look(now);
        entry.insert(next);
        look
    }

    /// How many files of the owner, of those that the last walk has seen, wait to be taken once more.
    pub(crate) fn in_vain(&self, owner: &Owner) -> usize {
        self.in_vain.get(owner).map_or(0, |count| *count as usize)
    }

    fn count_in_vain(&mut self, owner: &Owner) {
        match self.in_vain.get_mut(owner) {
            Some(count) => *count = count.saturating_add(1),
            None => _ = self.in_vain.insert(owner.clone(), 1),
        }
    }

    /// When the next file is to be looked at again.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.files.values().filter_map(|state| state.next_look(now)).min()
    }
}

impl State {
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let until = match self {
            Self::Settling { until, .. } | Self::Waiting { until, .. } => Some(*until),
            Self::Taken(_) => None,
        };
        // What is due already waits for a free hand and not for the time.
        until.filter(|until| *until > now)
    }

    fn settling(look: &Look, first_seen: Instant, now: Instant) -> Self {
        Self::Settling {
            first_seen,
            stamp: look.stamp,
            since: now,
            until: now + look.settle,
            leases_work: true,
            again: false,
        }
    }

    /// Whether it is to be taken once more.
    fn is_in_vain(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Settling { again: true, .. })
    }

    fn seen(self, look: &Look, now: Instant) -> Self {
        let (first_seen, stamp) = match &self {
            Self::Settling { first_seen, stamp, .. } => (*first_seen, *stamp),
            Self::Waiting { rested, .. } => (rested.first_seen, rested.stamp),
            Self::Taken(_) => return self,
        };
        if stamp == look.stamp { self } else { Self::settling(look, first_seen, now) }
    }

    fn ready(&self, look: &Look, now: Instant) -> Option<Ready> {
        let (until, first_seen, leases_work, twin) = match *self {
            Self::Settling { until, first_seen, leases_work, .. } => (until, first_seen, leases_work, None),
            Self::Waiting { rested, until, why } => {
                let twin = match why {
                    Why::Twin(ingestion) => Some(ingestion),
                    Why::Failed => None,
                };
                (until, rested.first_seen, rested.leases_work, twin)
            }
            Self::Taken(_) => return None,
        };
        (until <= now).then(|| Ready { look: look.clone(), settled_for: now - first_seen, leases_work, twin })
    }

    fn rested(&self, settle: Duration) -> Option<Rested> {
        match *self {
            Self::Settling { first_seen, stamp, since, leases_work, .. } => {
                Some(Rested { first_seen, stamp, since, settle, leases_work, failures: 0 })
            }
            Self::Waiting { rested, .. } => Some(rested),
            Self::Taken(_) => None,
        }
    }
}

impl Rested {
    /// Not before its `turn`.
    fn settle_again(self, now: Instant, turn: Instant) -> State {
        let Self { first_seen, stamp, settle, leases_work, .. } = self;
        let settle = if leases_work { settle } else { settle * LONGER };
        State::Settling {
            first_seen,
            stamp,
            since: now,
            until: turn.max(now + settle),
            leases_work,
            again: true,
        }
    }

    fn settle_longer(self) -> State {
        let Self { first_seen, stamp, since, settle, .. } = self;
        State::Settling {
            first_seen,
            stamp,
            since,
            until: since + settle * LONGER,
            leases_work: false,
            again: false,
        }
    }
}

fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << failures.min(6)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests;
