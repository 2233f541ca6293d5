//! Arrival contracts: when which file is expected, and whether it came.
//!
//! [`schedule`] has the due times, [`judge`] decides what became of each of them, [`display`] which of them is shown. All are
//! pure: the files that have arrived and the time are given.

pub mod display;
pub mod judge;
pub mod schedule;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::reason::ReasonCode;

/// What became of a due time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalOutcome {
    /// Nothing has arrived for it, and it is not over, or not judged yet.
    #[default]
    Expected,
    OnTime,
    /// The file came after it, and before half of the way to the next one.
    Late,
    Missing,
    /// What came has fewer records than required.
    TooSmall,
    /// Another file came after the one that was expected.
    Repeated,
}

impl ArrivalOutcome {
    pub const ALL: [Self; 6] =
        [Self::Expected, Self::OnTime, Self::Late, Self::Missing, Self::TooSmall, Self::Repeated];

    /// The name in documents, metrics and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::OnTime => "on_time",
            Self::Late => "late",
            Self::Missing => "missing",
            Self::TooSmall => "too_small",
            Self::Repeated => "repeated",
        }
    }

    /// Whether a person should know.
    pub fn is_problem(self) -> bool {
        matches!(self, Self::Missing | Self::TooSmall | Self::Repeated)
    }

    /// Whether what was expected came, if not too much of it.
    pub fn is_satisfied(self) -> bool {
        matches!(self, Self::OnTime | Self::Late | Self::Repeated)
    }
}

/// How far a file is that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArrivedState {
    /// In the drop directory.
    Waiting,
    Staged,
    /// Its app gave up on it.
    Held,
    /// With so many records in the file.
    Ingested {
        records: u64,
    },
    /// Its content was known already.
    Duplicate,
}

impl ArrivedState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Staged => "staged",
            Self::Held => "held",
            Self::Ingested { .. } => "ingested",
            Self::Duplicate => "discarded",
        }
    }

    pub fn records(self) -> Option<u64> {
        match self {
            Self::Ingested { records } => Some(records),
            Self::Waiting | Self::Staged | Self::Held | Self::Duplicate => None,
        }
    }
}

/// A file that matches a contract and has arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    pub received_at: Timestamp,
    pub file: String,
    /// `None` while its content has not been read.
    pub ingestion: Option<String>,
    pub state: ArrivedState,
}

/// A file that matches a contract and was discarded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiscardedArrival {
    pub file: String,
    pub received_at: Timestamp,
    pub reasons: Vec<String>,
    pub codes: Vec<ReasonCode>,
}

impl DiscardedArrival {
    /// Whether only its content was known already.
    pub fn is_duplicate(&self) -> bool {
        self.codes == [ReasonCode::Duplicate]
    }
}
