//! Finds a running process that follows a config file, by means of the note beside that file, or on a data root.
//!
//! A note counts only while a process that follows the file runs on the data root that it names: a leftover one does no
//! harm.

use std::path::Path;

use mysimbdp_model::layout::Layout;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::process::ProcessId;

use crate::process_status::{Found, RunningProcess, find};
use crate::root_note;

/// A process that follows a config file, and its data root.
#[derive(Clone, Debug)]
pub struct Follower {
    pub kind: ProcessKind,
    pub process: ProcessId,
    pub layout: Layout,
}

/// Finds a running process that follows `file`, by means of the note.
pub fn follower(file: &Path) -> Option<Follower> {
    running(&root_note::noted(file)?, |status| status.is_none_or(|status| status.follows(file)))
}

/// Finds a process on this data root that uses a config. `accepts` gets its status, or `None` if that cannot be read.
pub(crate) fn running(
    layout: &Layout,
    accepts: impl Fn(Option<&RunningProcess>) -> bool,
) -> Option<Follower> {
    ProcessKind::CONFIG_USERS.into_iter().find_map(|kind| match find(layout, kind) {
        Ok(Found::Running(process, status)) => {
            accepts(status.as_deref()).then(|| Follower { kind, process, layout: layout.clone() })
        }
        _ => None,
    })
}
