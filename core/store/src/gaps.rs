//! Decides which missing numbers of a source are requested, and when.
//!
//! Pure: the source's progress and `now` go in, the numbers to request come out. A number is requested if
//!
//! 1. it is overdue: a later one was received at least the delay ago, and
//! 2. none of the overdue numbers has arrived by itself within the delay: if one has, the others are probably queued at
//!    another instance. Requesting them would only make the queues longer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mysimbdp_model::message::Receipt;
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::Lost;

use crate::sequences::Progress;

/// The longest wait between two requests for the same numbers; the wait doubles each time up to this.
const REQUEST_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// The shortest wait between two requests, however short the delay: a sleeping source need not be asked more often.
const REQUEST_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How many steps (how far the source had been seen, and when) are remembered. Beyond that the last step grows, so what
/// it covers becomes overdue later.
const STEPS_MAX: usize = 64;

/// The gaps of one source.
#[derive(Debug, Default)]
pub struct Gaps {
    /// Ascending in time and in number.
    steps: VecDeque<(Instant, u64)>,
    /// Missing numbers up to this one have been missing for at least the delay.
    overdue_through: u64,
    /// How many numbers up to `watched_through` were missing at the last check and had not been requested.
    unrequested: u64,
    watched_through: u64,
    /// When one of those arrived, if that was within the delay.
    progressed_at: Option<Instant>,
    requested: Ranges,
    request_again_at: Option<Instant>,
    wait: Duration,
}

impl Gaps {
    /// Takes the source's current progress, and returns the numbers to request: at most [`Receipt::RANGES_MAX`] ranges, the
    /// first ones.
    pub fn overdue(&mut self, progress: &Progress, delay: Duration, now: Instant) -> Ranges {
        let missing = progress.missing();
        if self.unrequested_of(&missing) < self.unrequested {
            self.progressed_at = Some(now);
        }
        if missing.is_empty() {
            self.steps.clear();
            self.overdue_through = progress.through;
        } else {
            self.remember_highest(progress.highest, delay, now);
        }
        let overdue = through(&missing, self.overdue_through);
        self.progressed_at = self.progressed_at.filter(|progressed_at| now < *progressed_at + delay);
        let to_request: Ranges = if self.progressed_at.is_some() {
            intersection(&self.requested, &overdue)
        } else {
            overdue.iter().map(clipped).take(Receipt::RANGES_MAX).collect()
        };
        self.plan(to_request, delay, now);
        self.watched_through = self.steps.front().map_or(self.overdue_through, |(_, seen)| *seen);
        self.unrequested = self.unrequested_of(&missing);
        self.requested.clone()
    }

    /// Returns when to check again even if nothing arrives until then.
    pub fn next_check_at(&self, delay: Duration) -> Option<Instant> {
        let overdue = self.steps.front().map(|(seen_at, _)| *seen_at + delay);
        let quiet = self.progressed_at.map(|progressed_at| progressed_at + delay);
        [overdue, quiet, self.request_again_at].into_iter().flatten().min()
    }

    /// Remembers how far the source has been seen, and updates what is overdue.
    fn remember_highest(&mut self, highest: u64, delay: Duration, now: Instant) {
        let is_higher = self.steps.back().map_or(self.overdue_through, |(_, seen)| *seen) < highest;
        if is_higher {
            if self.steps.len() == STEPS_MAX {
                self.steps.pop_back();
            }
            self.steps.push_back((now, highest));
        }
        while let Some((seen_at, seen)) = self.steps.front().copied()
            && seen_at + delay <= now
        {
            self.overdue_through = seen;
            self.steps.pop_front();
        }
    }

    fn unrequested_of(&self, missing: &Ranges) -> u64 {
        let watched = through(missing, self.watched_through);
        let unrequested = watched.iter().map(|(first, last)| self.requested.holes(first, last).count());
        unrequested.fold(0, u64::saturating_add)
    }

    fn plan(&mut self, to_request: Ranges, delay: Duration, now: Instant) {
        if to_request.is_empty() {
            (self.requested, self.request_again_at) = (to_request, None);
        } else if to_request != self.requested {
            self.wait = delay.max(REQUEST_INTERVAL_MIN);
            (self.requested, self.request_again_at) = (to_request, Some(now + self.wait));
        } else if self.request_again_at.is_some_and(|at| at <= now) {
            self.wait = (self.wait * 2).min(REQUEST_INTERVAL_MAX.max(delay));
            self.request_again_at = Some(now + self.wait);
        }
    }
}

/// Returns the numbers up to `last`.
fn through(ranges: &Ranges, last: u64) -> Ranges {
    let below = ranges.iter().take_while(|(first, _)| *first <= last);
    below.map(|(first, end)| (first, end.min(last))).collect()
}

/// Returns the numbers that are in both.
fn intersection(ranges: &Ranges, others: &Ranges) -> Ranges {
    let parts = others.iter().flat_map(|(first, last)| {
        let outside = ranges.holes(first, last);
        outside.holes(first, last).iter().collect::<Vec<_>>()
    });
    parts.collect()
}

