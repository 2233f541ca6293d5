//! What an edge has done, and what waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What an edge has done since it was opened, and what waits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages that were written to the outbox.
    pub accepted: u64,
    /// Messages that were sent to the broker, repeats included.
    pub published: u64,
    /// Messages that the broker has acknowledged and had a subscriber for, repeats included.
    pub acknowledged: u64,
    /// Messages that the broker has refused. They are sent again.
    pub refused: u64,
    /// Messages that the platform has confirmed: stored, rejected, or lost for good.
    pub confirmed: u64,
    /// How often a connection to the broker was established.
    pub connections: u64,
    pub connected: bool,
    /// Messages that are not confirmed. After a start, all in the outbox count as such until the platform's first receipt.
    pub waiting: u64,
    /// For how long the oldest of them has waited; zero if there is none. For those of before the start, at least: since their
    /// part of the outbox was last written.
    pub oldest_waiting: Duration,
    /// The size of the outbox on disk, and the most that it may have.
    pub outbox_bytes: u64,
    pub capacity_bytes: u64,
}

/// What the publisher counts.
#[derive(Debug, Default)]
pub struct PublishCounts {
    pub published: Count,
    pub acknowledged: Count,
    pub refused: Count,
    pub connections: Count,
}

#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn increase(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
