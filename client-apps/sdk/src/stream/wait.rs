//! Waiting for a time that may not be there.

use std::time::Instant;

/// Waits until then; forever where there is no time.
pub(crate) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
