//! How far a source is received, computed from its blocks.

use mysimbdp_model::client::ClientId;
use mysimbdp_model::message::{Receipt, VERSION};
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::{FIRST, Source};

/// How far the numbers of a source are received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All numbers from 1 to this one are received; 0 if none is.
    pub through: u64,
    /// Received numbers after that, up to a bound: what lies far behind a gap is reported once the gap is closed.
    pub received: Ranges,
    /// The highest received number, 0 if there is none.
    pub highest: u64,
}

impl Progress {
    /// `seen` are the received numbers from `start` on; all numbers before `start` are received.
    pub fn of(start: u64, mut seen: Ranges) -> Self {
        let start = start.max(FIRST);
        let highest = seen.last().map_or(0, |range| range.1).max(start - 1);
        let through = match seen.first() {
            Some((first, last)) if first <= start => last.max(start - 1),
            _ => start - 1,
        };
        seen = seen.iter().filter(|range| range.0 > through).collect();
        Self { through, received: seen, highest }
    }

    /// Returns the receipt that reports this progress and requests the `missing` numbers.
    pub fn receipt(&self, client_id: ClientId, source: &Source, missing: &Ranges) -> Receipt {
        let bounded = |ranges: &Ranges| ranges.iter().take(Receipt::RANGES_MAX).collect();
        Receipt {
            version: VERSION,
            client_id,
            source: source.name.clone(),
            epoch: source.epoch,
            stored_through: self.through,
            stored: bounded(&self.received),
            missing: bounded(missing),
            seen: Some(self.highest),
        }
    }

    /// Returns the gaps: the numbers between the received ones.
    pub fn missing(&self) -> Ranges {
        match (self.received.last(), self.through.checked_add(1)) {
            (Some((_, last)), Some(next)) => self.received.holes(next, last),
            _ => Ranges::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_source_without_received_numbers_has_progress() {
        assert_eq!(Progress::of(0, Ranges::default()), Progress::default());
        assert_eq!(Progress::of(2048, Ranges::default()).through, 2047);
        assert_eq!(Progress::default().missing(), Ranges::default());
    }

    #[test]
    fn number_0_is_not_a_number_of_a_source() {
        assert_eq!(Progress::of(0, [(0, 0)].into_iter().collect()), Progress::default());
        let progress = Progress::of(0, [(0, 0), (2, 2)].into_iter().collect());
        assert_eq!((progress.through, progress.missing().first()), (0, Some((1, 1))));
    }

    #[test]
    fn every_64_bit_number_can_be_received() {
        let progress = Progress::of(0, [(1, u64::MAX)].into_iter().collect());
        assert_eq!((progress.through, progress.missing().is_empty()), (u64::MAX, true));
    }

    proptest! {
        #[test]
        fn through_received_and_missing_cover_each_number_once(
            numbers in proptest::collection::btree_set(1u64..200, 0..80),
        ) {
            let progress = Progress::of(0, numbers.iter().map(|&number| (number, number)).collect());
            let missing = progress.missing();
            for number in 1..=progress.highest {
                let is_received = number <= progress.through || progress.received.contains(number);
                prop_assert_eq!(is_received, numbers.contains(&number));
                prop_assert_ne!(is_received, missing.contains(number));
            }
            prop_assert_eq!(progress.highest, numbers.last().copied().unwrap_or(0));
            prop_assert!(!numbers.contains(&(progress.through + 1)));
        }
    }
}
