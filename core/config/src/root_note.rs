//! Which data root the processes that follow a config file have: a note beside that file.
//!
//! An edit may name another data root, below which nothing says that they run, and a file that is gone names none. The note is
//! believed only while a process runs on the data root that it names, so one that is left over does no harm.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mysimbdp_model::error_chain;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::files;
use mysimbdp_platform::process::ProcessId;
use serde::{Deserialize, Serialize};

use crate::process_status::{Found, find};

#[derive(Debug, Serialize, Deserialize)]
struct RootNote {
    data_root: PathBuf,
}

/// A process that follows a config file, and its data root.
#[derive(Clone, Debug)]
pub struct Follower {
    pub kind: ProcessKind,
    pub process: ProcessId,
    pub layout: Layout,
}

/// Notes that the processes that follow `file` have this data root.
pub fn write(file: &Path, layout: &Layout) {
    let note = RootNote { data_root: layout.root().to_owned() };
    let json = serde_json::to_vec(&note).expect("a path that was read from JSON is text");
    let path = path(file);
    let is_there = files::read(&path).is_ok_and(|there| there == json);
    if !is_there && let Err(error) = files::write_atomic(&path, &json) {
        // Some keep their config where the platform may not write.
        tracing::debug!(error = error_chain(&error), "the data root cannot be noted beside the config");
    }
}

/// A process that runs and follows `file`, as far as the note tells.
pub fn follower(file: &Path) -> Option<Follower> {
    let note: RootNote = serde_json::from_slice(&files::read(&path(file)).ok()?).ok()?;
    running(&Layout::new(note.data_root))
}

/// A process on this data root that goes by a config.
pub(crate) fn running(layout: &Layout) -> Option<Follower> {
    ProcessKind::ON_THE_CONFIG.into_iter().find_map(|kind| match find(layout, kind) {
        Ok(Found::Running(process, _)) => Some(Follower { kind, process, layout: layout.clone() }),
        _ => None,
    })
}

/// `.config.json.data-root` beside `config.json`.
pub fn path(file: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".data-root");
    file.with_file_name(name)
}
