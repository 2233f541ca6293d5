//! The error of all steps that end an ingestion.

use mysimbdp_platform::files::FileError;
use mysimbdp_spool::staging::StagingError;
use mysimbdp_spool::staging::content::ContentError;
use mysimbdp_store::CoredmsError;

/// Why the end has to be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FinishError {
    #[error(transparent)]
    Store(#[from] CoredmsError),
    #[error("coredms refused rejected record {record}: {reason}")]
    RejectRefused { record: u64, reason: String },
    #[error("rejected record {record} cannot be encoded as a document")]
    RejectMalformed {
        record: u64,
        #[source]
        source: bson::error::Error,
    },
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Content(#[from] ContentError),
}
