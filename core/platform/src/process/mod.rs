//! Processes: starts, identifies and stops the clients' programs, and cleans up after them.
//!
//! 1. [`find_program`] finds the program that a config names;
//! 2. [`Spawn::start`] runs it in a process group of its own; it inherits only `PATH` and the TLS trust settings;
//! 3. [`Child`] is a process that this one has started: waited for, stopped, and never left behind;
//! 4. [`ProcessId`] identifies any process; its start time distinguishes it from a later one with the same pid;
//! 5. [`kill_left_behind`] kills what an owner that was killed could not clean up.
//!
//! **No process of an app is left behind.** When the first process of a group has ended, the others in the group are killed.
//! Descendants that have left the group (`setsid`) are found by a tag that all of them inherit, whatever happens to their
//! environment and their parents. If a process removes its tag, it still blocks nobody: the pipes of a child end with the child.

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

/// The kernel ends a killed process at once, unless it waits for a device or a network mount.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// A process operation has failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("program {command:?} not found or not executable: searched {}", listed(searched))]
    NotFound { command: String, searched: Vec<PathBuf> },
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
    #[error("process {pid} is no longer running")]
    Ended { pid: u32 },
    #[error("cannot {action} process {pid}")]
    Control {
        action: &'static str,
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("process {pid} is still running {seconds} s after SIGKILL")]
    Survived { pid: u32, seconds: u64 },
}

impl ProcessError {
    /// Nothing is wrong with the program: the machine has run out of a resource, such as descriptors or processes.
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Spawn { source, .. } | Self::Control { source, .. } => super::files::is_exhausted(source),
            Self::Output { source, .. } => source.is_exhausted(),
            Self::NotFound { .. } | Self::Ended { .. } | Self::Survived { .. } => false,
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
