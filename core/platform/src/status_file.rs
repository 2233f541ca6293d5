//! A small file below `state/status_files/` in which a running process reports something about itself.
//!
//! It is needed most if the disk is full or no descriptors are left. So it gets its full size at the start and is
//! overwritten in place, through a descriptor that stays open.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mysimbdp_model::layout::Layout;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

use super::files::{self, FileError};
use super::process::ProcessId;
use super::random;

/// The size of a status file: one block of a file system. Longer contents are cut.
pub const BYTES: usize = 4096;
/// The longest text in it; leaves space for the other fields even if each character is escaped.
pub const TEXT_CHARS_MAX: usize = 600;

const SUFFIX: &str = ".json";

/// A status file of this process. Removed when dropped.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    /// `None` until it could be created.
    file: Option<File>,
    content: Vec<u8>,
    /// Whether the content is in the file.
    is_written: bool,
}

impl StatusFile {
    /// Creates a blank file. If this fails, each new content tries again.
    pub fn new(layout: &Layout, name: &str) -> Self {
        // Each process has its own: a second process that is about to be refused must not remove the first one's file.
        let path = layout.status_files().join(format!("{name}.{}{SUFFIX}", std::process::id()));
        // Files of killed processes, which readers ignore anyway.
        let _ = remove_left_behind(layout);
        let mut status = Self { path, file: None, content: Vec::new(), is_written: false };
        status.write();
        status
    }

    /// Shows this content. May be called as often as needed: only changes are written.
    pub fn show(&mut self, content: Vec<u8>) {
        if self.content != content {
            self.content = content;
            self.is_written = false;
        }
        self.write();
    }

    /// Shows that this process is making progress, with the file's modification time: this needs no space on the disk.
    pub fn touch(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        if let Some(file) = &self.file {
            // If this fails, readers see that no progress was reported, which is true.
            let _ = rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now });
        }
    }

    fn write(&mut self) {
        if self.is_written {
            return;
        }
        if self.file.is_none() {
            self.file = create(&self.path).ok();
        }
        let Some(file) = &self.file else { return };
        let mut block = self.content.clone();
        block.resize(BYTES, b' ');
        // In one write, so that a reader sees the old content or the new one.
        self.is_written = file.write_all_at(&block, 0).is_ok();
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        // Only tidiness: readers ignore the file of a process that has ended.
        let _ = files::remove_file_if_exists(&self.path);
    }
}

/// The status file of one process.
#[derive(Debug)]
pub struct StatusContent {
    pub content: Vec<u8>,
    /// When it last showed a content, or progress.
    pub at: Option<SystemTime>,
}

/// The status files of all processes, also of those that have ended, in the order of the file names.
///
/// # Errors
///
/// The directory cannot be listed, or one of the files cannot be read.
pub fn contents(layout: &Layout) -> Result<Vec<StatusContent>, FileError> {
    let mut found = Vec::new();
    for path in
        files::list(&layout.status_files())?.iter().filter(|path| path.to_string_lossy().ends_with(SUFFIX))
    {
        match files::read(path) {
            Ok(content) => {
                let at = files::metadata(path).ok().and_then(|metadata| metadata.modified().ok());
                found.push(StatusContent { content, at });
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Removes the files of processes that are not running.
fn remove_left_behind(layout: &Layout) -> Result<(), FileError> {
    for path in files::list(&layout.status_files())? {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
        let pid = name.and_then(|name| name.rsplit('.').next()?.parse().ok());
        if pid.is_some_and(|pid| ProcessId::of_pid(pid).is_none()) {
            files::remove_file_if_exists(&path)?;
        }
    }
    Ok(())
}

/// Creates the file, in place of one that an earlier process with this pid has left behind.
fn create(path: &Path) -> Result<File, FileError> {
    if let Some(directory) = path.parent() {
        files::create_dir_all(directory)?;
    }
    let unpublished = path.with_file_name(format!(".{:016x}.tmp", random::number()));
    let file = files::create_new(&unpublished)?;
    let filled = file.write_all_at(&[b' '; BYTES], 0);
    let filled = filled.map_err(|source| FileError { action: "write", path: unpublished.clone(), source });
    match filled.and_then(|()| files::rename(&unpublished, path)) {
        Ok(()) => Ok(file),
        Err(error) => {
            files::remove_file_if_exists(&unpublished)?;
            Err(error)
        }
    }
}
