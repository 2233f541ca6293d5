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
    /// The supervisor, which starts all others and restarts them.
    Up,
}

impl ProcessKind {
    /// The processes that read the clients' settings.
    pub const PIPELINE: [Self; 3] = [Self::Fetchdata, Self::BatchManager, Self::StreamManager];

    /// The processes whose running config counts as the platform's, even if `config.json` has changed.
    pub const CONFIG_USERS: [Self; 4] = [Self::Fetchdata, Self::BatchManager, Self::StreamManager, Self::Up];

    /// The name, which is also the command that runs it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Fetchdata => "fetchdata",
            Self::BatchManager => "batch-manager",
            Self::StreamManager => "stream-manager",
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
            Self::StreamManager | Self::Up => layout.state(),
        }
    }
}
