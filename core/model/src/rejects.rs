//! How many records of a file may be rejected before the file is held.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::Counts;

/// A number of records, or a share of the file's records in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
#[schemars(
    with = "String",
    extend(
        "type" = ["integer", "string"],
        "minimum" = 0,
        "pattern" = "^(100|[0-9]{1,2})%$",
        "patternErrorMessage" = "a number of records, such as 20, or a share of the file's records, such as \"10%\""
    )
)]
pub enum RejectsMax {
    Records(u64),
    Percent(u8),
}

/// The text is not a share.
#[derive(Debug, thiserror::Error)]
#[error("invalid share {0:?}: expected 0 to 100 and %, such as \"10%\"")]
pub struct ShareError(String);

/// The form in the configuration.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Records(u64),
    Share(String),
}

impl RejectsMax {
    /// The most records that may be rejected of `received` ones.
    pub fn of(self, received: u64) -> u64 {
        match self {
            Self::Records(records) => records,
            // For a file with 2^57 records or more this rounds down twice.
            Self::Percent(percent) => match received.checked_mul(u64::from(percent)) {
                Some(product) => product / 100,
                None => received / 100 * u64::from(percent),
            },
        }
    }

    /// Why a file with these counts is to be held; `None` if it may be ingested.
    pub fn excess(self, counts: Counts) -> Option<String> {
        let Counts { received, rejected, .. } = counts;
        let allowed = self.of(received);
        (rejected > allowed).then(|| {
            format!(
                "{rejected} of {received} records were rejected, the limit is {allowed} (rejects_max {self})"
            )
        })
    }
}

impl Default for RejectsMax {
    /// If a sender has changed the format of its files, far more records than this are rejected; if a file has only a few bad
    /// values, fewer are.
    fn default() -> Self {
        Self::Percent(10)
    }
}

impl fmt::Display for RejectsMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(records) => write!(f, "{records}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl TryFrom<Written> for RejectsMax {
    type Error = ShareError;

    fn try_from(written: Written) -> Result<Self, ShareError> {
        let text = match written {
            Written::Records(records) => return Ok(Self::Records(records)),
            Written::Share(text) => text,
        };
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        percent.filter(|percent| *percent <= 100).map(Self::Percent).ok_or(ShareError(text))
    }
}

impl From<RejectsMax> for Written {
    fn from(max: RejectsMax) -> Self {
        match max {
            RejectsMax::Records(records) => Self::Records(records),
            RejectsMax::Percent(_) => Self::Share(max.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(received: u64, rejected: u64) -> Counts {
        Counts { received, stored: received - rejected, duplicates: 0, rejected }
    }

    #[test]
    fn a_limit_is_a_number_or_a_share_and_only_more_rejects_than_that_exceed_it() {
        for (text, received, most) in [
            ("\"10%\"", 100, 10),
            ("\"10%\"", 99, 9),
            ("\"10%\"", 9, 0),
            ("\"0%\"", 1_000, 0),
            ("\"100%\"", 569, 569),
            ("20", 3, 20),
            ("0", 1_000, 0),
            ("\"50%\"", u64::MAX, u64::MAX / 100 * 50),
        ] {
            let max: RejectsMax = serde_json::from_str(text).expect(text);
            assert_eq!(max.of(received), most, "{text}");
            assert_eq!(serde_json::to_string(&max).expect("JSON"), text);
        }
        let max = RejectsMax::default();
        assert_eq!(max.excess(counts(100, 10)), None);
        let reason = max.excess(counts(569, 569)).expect("held");
        assert_eq!(reason, "569 of 569 records were rejected, the limit is 56 (rejects_max 10%)");
        for bad in ["\"10\"", "\"101%\"", "\"-1%\"", "-1", "1.5", "true"] {
            assert!(serde_json::from_str::<RejectsMax>(bad).is_err(), "{bad}");
        }
    }
}
