//! Sets of whole numbers as ranges: the numbers received from a source, and the missing ones.

/// A set of numbers as ranges `(first, last)`, ascending and not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds all numbers from `first` to `last`; none if `last` is less than `first`.
    pub fn insert(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        // The ranges that overlap the new one, or touch it.
        let from = self.0.partition_point(|range| range.1 < first.saturating_sub(1));
        let end = self.0.partition_point(|range| range.0 <= last.saturating_add(1));
        let joined = match self.0.get(from..end) {
            Some([only]) => (first.min(only.0), last.max(only.1)),
            Some([one, .., other]) => (first.min(one.0), last.max(other.1)),
            Some([]) | None => (first, last),
        };
        self.0.splice(from..end, [joined]);
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        other.iter().for_each(|(first, last)| self.insert(first, last));
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    pub fn contains(&self, number: u64) -> bool {
        let position = self.0.partition_point(|range| range.1 < number);
        self.0.get(position).is_some_and(|range| range.0 <= number)
    }

    /// The numbers from `first` to `last` that are not in this set.
    pub fn holes(&self, first: u64, last: u64) -> Self {
        let mut holes = Vec::new();
        let mut next = Some(first);
        let start = self.0.partition_point(|range| range.1 < first);
        for &(begin, end) in self.0[start..].iter().take_while(|range| range.0 <= last) {
            if let Some(next) = next.filter(|next| *next < begin) {
                holes.push((next, begin - 1));
            }
            next = end.checked_add(1);
        }
        if let Some(next) = next.filter(|next| *next <= last) {
            holes.push((next, last));
        }
        Self(holes)
    }

    pub fn first(&self) -> Option<(u64, u64)> {
        self.0.first().copied()
    }

    pub fn last(&self) -> Option<(u64, u64)> {
        self.0.last().copied()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are; `u64::MAX` also for all 2^64 of them.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(ranges: T) -> Self {
        let mut all = Self::default();
        ranges.into_iter().for_each(|(first, last)| all.insert(first, last));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn numbers(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(first, last)| first..=last).collect()
    }

    proptest! {
        #[test]
        fn ranges_hold_the_same_numbers_as_a_set_and_never_touch(
            parts in proptest::collection::vec((0u64..60, 0u64..8), 0..20),
            window in (0u64..70, 0u64..70),
        ) {
            let ranges: Ranges = parts.iter().map(|&(first, more)| (first, first + more)).collect();
            let set: BTreeSet<u64> = parts.iter().flat_map(|&(first, more)| first..=first + more).collect();
            prop_assert_eq!(&numbers(&ranges), &set);
            prop_assert_eq!(ranges.count(), set.len() as u64);
            let pairs: Vec<_> = ranges.iter().collect();
            prop_assert!(pairs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", pairs);
            let holes: BTreeSet<u64> = (window.0..=window.1).filter(|number| !set.contains(number)).collect();
            prop_assert_eq!(numbers(&ranges.holes(window.0, window.1)), holes);
            prop_assert!((0..70).all(|number| ranges.contains(number) == set.contains(&number)));
        }
    }

    #[test]
    fn the_least_and_the_greatest_number_are_handled_like_any_other() {
        let mut ranges: Ranges = [(u64::MAX, u64::MAX), (0, 0)].into_iter().collect();
        assert_eq!(ranges.holes(0, u64::MAX).iter().collect::<Vec<_>>(), [(1, u64::MAX - 1)]);
        assert_eq!(ranges.holes(u64::MAX, u64::MAX), Ranges::default());
        ranges.insert(1, u64::MAX - 1);
        assert_eq!((ranges.first(), ranges.len(), ranges.count()), (Some((0, u64::MAX)), 1, u64::MAX));
        ranges.insert(5, 4);
        assert_eq!(ranges.len(), 1);
    }
}
