//! File modes: only the user that the platform runs as may read and write what it keeps.
//!
//! - [`restrict_umask`] is for new files and directories, whoever creates them: this process, a library, or a client's app;
//! - [`close_to_others`] removes the rights that an earlier version, or a person, has left to others.
//!
//! Only the drop directory is for other users too: its modes are the operator's, and are not changed here.

use std::fs::{DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mysimbdp_model::layout::Layout;
use rustix::fs::Mode;

use super::files::FileError;

/// The rights of the group and of all others.
const OTHERS: u32 = 0o077;

/// The most entries that are checked below `state/` and `logs/`. The rest is protected by the directories above it.
const ENTRIES_MAX: usize = 10_000;

/// From now on, only this user can access what this process and its children create.
///
/// Call it before other threads start, because all threads share the mask.
pub fn restrict_umask() {
    rustix::process::umask(Mode::from(OTHERS));
}

/// What [`close_to_others`] found.
#[derive(Debug, Default)]
struct Found {
    closed: usize,
    /// What could not be closed, such as a directory of another user.
    refused: Vec<FileError>,
    checked: usize,
}

/// Closes to other users what the platform keeps in `layout`.
///
/// Logs one line about what was open, and one about what could not be closed. Neither is an error.
pub fn close_to_others(layout: &Layout) {
    let mut found = Found::default();
    let (state, logs) = (layout.state(), layout.logs());
    for directory in [
        &layout.staging(),
        &layout.held_root(),
        &layout.discarded_root(),
        &layout.archive_root(),
        &state,
        &logs,
    ] {
        // The operator may have moved it elsewhere, and left a symlink to it.
        found.close(directory, std::fs::metadata(directory));
    }
    found.close_below(vec![state, logs]);
    found.log();
}

impl Found {
    fn close(&mut self, path: &Path, metadata: io::Result<Metadata>) {
        self.checked += 1;
        let closed = metadata.and_then(|metadata| remove_rights(path, &metadata));
        match closed {
            Ok(was_open) => self.closed += usize::from(was_open),
            // It does not exist yet, or was removed meanwhile.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                self.refused.push(FileError { action: "close to other users", path: path.to_owned(), source })
            }
        }
    }

    /// Closes everything below these directories, without following symlinks.
    fn close_below(&mut self, mut directories: Vec<PathBuf>) {
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if self.checked >= ENTRIES_MAX {
                    return;
                }
                let metadata = entry.metadata();
                match &metadata {
                    Ok(metadata) if metadata.is_symlink() => continue,
                    Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                    _ => {}
                }
                self.close(&entry.path(), metadata);
            }
        }
    }

    fn log(&self) {
        if self.closed > 0 {
            tracing::warn!(
                count = self.closed,
                "files and directories were open to other users and are closed to them now"
            );
        }
        if let Some(first) = self.refused.first() {
            tracing::warn!(
                count = self.refused.len(),
                error = %mysimbdp_model::error_chain(first),
                "files or directories stay open to other users"
            );
        }
    }
}

/// Closes one path that is about to be used, and may be anywhere; does nothing if it does not exist.
pub fn close_path_to_others(path: &Path) {
    let mut found = Found::default();
    found.close(path, std::fs::symlink_metadata(path));
    found.log();
}

/// Creates a directory that only this user can access, with all missing parents. If it exists and is open to others, it is
/// closed.
///
/// # Errors
///
/// It cannot be created.
pub fn create_private_directory(path: &Path) -> Result<(), FileError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|source| FileError { action: "create directory", path: path.to_owned(), source })?;
    close_path_to_others(path);
    Ok(())
}

/// Like [`create_private_directory`], but for a file, which is empty if it is new. Its parents must exist.
///
/// # Errors
///
/// It cannot be created.
pub fn create_private_file(path: &Path) -> Result<(), FileError> {
    let created = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    created.map_err(|source| FileError { action: "create", path: path.to_owned(), source })?;
    close_path_to_others(path);
    Ok(())
}

/// Removes the rights of others; returns whether there were any.
fn remove_rights(path: &Path, metadata: &Metadata) -> io::Result<bool> {
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() || mode & OTHERS == 0 {
        return Ok(false);
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777 & !OTHERS))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    fn open_to_all(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn files_that_an_earlier_version_left_open_are_closed_and_those_of_the_operator_are_not() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let elsewhere = root.path().join("other-disk");
        let files = [
            layout.broker_state(),
            layout.embedded_store().join("mysimbdp.sqlite-wal"),
            layout.client_logs(&"client1".parse().expect("valid")).join("stream.log"),
        ];
        for file in &files {
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
            std::fs::write(file, "").expect("write");
            open_to_all(file, 0o644);
            open_to_all(file.parent().expect("a parent"), 0o755);
        }
        let outside = root.path().join("outside");
        std::fs::write(&outside, "").expect("write");
        open_to_all(&outside, 0o644);
        symlink(&outside, layout.state().join("link")).expect("symlink");
        std::fs::create_dir(&elsewhere).expect("directory");
        open_to_all(&elsewhere, 0o777);
        symlink(&elsewhere, layout.staging()).expect("symlink");
        std::fs::create_dir(layout.drop_directory()).expect("directory");
        open_to_all(&layout.drop_directory(), 0o773);

        close_to_others(&layout);
        for file in &files {
            assert_eq!(mode(file), 0o600, "{}", file.display());
            assert_eq!(mode(file.parent().expect("a parent")), 0o700, "{}", file.display());
        }
        assert_eq!(mode(&elsewhere), 0o700, "the staging directory on another disk");
        assert_eq!(mode(&outside), 0o644, "what a symlink below state/ leads to");
        assert_eq!(mode(&layout.drop_directory()), 0o773, "the operator's");
    }

    #[test]
    fn new_files_and_directories_are_closed_to_others() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        restrict_umask();
        std::fs::create_dir(layout.state()).expect("directory");
        std::fs::write(layout.broker_state(), "").expect("write");
        assert_eq!((mode(&layout.state()), mode(&layout.broker_state())), (0o700, 0o600));
    }
}
