//! Events that come in thousands are reported once, and then counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Counts events of the same kind: the first one is reported at once, the following ones as a number, once per period.
///
/// Pure: it returns what to log, and the caller logs it. Each kind has a counter, so there must be few kinds: a client and an
/// action, but never a name that comes from outside.
#[derive(Debug)]
pub struct Bursts<K, E> {
    period: Duration,
    bursts: BTreeMap<K, Burst<E>>,
}

#[derive(Debug)]
struct Burst<E> {
    reported_at: Instant,
    unreported: Option<Unreported<E>>,
}

/// Events of a kind that have not been reported yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreported<E> {
    pub count: u64,
    pub last: E,
}

impl<K: Ord + Clone, E> Bursts<K, E> {
    /// A burst that continues is reported once per `period`; it is over when a `period` passes without an event.
    pub fn new(period: Duration) -> Self {
        Self { period, bursts: BTreeMap::new() }
    }

    /// Counts an event. Returns it if it begins a burst, and so must be reported now.
    pub fn count(&mut self, kind: K, event: E, now: Instant) -> Option<E> {
        let Some(burst) = self.bursts.get_mut(&kind) else {
            self.bursts.insert(kind, Burst { reported_at: now, unreported: None });
            return Some(event);
        };
        let count = burst.unreported.as_ref().map_or(1, |unreported| unreported.count.saturating_add(1));
        burst.unreported = Some(Unreported { count, last: event });
        None
    }

    /// Returns what must be reported now of the bursts that continue. Call it at least once per period.
    pub fn due(&mut self, now: Instant) -> Vec<(K, Unreported<E>)> {
        let mut due = Vec::new();
        let period = self.period;
        self.bursts.retain(|kind, burst| {
            if now.saturating_duration_since(burst.reported_at) < period {
                return true;
            }
            let Some(unreported) = burst.unreported.take() else { return false };
            burst.reported_at = now;
            due.push((kind.clone(), unreported));
            true
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_event_is_reported_at_once_and_the_others_once_per_period() {
        let (mut bursts, start) = (Bursts::new(PERIOD), Instant::now());
        assert_eq!(bursts.count("a", 0, start), Some(0));
        assert!((1..=100_000).all(|event| bursts.count("a", event, start).is_none()));
        assert_eq!(bursts.count("b", 7, start), Some(7));
        assert_eq!(bursts.due(start + PERIOD / 2), []);
        let unreported = Unreported { count: 100_000, last: 100_000 };
        assert_eq!(bursts.due(start + PERIOD), [("a", unreported)]);
        assert_eq!(bursts.count("a", 1, start + PERIOD), None);
        assert_eq!(bursts.count("b", 1, start + PERIOD), Some(1), "that one was over");
    }

    #[test]
    fn a_burst_that_is_over_is_removed() {
        let (mut bursts, start) = (Bursts::new(PERIOD), Instant::now());
        for kind in 0..1000 {
            bursts.count(kind, (), start);
        }
        assert!(bursts.due(start + PERIOD).is_empty() && bursts.bursts.is_empty());
    }
}
