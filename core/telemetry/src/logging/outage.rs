//! Tracks something that is unavailable for a while: one warning at the beginning, and one line at the end.

use std::time::{Duration, Instant};

/// Whether something is unavailable, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// Notes that it is unavailable. Returns whether this is new, and so worth a warning.
    pub fn begin(&mut self, now: Instant) -> bool {
        let is_new = self.since.is_none();
        self.since.get_or_insert(now);
        is_new
    }

    /// Notes that it is available. Returns for how long it was unavailable, if it was.
    pub fn end(&mut self, now: Instant) -> Option<Duration> {
        self.since.take().map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_reported_once_at_its_beginning_and_once_at_its_end() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(outage.end(now), None);
        assert!(outage.begin(now) && !outage.begin(now + Duration::from_secs(1)));
        assert_eq!(outage.end(now + Duration::from_secs(3)), Some(Duration::from_secs(3)));
        assert!(outage.end(now).is_none() && outage.begin(now));
    }
}
