//! Something that is away for a while: one warning, and one line when it is over.

use std::time::{Duration, Instant};

/// Whether something is away, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// Notes that it is away. Returns whether that is new, so worth a warning.
    pub fn begin(&mut self, now: Instant) -> bool {
        let is_new = self.since.is_none();
        self.since.get_or_insert(now);
        is_new
    }

    /// Notes that it is there. Returns for how long it was away, if it was.
    pub fn end(&mut self, now: Instant) -> Option<Duration> {
        self.since.take().map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_once_when_it_is_over() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(outage.end(now), None);
        assert!(outage.begin(now) && !outage.begin(now + Duration::from_secs(1)));
        assert_eq!(outage.end(now + Duration::from_secs(3)), Some(Duration::from_secs(3)));
        assert!(outage.end(now).is_none() && outage.begin(now));
    }
}
