//! One insert after the other on one connection, each acknowledged by majority and journal before the next.

use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use mongodb::Client;
use mongodb::options::ClientOptions;

use crate::failure::{BenchError, Result};
use crate::servers::{count, durable};

/// Inserts the documents `at_once` at a time, and gives how long each insert took.
///
/// # Errors
///
/// The server refuses a document.
pub async fn sequential(
    url: &str,
    database: &str,
    documents: &[RawDocumentBuf],
    at_once: usize,
) -> Result<Vec<Duration>> {
    let mut options =
        ClientOptions::parse(url).await.map_err(BenchError::of("read the address of mongod"))?;
    options.max_pool_size = Some(1);
    let client = Client::with_options(options).map_err(BenchError::of("connect to mongod"))?;
    let stored = durable(&client.database(database), "readings");
    count(&stored).await?;
    let mut took = Vec::with_capacity(documents.len().div_ceil(at_once));
    for batch in documents.chunks(at_once) {
        let begun = Instant::now();
        stored.insert_many(batch).ordered(false).await.map_err(BenchError::of("insert documents"))?;
        took.push(begun.elapsed());
    }
    Ok(took)
}
