//! Which data root the processes that follow a config file use: a note beside that file.
//!
//! After an edit `config.json` may name another data root, or be missing; then only the note leads to the running
//! processes. What it says is believed only if a process that follows the file runs there: see [`crate::follower`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mysimbdp_model::error_chain;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::files::{self, FileError};
use serde::{Deserialize, Serialize};

/// Longer than any path.
const NOTE_BYTES_MAX: usize = 8 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct RootNote {
    data_root: PathBuf,
}

/// The data root that the note beside `file` names, if there is one.
pub(crate) fn noted(file: &Path) -> Option<Layout> {
    let note: RootNote = serde_json::from_slice(&read(&path_of_note(file))?).ok()?;
    Some(Layout::new(note.data_root))
}

/// Notes that the processes that follow `file` use this data root.
pub(crate) fn write(file: &Path, layout: &Layout) {
    let Ok(json) = serde_json::to_vec(&RootNote { data_root: layout.root().to_owned() }) else { return };
    let path = path_of_note(file);
    let is_noted = read(&path).is_some_and(|noted| noted == json);
    if !is_noted && let Err(error) = files::write_atomic(&path, &json) {
        // The config may be in a directory that the platform may not write to.
        tracing::debug!(
            error = error_chain(&error),
            "cannot write the note of the data root beside the config"
        );
    }
}

/// Reads a note. Anything but a small regular file is not one, and is not waited for.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = files::open(path).ok()?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return None;
    }
    let mut note = vec![0; NOTE_BYTES_MAX];
    let count = files::read_at(&file, path, &mut note, 0).ok()?;
    note.truncate(count);
    Some(note)
}

/// An absolute path of the file; the file itself may be missing, or a symlink that changes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "it makes a FIFO")]
    fn a_note_that_is_not_a_regular_file_is_ignored_without_waiting() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let file = folder.path().join("config.json");
        let note = path_of_note(&file);
        let made = std::process::Command::new("mkfifo").arg(&note).status().expect("run mkfifo");
        assert!(made.success() && noted(&file).is_none());
        files::remove_file(&note).expect("remove");
        std::os::unix::fs::symlink("/dev/zero", &note).expect("symlink");
        assert!(noted(&file).is_none());
    }
}
