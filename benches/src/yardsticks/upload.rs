//! Uploads an object as the driver itself does it: one chunk of 255 KiB after the other.

use std::time::{Duration, Instant};

use bson::doc;
use futures::AsyncWriteExt;
use mongodb::Database;
use mongodb::options::{Acknowledgment, GridFsBucketOptions, WriteConcern};

use crate::failure::{BenchError, Result};

/// Uploads the bytes as one object and gives the time from before the stream is opened to after it is closed.
///
/// # Errors
///
/// The server does not take it.
pub async fn upload(database: &Database, bytes: &[u8]) -> Result<Duration> {
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let bucket = database.gridfs_bucket(GridFsBucketOptions::builder().write_concern(concern).build());
    // A connection, before the time begins.
    database.run_command(doc! {"ping": 1}).await.map_err(BenchError::of("reach mongod"))?;
    let begun = Instant::now();
    let mut stream = bucket.open_upload_stream("object").await.map_err(BenchError::of("open an upload"))?;
    stream.write_all(bytes).await.map_err(BenchError::of("upload"))?;
    stream.close().await.map_err(BenchError::of("close an upload"))?;
    Ok(begun.elapsed())
}
