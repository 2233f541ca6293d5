//! Bounds the lines of libraries: one that fails in a loop must neither fill the log nor push out what was there.

use std::time::{Duration, Instant};

const LINES_PER_SECOND_MAX: u32 = 20;

/// Counts the lines of the current second.
#[derive(Debug)]
pub(super) struct Throttle {
    second: Instant,
    lines: u32,
    left_out: u64,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self { second: now, lines: 0, left_out: 0 }
    }

    /// Returns how many lines were left out before this one; `None` if this one is left out, too.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.lines) = (now, 0);
        }
        if self.lines == LINES_PER_SECOND_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_of_lines_some_are_written_each_second_and_the_others_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        for line in 0..5_000 {
            let admitted = throttle.admit(start + Duration::from_micros(100 * line));
            assert_eq!(admitted, (line < u64::from(LINES_PER_SECOND_MAX)).then_some(0), "line {line}");
        }
        let left_out = 5_000 - u64::from(LINES_PER_SECOND_MAX);
        assert_eq!(throttle.admit(start + Duration::from_secs(2)), Some(left_out));
        assert_eq!(throttle.admit(start + Duration::from_secs(2)), Some(0));
    }
}
