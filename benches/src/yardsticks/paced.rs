//! Inserts at a rate and no faster, as one who has nothing else to do would.

use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use mongodb::Database;

use crate::failure::{BenchError, Result};
use crate::servers::{count, durable};

/// Of one message, as an app would send it.
const BATCH_MAX: u64 = 1_000;

const TICK: Duration = Duration::from_millis(1);

/// Inserts the same document again and again, `per_second` times; what has come due during one insert goes with the next.
/// Gives for each the time from when it was due to when it was acknowledged by majority and journal.
///
/// # Errors
///
/// The server refuses a document.
pub async fn paced(
    database: &Database,
    document: &RawDocumentBuf,
    per_second: u64,
    seconds: u64,
) -> Result<Vec<Duration>> {
    let stored = durable(database, "readings");
    count(&stored).await?;
    let all = per_second * seconds;
    let mut took = Vec::with_capacity(all as usize);
    let begun = Instant::now();
    while (took.len() as u64) < all {
        let inserted = took.len() as u64;
        let due = (begun.elapsed().as_secs_f64() * per_second as f64) as u64;
        let batch = due.min(all).saturating_sub(inserted).min(BATCH_MAX);
        if batch == 0 {
            tokio::time::sleep(TICK).await;
            continue;
        }
        let documents = (0..batch).map(|_| document);
        stored.insert_many(documents).ordered(false).await.map_err(BenchError::of("insert documents"))?;
        let now = begun.elapsed();
        let due_at = |n: u64| Duration::from_secs_f64(n as f64 / per_second as f64);
        took.extend((inserted..inserted + batch).map(|n| now.saturating_sub(due_at(n))));
    }
    Ok(took)
}
