//! What comes in thousands is told once, and then counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Counts like events: the first one of a kind is told at once, those that follow it by their number, once a period.
///
/// Pure: it says what is to be logged, and the caller logs it. There are as many counters as kinds, so kinds must be few:
/// a client and an action, but never a name that comes from outside.
#[derive(Debug)]
pub struct Bursts<K, E> {
    period: Duration,
    bursts: BTreeMap<K, Burst<E>>,
}

#[derive(Debug)]
struct Burst<E> {
    told_at: Instant,
    untold: Option<Untold<E>>,
}

/// Events of a kind that have not been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold<E> {
    pub count: u64,
    pub last: E,
}

impl<K: Ord + Clone, E> Bursts<K, E> {
    /// A burst goes on being told once in `period`, and is over when nothing has come for so long.
    pub fn new(period: Duration) -> Self {
        Self { period, bursts: BTreeMap::new() }
    }

    /// Counts an event. Returns it if it begins a burst, and so is to be told now.
    pub fn count(&mut self, kind: K, event: E, now: Instant) -> Option<E> {
        let Some(burst) = self.bursts.get_mut(&kind) else {
            self.bursts.insert(kind, Burst { told_at: now, untold: None });
            return Some(event);
        };
        let count = burst.untold.as_ref().map_or(1, |untold| untold.count.saturating_add(1));
        burst.untold = Some(Untold { count, last: event });
        None
    }

    /// What is to be told now of the bursts that go on. To be asked at least once a period.
    pub fn due(&mut self, now: Instant) -> Vec<(K, Untold<E>)> {
        let mut due = Vec::new();
        let period = self.period;
        self.bursts.retain(|kind, burst| {
            if now.saturating_duration_since(burst.told_at) < period {
                return true;
            }
            let Some(untold) = burst.untold.take() else { return false };
            burst.told_at = now;
            due.push((kind.clone(), untold));
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
    fn the_first_is_told_at_once_and_the_others_once_a_period() {
        let (mut bursts, start) = (Bursts::new(PERIOD), Instant::now());
        assert_eq!(bursts.count("a", 0, start), Some(0));
        assert!((1..=100_000).all(|event| bursts.count("a", event, start).is_none()));
        assert_eq!(bursts.count("b", 7, start), Some(7));
        assert_eq!(bursts.due(start + PERIOD / 2), []);
        let untold = Untold { count: 100_000, last: 100_000 };
        assert_eq!(bursts.due(start + PERIOD), [("a", untold)]);
        assert_eq!(bursts.count("a", 1, start + PERIOD), None);
        assert_eq!(bursts.count("b", 1, start + PERIOD), Some(1), "that one was over");
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let (mut bursts, start) = (Bursts::new(PERIOD), Instant::now());
        for kind in 0..1000 {
            bursts.count(kind, (), start);
        }
        assert!(bursts.due(start + PERIOD).is_empty() && bursts.bursts.is_empty());
    }
}
