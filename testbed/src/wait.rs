//! Waiting for a condition, up to a deadline.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. Only a fault lets it pass: it is many times what anything here takes while
/// others keep all cores busy.
pub const SOON: Duration = Duration::from_secs(180);

/// Between two looks: short beside anything that a test waits for, long beside the look itself.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// Returns as soon as `condition` holds.
///
/// # Panics
///
/// If it does not hold within `deadline`; the panic says `what` was waited for.
#[track_caller]
pub fn until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The same for a condition that is looked at asynchronously.
///
/// # Panics
///
/// As [`until`]. A look that is under way at the deadline is given up, so that a server which does not answer cannot
/// hold the test.
pub async fn until_async(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !condition().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(deadline, looks).await.is_err() {
        panic!("waited {deadline:?} in vain until {what}");
    }
}
