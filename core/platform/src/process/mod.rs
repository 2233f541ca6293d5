//! The door to processes: programs of clients are started, told apart, stopped and cleaned up here.
//!
//! 1. [`find_program`] finds what a config names;
//! 2. [`Spawn::start`] runs it in a process group of its own, with nothing inherited but `PATH` and whom TLS trusts;
//! 3. [`Child`] is one that this process has started: waited for, stopped, and never left behind;
//! 4. [`ProcessId`] is any process, told from a later one with the same pid by its start time;
//! 5. [`kill_left_behind`] finds what an owner that was killed could not clean up.
//!
//! **Nothing of an app is left.** When the first process of a group has ended, the rest of the group is killed. What
//! has left the group (`setsid`) is found by a tag that all descendants inherit, whatever becomes of their environment and
//! their parents. Should a process get rid of its tag, it still holds up nobody: the pipes of a child end with the child.

mod child;
mod identity;
mod pipe;
mod proc;
mod program;
mod tag;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use child::{Child, Output, Spawn, Stdin};
pub use identity::ProcessId;
pub use pipe::{InputPipe, OutputPipe};
pub use program::find_program;
pub use rustix::process::Signal;
pub use tag::kill_left_behind;

/// The kernel ends a killed process at once, unless it hangs in a device or a network mount.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// What went wrong with a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("program {command:?} is not found or not executable: sought {}", listed(sought))]
    NotFound { command: String, sought: Vec<PathBuf> },
    #[error("cannot start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the output of {}", program.display())]
    Output {
        program: PathBuf,
        #[source]
        source: super::files::FileError,
    },
    #[error("process {pid} does not run any more")]
    Gone { pid: u32 },
    #[error("cannot {action} process {pid}")]
    Control {
        action: &'static str,
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("process {pid} is still there {seconds} s after SIGKILL")]
    Survived { pid: u32, seconds: u64 },
}

impl ProcessError {
    /// Nothing is wrong with the program: the machine has run out of something, such as descriptors or processes.
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Spawn { source, .. } | Self::Control { source, .. } => super::files::is_exhausted(source),
            Self::Output { source, .. } => source.is_exhausted(),
            Self::NotFound { .. } | Self::Gone { .. } | Self::Survived { .. } => false,
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
