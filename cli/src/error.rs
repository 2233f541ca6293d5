//! The failure of a command that cannot do what it was asked to do.

use std::error::Error;
use std::fmt;

use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_model::{error_chain, exit};
use mysimbdp_stream_manager::control::client::ControlError;
use mysimbdp_telemetry::logging;

/// A message for a person, and an exit code of `sysexits.h` for scripts.
#[derive(Debug)]
pub struct CommandError {
    pub code: u8,
    message: String,
}

impl CommandError {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Creates a failure that has only an exit code, because the output has already explained it.
    pub fn without_message(code: u8) -> Self {
        Self::new(code, "")
    }

    /// Whether there is a message to print.
    pub fn has_message(&self) -> bool {
        !self.message.is_empty()
    }

    /// Creates a failure from an error and its causes. They are on one line, because they may quote what a client has
    /// written.
    pub fn of(code: u8, error: &(dyn Error + 'static)) -> Self {
        Self::new(code, logging::one_line(&error_chain(error)))
    }
}

/// Returns the exit code of `sysexits.h` for a kind of error.
pub fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidRequest => exit::USAGE,
        ErrorKind::InvalidData => exit::DATA,
        ErrorKind::NotFound => exit::NO_INPUT,
        ErrorKind::Unavailable => exit::UNAVAILABLE,
        ErrorKind::Internal => exit::SOFTWARE,
        ErrorKind::Io => exit::IO,
        ErrorKind::Temporary => exit::TEMPORARY,
        ErrorKind::NotPermitted => exit::NO_PERMISSION,
        ErrorKind::Configuration => exit::CONFIG,
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<mysimbdp_config::Faults> for CommandError {
    fn from(faults: mysimbdp_config::Faults) -> Self {
        Self::new(exit::CONFIG, faults.to_string())
    }
}

impl From<mysimbdp_query::QueryError> for CommandError {
    fn from(error: mysimbdp_query::QueryError) -> Self {
        Self::of(exit_code(error.kind()), &error)
    }
}

impl From<ControlError> for CommandError {
    fn from(error: ControlError) -> Self {
        Self::of(exit_code(error.kind()), &error)
    }
}

impl From<mysimbdp_platform::files::FileError> for CommandError {
    fn from(error: mysimbdp_platform::files::FileError) -> Self {
        Self::of(if error.is_not_found() { exit::NO_INPUT } else { exit::IO }, &error)
    }
}

impl From<mysimbdp_store::CoredmsError> for CommandError {
    fn from(error: mysimbdp_store::CoredmsError) -> Self {
        Self::of(exit::UNAVAILABLE, &error)
    }
}
