//! Detects that the platform has reported nothing new for too long.

use std::time::{Duration, Instant};

/// The timeout after a new connection: short, to find out soon what the broker has lost.
const CONNECTED_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest timeout. A probe that waits in a queue needs no others behind it. If a probe was lost with its broker, or had no
/// subscriber, the new connection resets the timeout.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// How long the platform has reported nothing new, and after which timeout it is probed. The timeout doubles with each
/// probe.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    timeout: Duration,
    /// The timeout after the platform has reported something new.
    usual_timeout: Duration,
}

impl Silence {
    pub(super) fn new(usual_timeout: Duration, now: Instant) -> Self {
        Self { since: now, timeout: usual_timeout, usual_timeout }
    }

    /// There is a new connection.
    pub(super) fn connected(&mut self, now: Instant) {
        (self.since, self.timeout) = (now, self.usual_timeout.min(CONNECTED_TIMEOUT));
    }

    /// Ends the silence: the platform has reported something new, or there was nothing to wait for.
    pub(super) fn end(&mut self, now: Instant) {
        (self.since, self.timeout) = (now, self.usual_timeout);
    }

    /// A probe is being sent.
    pub(super) fn probed(&mut self, now: Instant) {
        let timeout_max = TIMEOUT_MAX.max(self.usual_timeout);
        (self.since, self.timeout) = (now, (self.timeout * 2).min(timeout_max));
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn timeout_at(&self) -> Instant {
        self.since + self.timeout
    }
}
