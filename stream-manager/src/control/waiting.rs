//! Requests that are answered only when something has happened.

use std::collections::BTreeSet;
use std::time::Instant;

use mysimbdp_platform::process::ProcessId;

use crate::key::{SlotKey, StreamKey};

/// A request that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) id: String,
    pub(crate) since: Instant,
    /// When who asked stops waiting.
    pub(crate) until: Instant,
    pub(crate) what: What,
}

/// What it waits for.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A process that is none of those that were there before.
    Start { stream: StreamKey, before: BTreeSet<u32> },
    /// The end of this process.
    Stop { key: SlotKey, process: ProcessId, forget: bool },
}