/// Cuts a gap to what the source can answer in one message: an invalid number can make a gap of any size.
fn clipped((first, last): (u64, u64)) -> (u64, u64) {
    (first, last.min(first.saturating_add(Lost::NUMBERS_MAX - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(2);

    fn ranges(ranges: &[(u64, u64)]) -> Ranges {
        ranges.iter().copied().collect()
    }

    struct TestSource {
        gaps: Gaps,
        start: Instant,
    }

    impl TestSource {
        fn new() -> Self {
            Self { gaps: Gaps::default(), start: Instant::now() }
        }

        /// Returns what is requested at this second if these numbers are received.
        fn at(&mut self, second: u64, received: &[(u64, u64)]) -> Ranges {
            let progress = Progress::of(0, ranges(received));
            self.gaps.overdue(&progress, DELAY, self.start + Duration::from_secs(second))
        }

        fn checks_at(&self) -> Option<u64> {
            self.gaps.next_check_at(DELAY).map(|at| (at - self.start).as_secs())
        }
    }

    #[test]
    fn a_gap_is_requested_when_it_is_old_enough_and_each_part_by_itself() {
        let mut source = TestSource::new();
        assert_eq!(source.at(0, &[(1, 4), (10, 19)]), Ranges::default());
        assert_eq!(source.checks_at(), Some(2));
        // 7 has arrived in the meantime, and a later gap is new.
        let received = [(1, 4), (7, 7), (10, 19), (31, 31)];
        assert_eq!(source.at(1, &received), Ranges::default());
        assert_eq!(source.at(2, &received), Ranges::default(), "perhaps the others are coming too");
        assert_eq!(source.checks_at(), Some(3));
        assert_eq!(source.at(3, &received), ranges(&[(5, 6), (8, 9), (20, 30)]));
        let received = [(1, 4), (7, 7), (10, 19), (31, 31), (40, 40)];
        assert_eq!(source.at(4, &received), ranges(&[(5, 6), (8, 9), (20, 30)]), "32 is not overdue yet");
        assert_eq!(source.at(6, &received).last(), Some((32, 39)));
        assert_eq!(source.at(7, &[(1, 50)]), Ranges::default());
        assert_eq!(source.checks_at(), None);
    }

    #[test]
    fn the_same_gap_is_requested_less_and_less_often() {
        let mut source = TestSource::new();
        let (mut now, mut waits) = (0, Vec::new());
        source.at(now, &[(2, 2)]);
        while waits.len() < 8 {
            let next = source.checks_at().expect("the gap is still there");
            waits.push(next - now);
            now = next;
            source.at(now, &[(2, 2)]);
        }
        assert_eq!(waits, [2, 2, 4, 8, 16, 32, 60, 60]);
    }

    /// One of two instances is far ahead of the other, whose numbers are in its queue and not lost.
    #[test]
    fn numbers_that_arrive_by_themselves_are_not_requested() {
        let mut source = TestSource::new();
        let odd = (1..1_000).step_by(2).map(|number| (number, number));
        let received_even = |through: u64| (2..=through).step_by(2).map(|number| (number, number));
        let received = |through| odd.clone().chain(received_even(through)).collect::<Vec<_>>();
        source.at(0, &received(0));
        for second in 1..60 {
            // Ten numbers arrive each second; 4 is lost.
            let received: Vec<_> =
                received(10 * second).into_iter().filter(|(number, _)| *number != 4).collect();
            assert_eq!(source.at(second, &received), Ranges::default(), "after {second} s");
        }
        let stopped: Vec<_> = received(590).into_iter().filter(|(number, _)| *number != 4).collect();
        assert_eq!(source.at(60, &stopped), Ranges::default());
        assert_eq!(source.at(61, &stopped).first(), Some((4, 4)), "the other instance has stopped");
    }

    #[test]
    fn numbers_that_arrive_on_request_do_not_delay_other_requests() {
        let mut source = TestSource::new();
        let received = |from: u64| {
            let holes = (from..2_000).step_by(2).map(|number| (number, number));
            [(1, from)].into_iter().chain(holes).collect::<Vec<_>>()
        };
        source.at(0, &received(1));
        let requested = source.at(2, &received(1));
        assert_eq!((requested.len(), requested.last()), (Receipt::RANGES_MAX, Some((512, 512))));
        let requested = source.at(3, &received(513));
        assert_eq!((requested.first(), requested.last()), (Some((514, 514)), Some((1024, 1024))));
        assert_eq!(source.checks_at(), Some(5), "the rest needs no check before anything happens");
    }

    #[test]
    fn the_gap_that_an_invalid_number_makes_is_bounded() {
        let mut source = TestSource::new();
        let invalid = [(1, 8), (u64::MAX, u64::MAX)];
        source.at(0, &invalid);
        assert_eq!(source.at(2, &invalid), ranges(&[(9, 1_000_008)]));
        let mut source = TestSource::new();
        for second in 0..1_000 {
            source.at(0, &[(second + 2, second + 2)]);
        }
        assert_eq!(source.gaps.steps.len(), STEPS_MAX);
    }
}
