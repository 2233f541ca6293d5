//! Why a work unit was not done, and what the platform should do about it.

use std::io;
use std::process::ExitCode;

use mysimbdp_model::{error_chain, exit};
use mysimbdp_store::CoredmsError;

/// Bytes of a reason that are passed on. It may quote what is in the data, which may be of any length, while the platform
/// ignores lines over 64 KiB.
const REASON_BYTES_MAX: usize = 1000;

/// `reason`, cut where it is too long to be passed on.
pub(crate) fn shortened(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

/// A unit has failed. The kind decides the exit code, and so what the platform does next.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The data is wrong and will be wrong again: the unit is held. Exit code 65.
    #[error("{0}")]
    Data(String),
    /// It may work later, as when the store is away: tried again with back-off, however often. Exit code 75.
    #[error("{0}")]
    Temporary(String),
    /// The app was started in a way that it cannot work with. Exit code 78; counts as a crash.
    #[error("{0}")]
    Config(String),
    /// Anything else: counts as a crash, tried again a bounded number of times, then held. Exit code 70.
    #[error("{0}")]
    Fault(String),
}

impl Failure {
    /// The exit code of a process that ends with this.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Data(_) => exit::DATA,
            Self::Temporary(_) => exit::TEMPORARY,
            Self::Config(_) => exit::CONFIG,
            Self::Fault(_) => exit::SOFTWARE,
        })
    }
}

impl From<CoredmsError> for Failure {
    fn from(error: CoredmsError) -> Self {
        match &error {
            CoredmsError::Unavailable { .. } => Self::Temporary(error_chain(&error)),
            CoredmsError::Address(_) | CoredmsError::NotBuilt { .. } => Self::Config(error_chain(&error)),
            CoredmsError::Refused { .. }
            | CoredmsError::NotADocument(_)
            | CoredmsError::Incomplete { .. } => Self::Fault(error_chain(&error)),
        }
    }
}

impl From<io::Error> for Failure {
    /// Reading or writing the pipes to the platform failed, as when the platform has died: the unit will come again.
    fn from(error: io::Error) -> Self {
        Self::Temporary(error_chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(shortened("short".to_owned()), "short");
        let long = shortened("ü".repeat(10_000));
        assert!(long.len() < REASON_BYTES_MAX + 4 && long.ends_with("ü…"), "{long}");
    }
}
