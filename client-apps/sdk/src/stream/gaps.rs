//! Which numbers of a source are missing, since when, and when they are asked for.

use std::time::{Duration, Instant};

use mysimbdp_core::message::Receipt;
use mysimbdp_core::ranges::Ranges;
use mysimbdp_core::source::Gone;

/// From one asking for the same numbers to the next: twice as long each time, up to this.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// A sleeping source need not be asked more often than this, however short the delay.
const ASK_AGAIN_MIN: Duration = Duration::from_millis(100);

/// The gaps of one source, as far as they are watched: the first [`Receipt::RANGES_MAX`] of them.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Ascending, not overlapping.
    pieces: Vec<Piece>,
    asked: Ranges,
    again_at: Option<Instant>,
    wait: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    first: u64,
    last: u64,
    since: Instant,
}

impl Gaps {
    /// Takes in what is missing now, and returns what has been missing for as long as `delay`.
    pub(crate) fn overdue(&mut self, missing: &Ranges, delay: Duration, now: Instant) -> Ranges {
        let mut pieces = Vec::new();
        for (first, last) in missing.iter().take(Receipt::RANGES_MAX) {
            let known = self.pieces.iter().filter(|piece| piece.first <= last && first <= piece.last);
            let known: Vec<Piece> = known
                .map(|piece| Piece { first: piece.first.max(first), last: piece.last.min(last), ..*piece })
                .collect();
            let covered: Ranges = known.iter().map(|piece| (piece.first, piece.last)).collect();
            let new = covered.holes(first, last);
            let new = new.iter().map(|(first, last)| Piece { first, last, since: now });
            pieces.extend(known.into_iter().chain(new));
        }
        pieces.sort_unstable_by_key(|piece| piece.first);
        self.pieces = pieces;
        let is_overdue = |piece: &&Piece| now.saturating_duration_since(piece.since) >= delay;
        let overdue = self.pieces.iter().filter(is_overdue).map(|piece| (piece.first, piece.last));
        let overdue: Ranges = overdue.collect();
        self.plan(&overdue, delay, now);
        overdue.iter().map(clipped).collect()
    }

    /// When to look again, even if nothing more comes.
    pub(crate) fn look_at(&self, delay: Duration) -> Option<Instant> {
        let watched = self.pieces.iter().filter(|piece| !self.asked.contains(piece.first));
        watched.map(|piece| piece.since + delay).chain(self.again_at).min()
    }

    fn plan(&mut self, overdue: &Ranges, delay: Duration, now: Instant) {
        if overdue.is_empty() {
            (self.asked, self.again_at) = (Ranges::default(), None);
        } else if *overdue != self.asked {
            self.wait = delay.max(ASK_AGAIN_MIN);
            (self.asked, self.again_at) = (overdue.clone(), Some(now + self.wait));
        } else if self.again_at.is_some_and(|at| at <= now) {
            self.wait = (self.wait * 2).min(ASK_AGAIN_MAX.max(delay));
            self.again_at = Some(now + self.wait);
        }
    }
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

    #[test]
    fn a_gap_is_asked_for_when_it_is_old_enough_and_each_part_for_itself() {
        let (mut gaps, start) = (Gaps::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let none = Ranges::default();
        assert_eq!(gaps.overdue(&ranges(&[(5, 9)]), DELAY, at(0)), none);
        assert_eq!(gaps.look_at(DELAY), Some(at(2)));
        // 7 has come in the meantime, and a later gap is new.
        let missing = ranges(&[(5, 6), (8, 9), (20, 30)]);
        assert_eq!(gaps.overdue(&missing, DELAY, at(1)), none);
        assert_eq!(gaps.overdue(&missing, DELAY, at(2)), ranges(&[(5, 6), (8, 9)]));
        assert_eq!(gaps.look_at(DELAY), Some(at(3)));
        assert_eq!(gaps.overdue(&missing, DELAY, at(3)), missing);
        assert_eq!(gaps.overdue(&none, DELAY, at(4)), none);
        assert_eq!(gaps.look_at(DELAY), None);
        // What was received and is missing anew, which a store cannot do, would be a new gap.
        assert_eq!(gaps.overdue(&missing, DELAY, at(5)), none);
    }

    #[test]
    fn the_same_gap_is_asked_for_ever_more_seldom() {
        let (mut gaps, start) = (Gaps::default(), Instant::now());
        let missing = ranges(&[(1, 1)]);
        let mut now = start;
        let mut waits = Vec::new();
        gaps.overdue(&missing, DELAY, now);
        while waits.len() < 8 {
            let next = gaps.look_at(DELAY).expect("the gap is still there");
            waits.push((next - now).as_secs());
            now = next;
            gaps.overdue(&missing, DELAY, now);
        }
        assert_eq!(waits, [2, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn what_a_forged_number_makes_missing_is_bounded() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        let missing: Ranges = (0..1000).map(|n| (n * 10, n * 10)).chain([(20_000, u64::MAX - 1)]).collect();
        assert_eq!(gaps.overdue(&missing, Duration::ZERO, now).len(), Receipt::RANGES_MAX);
        let wide = gaps.overdue(&ranges(&[(9, u64::MAX - 1)]), Duration::ZERO, now);
        assert_eq!(wide, ranges(&[(9, 1_000_008)]));
    }
}
