//! Which numbers of a source are missing, since when, and when they are asked for.
//!
//! Pure: how far the source is received and `now` go in, what is to be asked for comes out. A number counts as lost if
//!
//! 1. a later one has been seen for as long as the delay, and
//! 2. none of the numbers that are missing so long has come by itself for as long: else they are not lost, another
//!    instance is working through the queue that they wait in. To ask for them would only make the queues longer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mysimbdp_model::message::Receipt;
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::Gone;

use crate::sequences::Progress;

/// From one asking for the same numbers to the next: twice as long each time, up to this.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// A sleeping source need not be asked more often than this, however short the delay.
const ASK_AGAIN_MIN: Duration = Duration::from_millis(100);

/// How far the source had been seen, and when: so many steps are remembered. With more of them the last one grows, which
/// makes what it covers overdue later.
const STEPS_MAX: usize = 64;

/// The gaps of one source.
#[derive(Debug, Default)]
pub struct Gaps {
    /// Ascending in time and number.
    steps: VecDeque<(Instant, u64)>,
    /// Missing numbers up to this one have been missing for the delay.
    overdue_through: u64,
    /// How many numbers up to `watched_through` were missing at the last look and had not been asked for.
    unasked: u64,
    watched_through: u64,
    /// When one of those came, if that is not as long ago as the delay.
    moved_at: Option<Instant>,
    asked: Ranges,
    again_at: Option<Instant>,
    wait: Duration,
}

impl Gaps {
    /// Takes in how far the source is received now, and returns what is to be asked for: the first
    /// [`Receipt::RANGES_MAX`] ranges.
    pub fn overdue(&mut self, progress: &Progress, delay: Duration, now: Instant) -> Ranges {
        let missing = progress.missing();
        if self.unasked_of(&missing) < self.unasked {
            self.moved_at = Some(now);
        }
        if missing.is_empty() {
            self.steps.clear();
            self.overdue_through = progress.through;
        } else {
            self.step(progress.highest, delay, now);
        }
        let overdue = through(&missing, self.overdue_through);
        self.moved_at = self.moved_at.filter(|moved_at| now < *moved_at + delay);
        let named: Ranges = if self.moved_at.is_some() {
            common(&self.asked, &overdue)
        } else {
            overdue.iter().map(clipped).take(Receipt::RANGES_MAX).collect()
        };
        self.plan(named, delay, now);
        self.watched_through = self.steps.front().map_or(self.overdue_through, |(_, seen)| *seen);
        self.unasked = self.unasked_of(&missing);
        self.asked.clone()
    }

    /// When to look again, even if nothing more comes.
    pub fn look_at(&self, delay: Duration) -> Option<Instant> {
        let step = self.steps.front().map(|(seen_at, _)| *seen_at + delay);
        let still = self.moved_at.map(|moved_at| moved_at + delay);
        [step, still, self.again_at].into_iter().flatten().min()
    }

