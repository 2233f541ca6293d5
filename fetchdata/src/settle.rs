//! Decides when a dropped file is complete.
//!
//! Pure: snapshots and the time in, files that are ready out. A file is ready when two snapshots, at least `settle`
//! apart, are equal; events only make walks come sooner. Whether somebody still has the file open is checked
//! afterwards, when it is processed, and the answer comes back here as [`Ended`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_spool::drop_directory::DropPath;

use crate::file_identity::FileIdentity;
use crate::scan::{FileSnapshot, Owner};

/// If the kernel does not say whether a file is open for writing, and nobody was seen to close it, it must settle
/// this many times as long, a minute with the default `settle`: an upload that has stalled for that long is taken to
/// have ended.
const LONGER_FACTOR: u32 = 60;

/// Wait after the first failure; doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How often it is checked whether the same content is still in progress.
const DUPLICATE_WAIT: Duration = Duration::from_secs(1);

/// Files of one owner, all together, are retried no more often than this: thousands that keep failing cost no more
/// than a few.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// The files of one area that the last walk has found.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    files: HashMap<DropPath, State>,
    /// How many files of each owner wait for a retry.
    retries: BTreeMap<Owner, u32>,
}

/// The state of a dropped file.
#[derive(Clone, Debug)]
enum State {
    Settling {
        first_seen: Instant,
        identity: FileIdentity,
        since: Instant,
        until: Instant,
        settles_longer: bool,
        /// It was processed without success: it was open for writing or had changed.
        is_retry: bool,
    },
    /// Being processed.
    InProgress(Settled),
    /// Settled, and to be processed again at a certain time.
    Waiting { settled: Settled, until: Instant, why: Why },
}

/// A file that has settled.
#[derive(Clone, Copy, Debug)]
struct Settled {
    first_seen: Instant,
    identity: FileIdentity,
    since: Instant,
    settle: Duration,
    settles_longer: bool,
    /// Consecutive failures.
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
enum Why {
    Failed,
    DuplicateInProgress(IngestionId),
}

/// A file to process.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) snapshot: FileSnapshot,
    /// Since it was first seen.
    pub(crate) settled_for: Duration,
    /// It has settled longer because neither the kernel nor the events tell whether it is open for writing.
    pub(crate) settles_longer: bool,
    /// The ingestion with the same content, which was in progress when this file was last processed.
    pub(crate) duplicate_of: Option<IngestionId>,
}

/// What became of a file that was processed.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It is no longer in the drop directory.
    Removed,
    /// It is open for writing, or has changed.
    Busy,
    /// It is unchanged, but it is not known whether it is open for writing.
    WritersUnknown,
    /// The same content is in progress and must end first: it is being processed, it is staged, or its original still
    /// waits for its writer.
    DuplicateInProgress(IngestionId),
    /// A step failed; the file is still there.
    Failed,
    /// The machine was out of space, descriptors or the like; the file is still there, and was not at fault.
    Exhausted(String),
}

impl Tracker {
    /// Records what a walk has found, and returns the files that may be processed now. A file that the walk has not
    /// seen is forgotten, unless it is in progress.
    pub(crate) fn observe(&mut self, now: Instant, snapshots: Vec<FileSnapshot>) -> Vec<Ready> {
        let mut before = std::mem::take(&mut self.files);
        self.retries.clear();
        let mut ready = Vec::new();
        for snapshot in snapshots {
            let state = match before.remove(&snapshot.path) {
                Some(state) => state.observe(&snapshot, now),
                None => State::settling(&snapshot, now, now),
            };
            ready.extend(state.ready(&snapshot, now));
            if state.is_retry() {
                self.count_retry(&snapshot.owner);
            }
            self.files.insert(snapshot.path, state);
        }
        // A file in progress may have been moved already; its end is yet to come.
        self.files.extend(before.into_iter().filter(|(_, state)| matches!(state, State::InProgress(_))));
        ready
    }

    /// Whether a file is in progress.
    pub(crate) fn has_file_in_progress(&self) -> bool {
        self.files.values().any(|state| matches!(state, State::InProgress(_)))
    }

    /// Marks a file as in progress if it is still as `ready` says.
    pub(crate) fn mark_in_progress(&mut self, ready: &Ready) -> bool {
        let Some(state) = self.files.get_mut(&ready.snapshot.path) else { return false };
        let Some(settled) = state
            .settled(ready.snapshot.settle)
            .filter(|settled| settled.identity == ready.snapshot.identity)
        else {
            return false;
        };
        *state = State::InProgress(settled);
        true
    }

