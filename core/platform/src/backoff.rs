//! How long to wait before the next attempt.

use std::time::Duration;

use super::random;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double from 100 ms to 10 s, each with random jitter so that many clients do not retry at the same time.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Backoff {
    /// The next wait, never longer than 10 s.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(random::jitter()).min(LONGEST);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.wait()).collect();
        assert!(waits.iter().all(|wait| *wait >= SHORTEST / 2 && *wait <= LONGEST), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait >= LONGEST / 2), "{waits:?}");
        backoff.reset();
        assert!(backoff.wait() <= SHORTEST * 2);
    }
}
