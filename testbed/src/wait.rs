//! Waits for a condition, up to a deadline.

use std::time::{Duration, Instant};

/// How long a test waits for an expected event. It is exceeded only if there is a bug: it is many times the duration of anything
/// here, even while other processes keep all cores busy.
pub const SOON: Duration = Duration::from_secs(180);

/// The interval between two checks: short compared with anything that a test waits for, long compared with the check itself.
const POLL_EVERY: Duration = Duration::from_millis(15);

/// Returns as soon as `condition` holds.
///
/// # Panics
///
/// If it does not hold within `deadline`. The message contains `what`, the awaited event.
#[track_caller]
pub fn until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain until: {what}");
        std::thread::sleep(POLL_EVERY);
    }
}

/// The same for an asynchronous condition.
///
/// # Panics
///
/// As [`until`]. A check that is running at the deadline is cancelled, so that a server that does not answer cannot block the
/// test.
pub async fn until_async(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !condition().await {
            tokio::time::sleep(POLL_EVERY).await;
        }
    };
    if tokio::time::timeout(deadline, polling).await.is_err() {
        panic!("waited {deadline:?} in vain until: {what}");
    }
}