    /// Records what became of a file that was in progress. Returns when it must be scanned again, if it waits for that.
    pub(crate) fn ended(
        &mut self,
        path: &DropPath,
        owner: &Owner,
        ended: Ended,
        now: Instant,
    ) -> Option<Instant> {
        if matches!(ended, Ended::Busy | Ended::DuplicateInProgress(_) | Ended::Failed) {
            self.count_retry(owner);
        }
        let turn = now + RETRY_EVERY * self.retries.get(owner).copied().unwrap_or_default();
        let Entry::Occupied(mut entry) = self.files.entry(path.clone()) else { return None };
        let State::InProgress(settled) = *entry.get() else { return None };
        let next = match ended {
            Ended::Removed => {
                entry.remove();
                return None;
            }
            Ended::Busy => settled.settle_again(now, turn),
            Ended::WritersUnknown => settled.settle_longer(),
            Ended::DuplicateInProgress(ingestion) => {
                let settled = Settled { failures: 0, ..settled };
                State::Waiting {
                    settled,
                    until: turn.max(now + DUPLICATE_WAIT),
                    why: Why::DuplicateInProgress(ingestion),
                }
            }
            Ended::Exhausted(_) => State::Waiting { settled, until: now, why: Why::Failed },
            Ended::Failed => {
                let until = turn.max(now + backoff(settled.failures));
                let settled = Settled { failures: settled.failures.saturating_add(1), ..settled };
                State::Waiting { settled, until, why: Why::Failed }
            }
        };
        let next_scan = next.next_scan(now);
        entry.insert(next);
        next_scan
    }

    /// How many files of the owner, among those that the last walk has seen, wait for a retry.
    pub(crate) fn retries(&self, owner: &Owner) -> usize {
        self.retries.get(owner).map_or(0, |count| *count as usize)
    }

    fn count_retry(&mut self, owner: &Owner) {
        match self.retries.get_mut(owner) {
            Some(count) => *count = count.saturating_add(1),
            None => _ = self.retries.insert(owner.clone(), 1),
        }
    }

    /// When the next file must be scanned again.
    pub(crate) fn next_scan(&self, now: Instant) -> Option<Instant> {
        self.files.values().filter_map(|state| state.next_scan(now)).min()
    }
}

impl State {
    fn next_scan(&self, now: Instant) -> Option<Instant> {
        let until = match self {
            Self::Settling { until, .. } | Self::Waiting { until, .. } => Some(*until),
            Self::InProgress(_) => None,
        };
        // A file that is due already waits for a free worker slot and not for the time.
        until.filter(|until| *until > now)
    }

    fn settling(snapshot: &FileSnapshot, first_seen: Instant, now: Instant) -> Self {
        Self::Settling {
            first_seen,
            identity: snapshot.identity,
            since: now,
            until: now + snapshot.settle,
            settles_longer: false,
            is_retry: false,
        }
    }

    /// Whether it waits for a retry.
    fn is_retry(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Settling { is_retry: true, .. })
    }

    fn observe(self, snapshot: &FileSnapshot, now: Instant) -> Self {
        let (first_seen, identity) = match &self {
            Self::Settling { first_seen, identity, .. } => (*first_seen, *identity),
            Self::Waiting { settled, .. } => (settled.first_seen, settled.identity),
            Self::InProgress(_) => return self,
        };
        if identity == snapshot.identity { self } else { Self::settling(snapshot, first_seen, now) }
    }

    fn ready(&self, snapshot: &FileSnapshot, now: Instant) -> Option<Ready> {
        let (until, first_seen, settles_longer, duplicate_of) = match *self {
            Self::Settling { until, first_seen, settles_longer, .. } => {
                (until, first_seen, settles_longer, None)
            }
            Self::Waiting { settled, until, why } => {
                let duplicate_of = match why {
                    Why::DuplicateInProgress(ingestion) => Some(ingestion),
                    Why::Failed => None,
                };
                (until, settled.first_seen, settled.settles_longer, duplicate_of)
            }
            Self::InProgress(_) => return None,
        };
        (until <= now).then(|| Ready {
            snapshot: snapshot.clone(),
            settled_for: now - first_seen,
            settles_longer,
            duplicate_of,
        })
    }

    fn settled(&self, settle: Duration) -> Option<Settled> {
        match *self {
            Self::Settling { first_seen, identity, since, settles_longer, .. } => {
                Some(Settled { first_seen, identity, since, settle, settles_longer, failures: 0 })
            }
            Self::Waiting { settled, .. } => Some(settled),
            Self::InProgress(_) => None,
        }
    }
}

impl Settled {
    /// Not before its `turn`.
    fn settle_again(self, now: Instant, turn: Instant) -> State {
        let Self { first_seen, identity, settle, settles_longer, .. } = self;
        let settle = if settles_longer { settle * LONGER_FACTOR } else { settle };
        State::Settling {
            first_seen,
            identity,
            since: now,
            until: turn.max(now + settle),
            settles_longer,
            is_retry: true,
        }
    }

    fn settle_longer(self) -> State {
        let Self { first_seen, identity, since, settle, .. } = self;
        State::Settling {
            first_seen,
            identity,
            since,
            until: since + settle * LONGER_FACTOR,
            settles_longer: true,
            is_retry: false,
        }
    }
}

fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << failures.min(6)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests;
