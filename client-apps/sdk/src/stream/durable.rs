//! The numbers of numbered sources that are durable but not marked yet.

use std::collections::BTreeMap;

use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::{Lost, Number, Source};

/// The most ranges of one source that wait for a cycle.
const WAITING_RANGES_MAX: usize = 10_000;

/// The numbers of one source that are durable but not marked yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnmarkedNumbers {
    pub(crate) received: Ranges,
    pub(crate) lost_numbers: Ranges,
}

/// The durable numbers of each source.
pub(crate) type DurableBySource = BTreeMap<Source, UnmarkedNumbers>;

impl UnmarkedNumbers {
    /// Adds the ranges that fit; returns whether some did not.
    pub(crate) fn add(&mut self, other: &Self) -> bool {
        let mut fits = true;
        for (mine, others) in
            [(&mut self.received, &other.received), (&mut self.lost_numbers, &other.lost_numbers)]
        {
            let has_capacity = mine.len() + others.len() <= WAITING_RANGES_MAX || mine.is_empty();
            if has_capacity {
                mine.extend(others);
            }
            fits &= has_capacity;
        }
        !fits
    }

    /// Returns the numbers that the source has lost, in parts of at most [`Lost::NUMBERS_MAX`].
    pub(crate) fn lost_in_parts<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = Lost> + 'a {
        self.lost_numbers.iter().flat_map(move |(first, last)| {
            let starts = (first..=last).step_by(Lost::NUMBERS_MAX as usize);
            starts.map(move |start| Lost {
                source: source.clone(),
                first: start,
                last: last.min(start.saturating_add(Lost::NUMBERS_MAX - 1)),
            })
        })
    }
}

/// Adds the number of a durable message.
pub(crate) fn note_received(durable: &mut DurableBySource, number: &Number) {
    match durable.get_mut(&number.source) {
        Some(durable) => durable.received.insert(number.sequence, number.sequence),
        None => {
            let received = [(number.sequence, number.sequence)].into_iter().collect();
            durable.insert(number.source.clone(), UnmarkedNumbers { received, ..UnmarkedNumbers::default() });
        }
    }
}

/// Adds numbers that their source no longer has.
pub(crate) fn note_lost(durable: &mut DurableBySource, lost_numbers: Lost) {
    durable
        .entry(lost_numbers.source)
        .or_default()
        .lost_numbers
        .insert(lost_numbers.first, lost_numbers.last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_numbers_are_recorded_in_parts() {
        let lost_numbers: Ranges = [(1, 2_500_000), (u64::MAX, u64::MAX)].into_iter().collect();
        let source = Source { name: "s".parse().expect("source name"), epoch: 7 };
        let durable = UnmarkedNumbers { lost_numbers, ..UnmarkedNumbers::default() };
        let parts =
            durable.lost_in_parts(&source).map(|lost_numbers| (lost_numbers.first, lost_numbers.last));
        let parts: Vec<(u64, u64)> = parts.collect();
        let expected = [(1, 1_000_000), (1_000_001, 2_000_000), (2_000_001, 2_500_000), (u64::MAX, u64::MAX)];
        assert_eq!(parts, expected);
    }

    #[test]
    fn waiting_ranges_are_bounded_and_earlier_ones_are_kept() {
        let mut waiting = UnmarkedNumbers::default();
        let odd = |from: u64| UnmarkedNumbers {
            received: (from..from + 6000).map(|n| (2 * n, 2 * n)).collect(),
            ..UnmarkedNumbers::default()
        };
        assert!(!waiting.add(&odd(0)));
        assert!(waiting.add(&odd(6000)), "too much");
        assert_eq!(waiting.received.len(), 6000);
    }
}
