//! Inserts documents that are prepared as raw BSON: what mongod can take from a driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use mongodb::Database;
use tokio::task::JoinSet;

use crate::failure::{BenchError, Result};
use crate::servers::{count, durable};

/// As many as an app has: one waits for the journal while the other sends.
const WRITERS: usize = 2;

/// Fewer are slower, more are no faster.
const BATCH_DOCUMENTS: usize = 1_000;

/// Inserts all documents into a new collection, unordered, each batch acknowledged by majority and journal, and gives the
/// time from before the first batch to after the last acknowledgement.
///
/// # Errors
///
/// The server refuses a document, or not all of them are there in the end.
pub async fn insert(database: &Database, documents: &Arc<Vec<RawDocumentBuf>>) -> Result<Duration> {
    let stored = durable(database, "readings");
    // The connections are made before the time begins, as those of an app are by its manager's account.
    count(&stored).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (stored, documents, next) = (stored.clone(), Arc::clone(documents), Arc::clone(&next));
        writers.spawn(async move {
            loop {
                let from = next.fetch_add(BATCH_DOCUMENTS, Ordering::Relaxed);
                let batch =
                    &documents[from.min(documents.len())..(from + BATCH_DOCUMENTS).min(documents.len())];
                if batch.is_empty() {
                    return Ok(());
                }
                stored.insert_many(batch).ordered(false).await.map_err(BenchError::of("insert documents"))?;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.map_err(BenchError::of("run a writer"))??;
    }
    let took = begun.elapsed();
    match count(&stored).await? {
        there if there == documents.len() as u64 => Ok(took),
        there => Err(BenchError::new(format!("{there} of {} documents are stored", documents.len()))),
    }
}
