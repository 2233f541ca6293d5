//! The platform's own processes.

use std::path::PathBuf;

use crate::layout::Layout;

/// One of the platform's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    /// The embedded broker.
    Broker,
    Fetchdata,
    BatchManager,
    StreamManager,
    /// The HTTP server.
    Serve,
    /// The supervisor, which starts all others and restarts them.
    Up,
}

impl ProcessKind {
    /// The processes that `up` starts, except for the broker, and that follow the config file.
    pub const FOLLOWERS: [Self; 4] = [Self::Fetchdata, Self::BatchManager, Self::StreamManager, Self::Serve];

    /// The processes whose running config counts as the platform's, even if `config.json` has changed.
    pub const CONFIG_USERS: [Self; 5] =
        [Self::Fetchdata, Self::BatchManager, Self::StreamManager, Self::Serve, Self::Up];

    /// The name, which is also the command that runs it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Fetchdata => "fetchdata",
            Self::BatchManager => "batch-manager",
            Self::StreamManager => "stream-manager",
            Self::Serve => "serve",
            Self::Up => "up",
        }
    }

    /// The directory that it locks while it runs.
    #[expect(clippy::disallowed_methods, reason = "a lock is taken by its path, and follows no symlink")]
    pub fn locked_directory(self, layout: &Layout) -> PathBuf {
        match self {
            Self::Broker => layout.embedded_broker(),
            Self::Fetchdata => layout.drop_directory(),
            Self::BatchManager => layout.staging(),
            Self::StreamManager | Self::Serve | Self::Up => layout.state(),
        }
    }
}