    /// Remembers how far the source has been seen, and finds out what is overdue.
    fn step(&mut self, highest: u64, delay: Duration, now: Instant) {
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

    fn unasked_of(&self, missing: &Ranges) -> u64 {
        let watched = through(missing, self.watched_through);
        let unasked = watched.iter().map(|(first, last)| self.asked.holes(first, last).count());
        unasked.fold(0, u64::saturating_add)
    }

    fn plan(&mut self, named: Ranges, delay: Duration, now: Instant) {
        if named.is_empty() {
            (self.asked, self.again_at) = (named, None);
        } else if named != self.asked {
            self.wait = delay.max(ASK_AGAIN_MIN);
            (self.asked, self.again_at) = (named, Some(now + self.wait));
        } else if self.again_at.is_some_and(|at| at <= now) {
            self.wait = (self.wait * 2).min(ASK_AGAIN_MAX.max(delay));
            self.again_at = Some(now + self.wait);
        }
    }
}

/// Those numbers that are not above `last`.
fn through(ranges: &Ranges, last: u64) -> Ranges {
    let below = ranges.iter().take_while(|(first, _)| *first <= last);
    below.map(|(first, end)| (first, end.min(last))).collect()
}

/// The numbers that are in both.
fn common(ranges: &Ranges, others: &Ranges) -> Ranges {
    let parts = others.iter().flat_map(|(first, last)| {
        let beside = ranges.holes(first, last);
        beside.holes(first, last).iter().collect::<Vec<_>>()
    });
    parts.collect()
}

/// So much of a gap as the source can answer in one message. A forged number makes a gap of any size.
fn clipped((first, last): (u64, u64)) -> (u64, u64) {
    (first, last.min(first.saturating_add(Gone::NUMBERS_MAX - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(2);

    fn ranges(ranges: &[(u64, u64)]) -> Ranges {
        ranges.iter().copied().collect()
    }

    struct Watch {
        gaps: Gaps,
        start: Instant,
    }

    impl Watch {
        fn new() -> Self {
            Self { gaps: Gaps::default(), start: Instant::now() }
        }

        /// What is asked for at this second, when so much is received.
        fn at(&mut self, second: u64, received: &[(u64, u64)]) -> Ranges {
            let progress = Progress::of(0, ranges(received));
            self.gaps.overdue(&progress, DELAY, self.start + Duration::from_secs(second))
        }

        fn looks_at(&self) -> Option<u64> {
            self.gaps.look_at(DELAY).map(|at| (at - self.start).as_secs())
        }
    }

    #[test]
    fn a_gap_is_asked_for_when_it_is_old_enough_and_each_part_for_itself() {
        let mut watch = Watch::new();
        assert_eq!(watch.at(0, &[(1, 4), (10, 19)]), Ranges::default());
        assert_eq!(watch.looks_at(), Some(2));
        // 7 has come in the meantime, and a later gap is new.
        let received = [(1, 4), (7, 7), (10, 19), (31, 31)];
        assert_eq!(watch.at(1, &received), Ranges::default());
        assert_eq!(watch.at(2, &received), Ranges::default(), "perhaps the others are coming too");
        assert_eq!(watch.looks_at(), Some(3));
        assert_eq!(watch.at(3, &received), ranges(&[(5, 6), (8, 9), (20, 30)]));
        let received = [(1, 4), (7, 7), (10, 19), (31, 31), (40, 40)];
        assert_eq!(watch.at(4, &received), ranges(&[(5, 6), (8, 9), (20, 30)]), "32 is not overdue yet");
        assert_eq!(watch.at(6, &received).last(), Some((32, 39)));
        assert_eq!(watch.at(7, &[(1, 50)]), Ranges::default());
        assert_eq!(watch.looks_at(), None);
    }

    #[test]
    fn the_same_gap_is_asked_for_ever_more_seldom() {
        let mut watch = Watch::new();
        let (mut now, mut waits) = (0, Vec::new());
        watch.at(now, &[(2, 2)]);
        while waits.len() < 8 {
            let next = watch.looks_at().expect("the gap is still there");
            waits.push(next - now);
            now = next;
            watch.at(now, &[(2, 2)]);
        }
        assert_eq!(waits, [2, 2, 4, 8, 16, 32, 60, 60]);
    }

    /// One of two instances is far ahead of the other, whose numbers are in its queue and not lost.
    #[test]
    fn numbers_that_come_by_themselves_are_not_asked_for() {
        let mut watch = Watch::new();
        let odd = (1..1_000).step_by(2).map(|number| (number, number));
        let received_even = |through: u64| (2..=through).step_by(2).map(|number| (number, number));
        let received = |through| odd.clone().chain(received_even(through)).collect::<Vec<_>>();
        watch.at(0, &received(0));
        for second in 1..60 {
            // Ten a second, and 4 among them is lost.
            let received: Vec<_> =
                received(10 * second).into_iter().filter(|(number, _)| *number != 4).collect();
            assert_eq!(watch.at(second, &received), Ranges::default(), "after {second} s");
        }
        let stopped: Vec<_> = received(590).into_iter().filter(|(number, _)| *number != 4).collect();
        assert_eq!(watch.at(60, &stopped), Ranges::default());
        assert_eq!(watch.at(61, &stopped).first(), Some((4, 4)), "the other one does nothing any more");
    }

    #[test]
    fn what_comes_because_it_was_asked_for_does_not_put_the_rest_off() {
        let mut watch = Watch::new();
        let received = |from: u64| {
            let holes = (from..2_000).step_by(2).map(|number| (number, number));
            [(1, from)].into_iter().chain(holes).collect::<Vec<_>>()
        };
        watch.at(0, &received(1));
        let asked = watch.at(2, &received(1));
        assert_eq!((asked.len(), asked.last()), (Receipt::RANGES_MAX, Some((512, 512))));
        let asked = watch.at(3, &received(513));
        assert_eq!((asked.first(), asked.last()), (Some((514, 514)), Some((1024, 1024))));
        assert_eq!(watch.looks_at(), Some(5), "the rest needs no look before anything happens");
    }

    #[test]
    fn what_a_forged_number_makes_missing_is_bounded() {
        let mut watch = Watch::new();
        let forged = [(1, 8), (u64::MAX, u64::MAX)];
        watch.at(0, &forged);
        assert_eq!(watch.at(2, &forged), ranges(&[(9, 1_000_008)]));
        let mut watch = Watch::new();
        for second in 0..1_000 {
            watch.at(0, &[(second + 2, second + 2)]);
        }
        assert_eq!(watch.gaps.steps.len(), STEPS_MAX);
    }
}
