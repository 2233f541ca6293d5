//! Requests that are answered only once a condition is met.

use std::collections::BTreeSet;
use std::time::Instant;

use mysimbdp_platform::process::ProcessId;

use crate::key::{SlotKey, StreamKey};

/// A request that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) id: String,
    pub(crate) since: Instant,
    /// When the sender stops waiting.
    pub(crate) until: Instant,
    pub(crate) condition: Condition,
}

/// What a request waits for.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// A new process: its pid is not in `before`.
    Start { stream: StreamKey, before: BTreeSet<u32> },
    /// The end of this process.
    Stop { key: SlotKey, process: ProcessId, forget: bool },
}
