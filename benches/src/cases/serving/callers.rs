//! Many callers at a time, each one request after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use crate::case::Sample;
use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;
use crate::percentile::percentile;

/// The name of the fact that says how many requests have failed.
pub const FAILED: &str = "failed";

/// How long requests took.
#[derive(Debug)]
pub struct Answered {
    pub p50: f64,
    pub p99: f64,
    pub per_second: f64,
    failed: u64,
}

impl Answered {
    /// A sample of this value, with the rest as facts.
    pub fn sample(&self, value: f64) -> Sample {
        Sample::of(value)
            .with("ms p50", self.p50)
            .with("ms p99", self.p99)
            .with("requests/s", self.per_second)
            .with(FAILED, self.failed as f64)
    }
}

/// Opens a connection for each caller.
///
/// # Errors
///
/// Nobody listens there.
pub async fn connections(host: &str, callers: usize) -> Result<Vec<HttpConnection>> {
    let mut connections = Vec::with_capacity(callers);
    for _ in 0..callers {
        connections.push(HttpConnection::open(host).await?);
    }
    Ok(connections)
}

/// Asks `requests` times. Each caller has one of `callers`; `ask` gets the number of the request, and returns whether the answer
/// is right.
///
/// # Errors
///
/// A caller has panicked.
pub async fn ask_all<C: 'static, A>(callers: Vec<C>, requests: u64, ask: A) -> Result<Answered>
where
    A: AsyncFn(&mut C, u64) -> bool + Clone + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let local = LocalSet::new();
    let mut running = JoinSet::new();
    for mut caller in callers {
        let (next, ask) = (Arc::clone(&next), ask.clone());
        running.spawn_local_on(
            async move {
                let (mut times, mut failed) = (Vec::new(), 0_u64);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return (times, failed);
                    }
                    let begun = Instant::now();
                    failed += u64::from(!ask(&mut caller, number).await);
                    times.push(begun.elapsed());
                }
            },
            &local,
        );
    }
    let (mut times, mut failed) = (Vec::<Duration>::new(), 0);
    local
        .run_until(async {
            while let Some(ended) = running.join_next().await {
                let (some, failures) = ended.map_err(BenchError::of("run a caller"))?;
                times.extend(some);
                failed += failures;
            }
            Ok(())
        })
        .await?;
    let per_second = requests as f64 / begun.elapsed().as_secs_f64();
    Ok(Answered { p50: percentile(times.clone(), 50), p99: percentile(times, 99), per_second, failed })
}
