//! Why a file is where it is: `reason.json` beside a discarded or held file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What validation, or the app, had to say. Written once, read by people and by `mysimbdp status` and `retry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The name under which it was dropped, escaped where it is not plain text.
    pub file: String,
    pub client: Option<String>,
    pub ingestion: Option<String>,
    /// Where `mysimbdp retry` returns it to, relative to the data root.
    pub dropped_at: String,
    pub bytes: u64,
    pub received_at: Timestamp,
    pub decided_at: Timestamp,
    /// All of them, not just the first.
    pub reasons: Vec<String>,
}

impl Reason {
    pub const FILE: &'static str = "reason.json";
}
