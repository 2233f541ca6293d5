//! Waits for an optional instant.

use std::time::Instant;

/// Waits until `time`, or forever if it is `None`.
pub(crate) async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
