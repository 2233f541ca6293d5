//! Which data root the processes that follow a config file have: a note beside that file.
//!
//! An edit may name another data root, below which nothing says that they run, and a file that is gone names none. The note is
//! believed only while a process that follows the file runs on the data root that it names: one that is left over does no harm.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mysimbdp_model::error_chain;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::files::{self, FileError};
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

/// A process that runs and follows `file`, as far as the note tells.
pub fn follower(file: &Path) -> Option<Follower> {
    let note: RootNote = serde_json::from_slice(&files::read(&path_of_note(file)).ok()?).ok()?;
    let file = absolute(file).ok()?;
    running(&Layout::new(note.data_root), |followed| followed.is_none_or(|followed| followed == file))
}

/// A process on this data root that goes by a config, if the file that it follows is accepted; not all say which it is.
pub(crate) fn running(layout: &Layout, accepts: impl Fn(Option<&Path>) -> bool) -> Option<Follower> {
    ProcessKind::ON_THE_CONFIG.into_iter().find_map(|kind| match find(layout, kind) {
        Ok(Found::Running(process, said)) => {
            let followed = said.as_ref().and_then(|said| said.config_file.as_deref());
            accepts(followed).then(|| Follower { kind, process, layout: layout.clone() })
        }
        _ => None,
    })
}

/// Notes that the processes that follow `file` have this data root.
pub(crate) fn write(file: &Path, layout: &Layout) {
    let Ok(json) = serde_json::to_vec(&RootNote { data_root: layout.root().to_owned() }) else { return };
    let path = path_of_note(file);
    let is_noted = files::read(&path).is_ok_and(|noted| noted == json);
    if !is_noted && let Err(error) = files::write_atomic(&path, &json) {
        // Some keep their config where the platform may not write.
        tracing::debug!(error = error_chain(&error), "the data root cannot be noted beside the config");
    }
}

/// The file by a path that names it from everywhere; the file itself may be gone, or a link that changes.
pub(crate) fn absolute(file: &Path) -> Result<PathBuf, FileError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(files::canonical(folder)?.join(file.file_name().unwrap_or_default()))
}

/// `.config.json.data-root` beside `config.json`.
fn path_of_note(file: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".data-root");
    file.with_file_name(name)
}
