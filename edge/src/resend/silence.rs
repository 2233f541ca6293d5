//! When nothing new has been heard of the platform for too long.

use std::time::{Duration, Instant};

/// On a new connection it is found out soon what the broker has lost.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// A probe that waits in a queue needs no others behind it. One that was lost with its broker, or that nobody was there to
/// hear, need not wait for this: a new connection begins anew.
const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// How long it has been silent, and how long that is borne. It doubles with each probe.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    patience: Duration,
    /// After something new has been heard.
    patience_usual: Duration,
}

impl Silence {
    pub(super) fn new(patience_usual: Duration, now: Instant) -> Self {
        Self { since: now, patience: patience_usual, patience_usual }
    }

    /// A new connection.
    pub(super) fn connected(&mut self, now: Instant) {
        (self.since, self.patience) = (now, self.patience_usual.min(FIRST_PATIENCE));
    }

    /// The platform has said something new, or there was nothing to be heard.
    pub(super) fn broken(&mut self, now: Instant) {
        (self.since, self.patience) = (now, self.patience_usual);
    }

    /// A probe is on its way.
    pub(super) fn probed(&mut self, now: Instant) {
        let patience_max = PATIENCE_MAX.max(self.patience_usual);
        (self.since, self.patience) = (now, (self.patience * 2).min(patience_max));
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn over_at(&self) -> Instant {
        self.since + self.patience
    }
}
