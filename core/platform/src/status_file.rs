//! A small file below `state/signs/` in which a running process says something about itself.
//!
//! It is needed most when the disk is full or there are no descriptors left. So it gets its whole size at the start and is
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

/// One block of a file system. Longer texts are cut.
pub const BYTES: usize = 4096;
/// Of a text in it; leaves room for the rest even if each character is escaped.
pub const TEXT_CHARS_MAX: usize = 600;

const SUFFIX: &str = ".json";

/// The file of this process with a certain name. Removed when dropped.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    /// `None` while it could not be made.
    file: Option<File>,
    content: Vec<u8>,
    /// The content is in the file.
    is_written: bool,
}

impl StatusFile {
    /// Makes an empty one. If it cannot be made, that is tried again with each content.
    pub fn new(layout: &Layout, name: &str) -> Self {
        // Each process has its own: a second one that is about to be refused must not take down the first one's.
        let path = layout.signs().join(format!("{name}.{}{SUFFIX}", std::process::id()));
        // What a process that was killed has left; nobody believes it anyway.
        let _ = remove_left(layout);
        let mut status = Self { path, file: None, content: Vec::new(), is_written: false };
        status.write();
        status
    }

    /// Shows this. To be called as often as one likes: only what changes is written.
    pub fn show(&mut self, content: Vec<u8>) {
        if self.content != content {
            self.content = content;
            self.is_written = false;
        }
        self.write();
    }

    /// Says that this process goes on, by the time of the file: that needs no room on the disk.
    pub fn touch(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        if let Some(file) = &self.file {
            // If it cannot be said, who looks is told that nothing was heard, which is so.
            let _ = rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now });
        }
    }

    fn write(&mut self) {
        if self.is_written {
            return;
        }
        if self.file.is_none() {
            self.file = make(&self.path).ok();
        }
        let Some(file) = &self.file else { return };
        let mut block = self.content.clone();
        block.resize(BYTES, b' ');
        // All at once, so that a reader sees one content or the other.
        self.is_written = file.write_all_at(&block, 0).is_ok();
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        // Only tidiness: nobody believes the file of a process that has ended.
        let _ = files::remove_file_if_there(&self.path);
    }
}

/// What one process says.
#[derive(Debug)]
pub struct Said {
    pub content: Vec<u8>,
    /// When it last said something, or that it goes on.
    pub at: Option<SystemTime>,
}

/// What all processes say, in the order of their names; also what those have said that have ended.
///
/// # Errors
///
/// Their directory cannot be listed, or one of them not be read.
pub fn contents(layout: &Layout) -> Result<Vec<Said>, FileError> {
    let mut found = Vec::new();
    for path in files::list(&layout.signs())?.iter().filter(|path| path.to_string_lossy().ends_with(SUFFIX)) {
        match files::read(path) {
            Ok(content) => {
                let at = files::metadata(path).ok().and_then(|metadata| metadata.modified().ok());
                found.push(Said { content, at });
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Removes the files of processes that do not run.
fn remove_left(layout: &Layout) -> Result<(), FileError> {
    for path in files::list(&layout.signs())? {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
        let pid = name.and_then(|name| name.rsplit('.').next()?.parse().ok());
        if pid.is_some_and(|pid| ProcessId::of_pid(pid).is_none()) {
            files::remove_file_if_there(&path)?;
        }
    }
    Ok(())
}

/// A new file in place of what an earlier process of this pid has left.
fn make(path: &Path) -> Result<File, FileError> {
    if let Some(directory) = path.parent() {
        files::create_dir_all(directory)?;
    }
    let unseen = path.with_file_name(format!(".{:016x}.tmp", random::number()));
    let file = files::create_new(&unseen)?;
    let filled = file.write_all_at(&[b' '; BYTES], 0);
    let filled = filled.map_err(|source| FileError { action: "write", path: unseen.clone(), source });
    match filled.and_then(|()| files::rename(&unseen, path)) {
        Ok(()) => Ok(file),
        Err(error) => {
            files::remove_file_if_there(&unseen)?;
            Err(error)
        }
    }
}
