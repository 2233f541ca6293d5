//! Why a work unit was not done, and what the platform should do about it.

use std::io;
use std::process::ExitCode;

use mysimbdp_model::{error_chain, exit};
use mysimbdp_store::CoredmsError;

/// The most bytes of a reason that are passed on. A reason may quote data of any length, and the platform ignores lines over
/// 64 KiB.
const REASON_BYTES_MAX: usize = 1000;

/// Returns `reason`, truncated if it is too long to be passed on.
pub(crate) fn shortened(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

/// Why a unit has failed. The variant decides the exit code, and so what the platform does next.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The data is wrong and will stay wrong: the platform holds the file. Exit code 65.
    #[error("{0}")]
    Data(String),
    /// A later attempt may succeed, for example when the store is unavailable: the platform tries again with back-off, without a
    /// limit. Exit code 75.
    #[error("{0}")]
    Temporary(String),
    /// The system refuses threads or processes: as [`Self::Temporary`], and no crash of a stream app. Exit code 71.
    #[error("{0}")]
    Exhausted(String),
    /// The app was started with a configuration that it cannot work with. Exit code 78; counts as a crash.
    #[error("{0}")]
    Config(String),
    /// Anything else: counts as a crash. The unit is tried again a bounded number of times, then its file is held. Exit code 70.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    /// Returns the exit code of a process that ends with this failure.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Data(_) => exit::DATA,
            Self::Temporary(_) => exit::TEMPORARY,
            Self::Exhausted(_) => exit::OS_ERROR,
            Self::Config(_) => exit::CONFIG,
            Self::Internal(_) => exit::SOFTWARE,
        })
    }
}

impl From<CoredmsError> for Failure {
    fn from(error: CoredmsError) -> Self {
        match &error {
            // The embedded store has a thread of its own.
            CoredmsError::Unavailable { source, .. }
                if source
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock) =>
            {
                Self::Exhausted(error_chain(&error))
            }
            CoredmsError::Unavailable { .. } => Self::Temporary(error_chain(&error)),
            CoredmsError::Address(_) | CoredmsError::NotBuilt { .. } => Self::Config(error_chain(&error)),
            CoredmsError::Refused { .. }
            | CoredmsError::NotADocument(_)
            | CoredmsError::Incomplete { .. } => Self::Internal(error_chain(&error)),
        }
    }
}

impl From<io::Error> for Failure {
    /// Reading from or writing to the platform's pipes failed, for example because the platform has died: it will send the unit
    /// again.
    fn from(error: io::Error) -> Self {
        Self::Temporary(error_chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_without_a_thread_is_not_a_store_that_is_unavailable() {
        let of = |kind: io::ErrorKind| {
            let (address, operation) = ("sqlite:x".to_owned(), "open a database");
            let source = io::Error::from(kind).into();
            Failure::from(CoredmsError::Unavailable { address, operation, source })
        };
        assert!(matches!(of(io::ErrorKind::WouldBlock), Failure::Exhausted(_)));
        assert!(matches!(of(io::ErrorKind::TimedOut), Failure::Temporary(_)));
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(shortened("short".to_owned()), "short");
        let long = shortened("ü".repeat(10_000));
        assert!(long.len() < REASON_BYTES_MAX + 4 && long.ends_with("ü…"), "{long}");
    }
}
