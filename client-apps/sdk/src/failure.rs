//! Why a work unit was not done, and what the platform should do about it.

use std::io;
use std::process::ExitCode;

use mysimbdp_core::chain;
use mysimbdp_core::exit;
use mysimbdp_core::io::coredms::CoredmsError;

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
            CoredmsError::Unavailable { .. } => Self::Temporary(chain(&error)),
            CoredmsError::Address(_) => Self::Config(chain(&error)),
            CoredmsError::Refused { .. } | CoredmsError::Incomplete { .. } => Self::Fault(chain(&error)),
        }
    }
}

impl From<io::Error> for Failure {
    /// Reading or writing the pipes to the platform failed, as when the platform has died: the unit will come again.
    fn from(error: io::Error) -> Self {
        Self::Temporary(chain(&error))
    }
}
