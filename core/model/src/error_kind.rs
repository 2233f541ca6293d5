//! The kinds of errors, which a command line maps to exit codes, and a server to statuses.

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Request something else: what was requested is not allowed.
    InvalidRequest,
    /// Repair the data.
    InvalidData,
    /// Name something that exists: a file, a client, an ingestion.
    NotFound,
    /// Start what is needed: broker, store or manager.
    Unavailable,
    /// Report a fault of the platform.
    Internal,
    /// Check the disk or the network: input or output failed.
    Io,
    /// Try again later.
    Temporary,
    /// Try as another user, or give up: the object belongs to another user.
    NotPermitted,
    /// Change `config.json`.
    Configuration,
}
