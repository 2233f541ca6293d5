//! Access to coredms, the store that everything ends in: MongoDB, or the embedded store for a laptop.
//!
//! Both keep the same promises, and one contract suite (`tests/store`) runs on both:
//!
//! - what is reported as stored has been acknowledged durably (MongoDB: majority and journal; embedded: synced);
//! - every write may be repeated: an `_id` that already exists is a duplicate, never an error;
//! - a document that the store refuses does not stop the others;
//! - every call ends: if the store does not answer, with [`CoredmsError::Unavailable`].

#![allow(clippy::disallowed_methods)]

pub mod announcement;
pub mod arrivals;
pub mod date;
mod documents;
#[cfg(feature = "embedded")]
mod embedded;
pub mod gaps;
pub mod history;
mod key;
mod merge;
#[cfg(feature = "mongo")]
mod mongo;
mod objects;
mod precheck;
pub mod rejected;
mod select;
pub mod sequences;
mod version;

use std::sync::Arc;

use async_trait::async_trait;
use bson::Bson;
use mysimbdp_model::ingestion::IngestionId;

pub use documents::{Documents, Order, Removal, Written};
#[cfg(feature = "embedded")]
pub use embedded::EmbeddedStore;
pub use merge::Merge;
#[cfg(feature = "mongo")]
pub use mongo::MongoStore;
pub use objects::{CHUNK_BYTES, CommittedObject, Extent, Object, Objects, committed_object, object_length};
pub use select::{Position, Selected, Selection};
pub use version::EarlierRuns;

/// What caused a [`CoredmsError`]: an error of the driver, of SQLite or of the file system, or a message.
pub type ErrorSource = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong in the store, and whether trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum CoredmsError {
    /// Not reachable, no primary, or a timeout: try again later.
    #[error("coredms at {address} is not available: cannot {operation}")]
    Unavailable {
        address: String,
        operation: &'static str,
        #[source]
        source: ErrorSource,
    },
    /// The store refuses the operation, and will refuse it again.
    #[error("coredms at {address} refuses: cannot {operation}")]
    Refused {
        address: String,
        operation: &'static str,
        #[source]
        source: ErrorSource,
    },
    #[error("invalid address of a store {0:?}: expected mongodb://…, mongodb+srv://… or sqlite:<directory>")]
    Address(String),
    /// The address is valid, but this program was built without the store that it names.
    #[error(
        "this program was built without a store for {address}: expected the cargo feature `{feature}` of mysimbdp-store"
    )]
    NotBuilt { address: String, feature: &'static str },
    #[error("the value cannot be encoded as a document")]
    NotADocument(#[source] bson::error::Error),
    /// Chunks of the object are missing, or its length is not the announced one.
    #[error("object {id} is incomplete: {found} of {expected} bytes")]
    Incomplete { id: IngestionId, found: u64, expected: u64 },
}

impl CoredmsError {
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// One database of the store, shared through an [`Arc`].
#[async_trait]
pub trait Coredms: Documents + Objects + std::fmt::Debug {
    /// Succeeds if the store can be written to.
    async fn ping(&self) -> Result<(), CoredmsError>;

    /// Removes the database with all its content; meant for a database that was created for a trial.
    async fn drop_database(&self) -> Result<(), CoredmsError>;

    /// Closes the connection in an orderly way.
    async fn close(&self);
}

/// Opens a database of the store at `url` (`mongodb://…` or `sqlite:<directory>`). Connects on first use.
///
/// # Errors
///
/// [`CoredmsError::Address`] if it is not the address of a store, [`CoredmsError::NotBuilt`] if this program was built
/// without that store. The embedded store also fails if its directory cannot be created.
pub async fn open(url: &str, database: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    if url.starts_with("mongodb+srv://") && cfg!(not(feature = "srv")) {
        return Err(CoredmsError::NotBuilt { address: "mongodb+srv://".to_owned(), feature: "srv" });
    }
    if url.starts_with("mongodb://") || url.starts_with("mongodb+srv://") {
        return mongo(url, database).await;
    }
    match url.strip_prefix("sqlite:") {
        Some(directory) if !directory.is_empty() => embedded(directory, database),
        _ => Err(CoredmsError::Address(url.to_owned())),
    }
}

#[cfg(feature = "mongo")]
async fn mongo(url: &str, database: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Ok(Arc::new(MongoStore::open(url, database).await?))
}

#[cfg(not(feature = "mongo"))]
async fn mongo(_: &str, _: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Err(CoredmsError::NotBuilt { address: "MongoDB".to_owned(), feature: "mongo" })
}

#[cfg(feature = "embedded")]
fn embedded(directory: &str, database: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Ok(Arc::new(EmbeddedStore::open(directory, database)?))
}

#[cfg(not(feature = "embedded"))]
fn embedded(directory: &str, _: &str) -> Result<Arc<dyn Coredms>, CoredmsError> {
    Err(CoredmsError::NotBuilt { address: format!("sqlite:{directory}"), feature: "embedded" })
}

/// Returns a count in a document as a `u64`, whatever its integer type; 0 if the value is not a count.
pub fn whole(value: Option<&Bson>) -> u64 {
    match value {
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or(0),
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}
