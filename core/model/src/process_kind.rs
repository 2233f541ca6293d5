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
    /// That which starts all of them, and starts them again.
    Up,
}

impl ProcessKind {
    /// Those that read the clients' settings.
    pub const STAGES: [Self; 3] = [Self::Fetchdata, Self::BatchManager, Self::StreamManager];

    /// Those whose config, while one of them runs, is that of the platform, whatever the file says.
    pub const ON_THE_CONFIG: [Self; 4] = [Self::Fetchdata, Self::BatchManager, Self::StreamManager, Self::Up];

    /// Also the name of the command that runs it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Fetchdata => "fetchdata",
            Self::BatchManager => "batch-manager",
            Self::StreamManager => "stream-manager",
            Self::Up => "up",
        }
    }

    /// The directory that it holds locked while it is at work.
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
