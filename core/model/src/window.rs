//! The size of windows over time.

use std::fmt;

use crate::units::Period;

const SIZE_MIN: Period = Period::seconds(1);
const SIZE_MAX: Period = Period::seconds(366 * 86_400);

/// The size of windows: the first one begins at 1970-01-01T00:00:00Z, and each begins where the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowSize(i64);

/// The duration is not the size of a window.
#[derive(Debug, thiserror::Error)]
#[error("invalid size {0}: expected {SIZE_MIN} to {SIZE_MAX}")]
pub struct WindowSizeError(Period);

impl WindowSize {
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The beginning of the window that this time is in; both in milliseconds since 1970.
    pub const fn start_of(self, millis: i64) -> i64 {
        millis.div_euclid(self.0) * self.0
    }

    pub const fn is_whole_seconds(self) -> bool {
        self.0 % 1_000 == 0
    }
}

impl TryFrom<Period> for WindowSize {
    type Error = WindowSizeError;

    fn try_from(period: Period) -> Result<Self, WindowSizeError> {
        let millis = i64::try_from(period.duration().as_millis());
        let millis = millis.ok().filter(|_| (SIZE_MIN..=SIZE_MAX).contains(&period));
        millis.map(Self).ok_or(WindowSizeError(period))
    }
}

impl fmt::Display for WindowSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Period::millis(self.0.unsigned_abs()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_to_1970_and_have_a_size_within_bounds() {
        let size = |millis| WindowSize::try_from(Period::millis(millis));
        let minute = size(60_000).expect("a size");
        let starts = [-60_001, -60_000, -1, 0, 59_999, 60_000].map(|millis| minute.start_of(millis));
        assert_eq!(starts, [-120_000, -60_000, -60_000, 0, 0, 60_000]);
        assert_eq!(minute.to_string(), "1m");
        assert!(!size(1_500).expect("a size").is_whole_seconds());
        for wrong in [0, 999, 366 * 86_400_000 + 1, u64::MAX] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size(5).expect_err("too small").to_string(), "invalid size 5ms: expected 1s to 366d");
    }
}
