//! Finds the rejected records of a file.
//!
//! 1. [`open`] finds the file: those of a held file are read from `held/`, those of an ingested one from the client's
//!    database;
//! 2. [`RejectedRecords::next`] reads one record after the other;
//! 3. [`RejectedRecords::finish`] tells whether they were all;
//! 4. [`RejectedExport`] puts them together in the format of their file, so that they can be repaired and dropped.

mod export;
mod held;
mod ingested;

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Format;
use mysimbdp_platform::files;
use mysimbdp_spool::staging;

pub use export::{RecordFrame, RejectedExport};

use crate::error::QueryError;
use held::HeldRejects;
use ingested::IngestedRejects;

/// A rejected record of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Its number in the whole file, from 0.
    pub record: u64,
    pub reason: String,
    /// Its bytes, without line end or separator; `None` if an earlier version stored it, and did not keep them.
    pub content: Option<Vec<u8>>,
}

/// The rejected records of a file, which are read one after the other.
///
/// In memory are at most one record of a held file, and one page of documents and one record of an ingested one.
#[derive(Debug)]
pub struct RejectedRecords {
    description: Description,
    rejects: Rejects,
    warning: Option<String>,
}

/// What is known before the first record.
#[derive(Debug)]
struct Description {
    client: ClientId,
    file: String,
    format: Format,
    prefix: Vec<u8>,
    expected: u64,
}

#[derive(Debug)]
enum Rejects {
    Held(Box<HeldRejects>),
    Ingested(IngestedRejects),
}

/// Finds a held or ingested file, and what is known of it before its first rejected record.
///
/// # Errors
///
/// - [`QueryError::TryLater`]: the file is being ingested;
/// - [`QueryError::NotFound`]: there is no such file, it was purged, or its client is no longer configured;
/// - [`QueryError::InvalidData`]: none of its rejected records is in the store;
/// - `held/` or the store cannot be read.
pub async fn open(config: &Config, ingestion: IngestionId) -> Result<RejectedRecords, QueryError> {
    let layout = &config.layout;
    // Users other than the platform's may not be allowed to read these directories, but may be allowed to read the
    // store.
    let owners = staging::owners(layout).unwrap_or_default();
    if let Some(client) = owners.iter().find(|client| files::exists(&layout.held(client, ingestion))) {
        return held::open(layout, client, ingestion);
    }
    if owners.iter().any(|client| files::exists(&layout.staged(client, ingestion))) {
        let problem =
            format!("{ingestion} is being ingested: its rejected records are known when it has ended");
        return Err(QueryError::TryLater(problem));
    }
    ingested::open(config, ingestion).await
}

impl RejectedRecords {
    pub fn client(&self) -> &ClientId {
        &self.description.client
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.description.file
    }

    pub fn format(&self) -> Format {
        self.description.format
    }

    /// The byte order mark and the header line of a CSV file.
    pub fn prefix(&self) -> &[u8] {
        &self.description.prefix
    }

    /// How many records were rejected.
    pub fn expected(&self) -> u64 {
        self.description.expected
    }

    /// Says that a later run was held whose rejected records cannot be shown: these are not all.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Returns the next record; `None` after the last one that was found. [`RejectedRecords::finish`] tells whether
    /// that was the last one that was rejected.
    ///
    /// # Errors
    ///
    /// The file or the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<RejectedRecord>, QueryError> {
        match &mut self.rejects {
            Rejects::Held(rejects) => rejects.next(),
            Rejects::Ingested(rejects) => rejects.next().await,
        }
    }

    /// Closes the store, and checks that all rejected records of an ingested file were returned. To be called after the
    /// last record.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidData`]: somebody has removed some of them from the collection.
    pub async fn finish(self) -> Result<(), QueryError> {
        match self.rejects {
            Rejects::Held(_) => Ok(()),
            Rejects::Ingested(rejects) => rejects.finish(self.description.expected).await,
        }
    }
}
