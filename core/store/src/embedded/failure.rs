//! What can go wrong in the embedded store, and which of it is transient.

use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_platform::files::FileError;
use rusqlite::ErrorCode;

use super::super::CoredmsError;
use super::keyword::SchemaError;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("{0}")]
    Refused(String),
    #[error("{found} of {expected} bytes")]
    Incomplete { id: IngestionId, found: u64, expected: u64 },
    #[error("the database has been removed or replaced while it was read")]
    Replaced,
    #[error("the store has been closed")]
    Closed,
}

impl Failure {
    /// Returns whether another attempt may succeed: a lock, a full disk or a misplaced file can be put right.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::CannotOpen
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::DiskFull
                        | ErrorCode::ReadOnly
                        | ErrorCode::PermissionDenied
                        | ErrorCode::FileLockingProtocolFailed
                        | ErrorCode::OutOfMemory
                )
            ),
            Self::File(_) | Self::Replaced => true,
            Self::Schema(_) | Self::Refused(_) | Self::Incomplete { .. } | Self::Closed => false,
        }
    }

    pub(super) fn at(self, address: &str, operation: &'static str) -> CoredmsError {
        let address = address.to_owned();
        match self {
            Self::Incomplete { id, found, expected } => CoredmsError::Incomplete { id, found, expected },
            failure if failure.is_transient() => {
                CoredmsError::Unavailable { address, operation, source: Box::new(failure) }
            }
            failure => CoredmsError::Refused { address, operation, source: Box::new(failure) },
        }
    }
}
