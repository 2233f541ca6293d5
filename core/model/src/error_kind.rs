//! What kind of error it is: what a command line turns into an exit code, and a server into a status.

/// What whoever asked can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ask for something else: what was asked for is not allowed.
    InvalidRequest,
    /// Repair the data.
    InvalidData,
    /// Name something that exists: a file, a client, an ingestion.
    NotFound,
    /// Start what is needed: broker, store or manager.
    Unavailable,
    /// Report a fault of the platform.
    Internal,
    /// See to the disk or the network: input or output failed.
    Io,
    /// Ask again later.
    Temporary,
    /// Ask as another user, or nothing: it is not theirs.
    NotPermitted,
    /// Change `config.json`.
    Configuration,
}
