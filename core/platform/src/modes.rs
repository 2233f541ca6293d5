//! Who else may read and write what the platform keeps: nobody but the user that it runs as.
//!
//! - [`keep_private`] is for new files and directories, whoever creates them: this process, a library, or a client's app;
//! - [`close`] takes away what an earlier version, or somebody's hand, has left open.
//!
//! The drop directory alone is for others too: its modes are the operator's, and are not changed here.

use std::fs::{DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mysimbdp_model::layout::Layout;
use rustix::fs::Mode;

use super::files::FileError;

/// The rights of the group and of all others.
const OTHERS: u32 = 0o077;

/// Looked at below `state/` and `logs/` at most. What lies deeper is closed by the directories above it.
const ENTRIES_MAX: usize = 10_000;

/// From now on what this process and its children create is for this user alone.
///
/// To be called before there are other threads, as the mask is one for all of them.
pub fn keep_private() {
    rustix::process::umask(Mode::from(OTHERS));
}

/// What [`close`] found.
#[derive(Debug, Default)]
struct Found {
    closed: usize,
    /// What could not be closed, such as a directory of another user.
    refused: Vec<FileError>,
    looked_at: usize,
}

/// Closes to others what the platform keeps in `layout`.
///
/// What was open, or stays open, is told in one line. Neither hinders anything.
pub fn close(layout: &Layout) {
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
        // The operator may have put it elsewhere, by a symlink.
        found.close(directory, std::fs::metadata(directory));
    }
    found.close_below(vec![state, logs]);
    found.tell();
}

impl Found {
    fn close(&mut self, path: &Path, metadata: io::Result<Metadata>) {
        self.looked_at += 1;
        let closed = metadata.and_then(|metadata| take_rights(path, &metadata));
        match closed {
            Ok(was_open) => self.closed += usize::from(was_open),
            // It is made later, or went away meanwhile.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                self.refused.push(FileError { action: "close to other users", path: path.to_owned(), source })
            }
        }
    }

    /// Everything below these directories, without following symlinks.
    fn close_below(&mut self, mut directories: Vec<PathBuf>) {
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if self.looked_at >= ENTRIES_MAX {
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

    fn tell(&self) {
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

/// Closes what is about to be used and may lie anywhere; does nothing if it is not there.
pub fn close_one(path: &Path) {
    let mut found = Found::default();
    found.close(path, std::fs::symlink_metadata(path));
    found.tell();
}

/// Makes a directory for this user alone, and all that is missing above it; closes it if it is there and open.
///
/// # Errors
///
/// It cannot be made.
pub fn make_directory(path: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| FileError { action: "create directory", path: path.to_owned(), source })?;
    close_one(path);
    Ok(())
}

/// The same of a file, which is empty if it is new.
///
/// # Errors
///
/// It cannot be made.
pub fn make_file(path: &Path) -> Result<(), FileError> {
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map_err(|source| FileError { action: "create", path: path.to_owned(), source })?;
    close_one(path);
    Ok(())
}

/// Whether it was open.
fn take_rights(path: &Path, metadata: &Metadata) -> io::Result<bool> {
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
    fn what_an_earlier_version_left_open_is_closed_and_what_is_the_operators_is_not() {
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

        close(&layout);
        for file in &files {
            assert_eq!(mode(file), 0o600, "{}", file.display());
            assert_eq!(mode(file.parent().expect("a parent")), 0o700, "{}", file.display());
        }
        assert_eq!(mode(&elsewhere), 0o700, "the staging directory on another disk");
        assert_eq!(mode(&outside), 0o644, "what a symlink below state/ leads to");
        assert_eq!(mode(&layout.drop_directory()), 0o773, "the operator's");
    }

    #[test]
    fn what_is_new_is_closed() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        keep_private();
        std::fs::create_dir(layout.state()).expect("directory");
        std::fs::write(layout.broker_state(), "").expect("write");
        assert_eq!((mode(&layout.state()), mode(&layout.broker_state())), (0o700, 0o600));
    }
}
