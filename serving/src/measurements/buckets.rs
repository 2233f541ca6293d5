//! Numbers over time, at one resolution and for a bounded time.

use std::collections::VecDeque;

/// What was measured in one step of time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    sum: f32,
    count: u16,
    max: f32,
}

impl Bucket {
    fn add(&mut self, value: f32) {
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            self.max = if self.count == 0 { other.max } else { self.max.max(other.max) };
            self.sum += other.sum;
            self.count = self.count.saturating_add(other.count);
        }
    }

    /// The mean and the maximum; `None` if nothing was measured.
    pub(super) fn mean_and_max(&self) -> Option<(f32, f32)> {
        (self.count > 0).then(|| (self.sum / f32::from(self.count), self.max))
    }
}

/// A bucket for each step, up to the one that was written last.
#[derive(Debug)]
pub(super) struct Buckets {
    step_seconds: i64,
    buckets_max: usize,
    /// The step of the last bucket.
    last: i64,
    buckets: VecDeque<Bucket>,
}

impl Buckets {
    pub(super) fn new(step_seconds: i64, buckets_max: usize) -> Self {
        Self { step_seconds, buckets_max, last: 0, buckets: VecDeque::new() }
    }

    /// Adds what was measured at this second. What is older than the last bucket is added to that one: the clock was set back.
    pub(super) fn add(&mut self, second: i64, value: f32) {
        let step = second.div_euclid(self.step_seconds);
        if self.buckets.is_empty() || step - self.last >= self.buckets_max as i64 {
            self.buckets.clear();
            self.buckets.push_back(Bucket::default());
            self.last = step;
        }
        while self.last < step {
            if self.buckets.len() == self.buckets_max {
                self.buckets.pop_front();
            }
            self.buckets.push_back(Bucket::default());
            self.last += 1;
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.add(value);
        }
    }

    /// The buckets that begin within these seconds, each with the second at which it begins.
    pub(super) fn between(&self, from: i64, until: i64) -> impl Iterator<Item = (i64, &Bucket)> {
        let first = self.last + 1 - self.buckets.len() as i64;
        let begins = (first..).map(|step| step * self.step_seconds);
        begins.zip(&self.buckets).filter(move |(second, _)| (from..until).contains(second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(buckets: &Buckets, from: i64, until: i64) -> Vec<(i64, Option<(f32, f32)>)> {
        buckets.between(from, until).map(|(second, bucket)| (second, bucket.mean_and_max())).collect()
    }

    #[test]
    fn a_gap_is_no_number_and_what_is_too_old_is_dropped() {
        let mut buckets = Buckets::new(5, 4);
        for (second, value) in [(100, 1.0), (104, 3.0), (112, 7.0)] {
            buckets.add(second, value);
        }
        assert_eq!(
            shown(&buckets, 0, 1_000),
            [(100, Some((2.0, 3.0))), (105, None), (110, Some((7.0, 7.0)))]
        );
        assert_eq!(shown(&buckets, 101, 110), [(105, None)]);
        buckets.add(121, 1.0);
        assert_eq!(shown(&buckets, 0, 1_000).first(), Some(&(105, None)));
        buckets.add(119, 3.0);
        assert_eq!(shown(&buckets, 120, 1_000), [(120, Some((2.0, 3.0)))], "the clock was set back");
        buckets.add(9_000, 1.0);
        assert_eq!(shown(&buckets, 0, 10_000), [(9_000, Some((1.0, 1.0)))]);
    }

    #[test]
    fn negative_numbers_have_a_maximum_too() {
        let (mut one, mut other) = (Bucket::default(), Bucket::default());
        one.merge(&other);
        assert_eq!(one.mean_and_max(), None);
        other.add(-2.0);
        one.merge(&other);
        assert_eq!(one.mean_and_max(), Some((-2.0, -2.0)));
    }
}
