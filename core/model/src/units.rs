//! Durations and sizes as people write them: `"2s"`, `"10MiB"`.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];
const PERIODS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1_000)];

/// A size in bytes, written as a whole number and one of `B`, `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(
    with = "String",
    extend(
        "pattern" = "^[0-9]{1,10}(B|kB|MB|GB|KiB|MiB|GiB)$",
        "patternErrorMessage" = "a whole number and B, kB, MB, GB, KiB, MiB or GiB, such as \"10MiB\""
    )
)]
pub struct ByteSize(u64);

/// A duration, written as a whole number and one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(
    with = "String",
    extend(
        "pattern" = "^[0-9]{1,9}(ms|s|m|h|d)$",
        "patternErrorMessage" = "a whole number and ms, s, m, h or d, such as \"2s\""
    )
)]
pub struct Period(Duration);

/// The text is not a size or a duration.
#[derive(Debug, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "invalid size {0:?}: expected a whole number and B, kB, MB, GB, KiB, MiB or GiB, such as \"10MiB\""
    )]
    Size(String),
    #[error("invalid duration {0:?}: expected a whole number and ms, s, m, h or d, such as \"2s\"")]
    Period(String),
}

impl ByteSize {
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl Period {
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for ByteSize {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        scaled(&text, &SIZES).map(Self).ok_or(QuantityError::Size(text))
    }
}

impl TryFrom<String> for Period {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        scaled(&text, &PERIODS)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or(QuantityError::Period(text))
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SIZES)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0.as_millis() as u64, &PERIODS)
    }
}

/// Writes the number in the largest unit that divides it.
fn write_scaled(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    let unit = units
        .iter()
        .filter(|(_, factor)| number != 0 && number.is_multiple_of(*factor))
        .max_by_key(|unit| unit.1);
    let (name, factor) = unit.unwrap_or(&units[units.len() - 1]);
    write!(f, "{}{name}", number / factor)
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_round_trip_in_their_largest_unit() {
        for (text, bytes) in
            [("10MiB", 10 << 20), ("10MB", 10_000_000), ("0B", 0), ("1kB", 1000), ("1025B", 1025)]
        {
            let size = ByteSize::try_from(text.to_owned()).expect(text);
            assert_eq!((size.as_u64(), size.to_string().as_str()), (bytes, text));
        }
        for (text, millis) in [("2s", 2000), ("1500ms", 1500), ("5m", 300_000), ("7d", 604_800_000)] {
            let period = Period::try_from(text.to_owned()).expect(text);
            assert_eq!((period.duration().as_millis(), period.to_string().as_str()), (millis, text));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "10",
            "MB",
            "-1MB",
            "1.5MB",
            "10 MB",
            "10mb",
            "99999999999999999999B",
            "18446744073709551615GB",
        ] {
            assert!(ByteSize::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for bad in ["", "2", "s", "-2s", "2 s", "2sec", "18446744073709551615d"] {
            assert!(Period::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
