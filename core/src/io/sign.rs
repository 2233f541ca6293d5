//! Signs: what a running process has to say to `mysimbdp status`, such as why it pauses.
//!
//! A sign is needed most when the disk is full or there are no descriptors left. So its file gets its whole size at the
//! start and is overwritten in place, through a descriptor that stays open.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::files::{self, FileError};
use super::process::ProcessId;
use super::{clock, random};
use crate::layout::Layout;

/// One block of a file system. Longer texts are cut.
const BYTES: usize = 4096;
/// Leaves room for the rest even where each character is escaped.
const TEXT_CHARS_MAX: usize = 600;

const SUFFIX: &str = ".json";

/// A place where this process says one thing, or nothing. Taken down when dropped.
#[derive(Debug)]
pub struct Sign {
    path: PathBuf,
    role: &'static str,
    about: &'static str,
    process: ProcessId,
    /// `None` where it could not be made yet.
    file: Option<File>,
    shown: Option<String>,
    /// When it began to say something.
    since: Timestamp,
    /// What is shown is in the file.
    is_written: bool,
}

/// What a process that runs says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Who says it, such as `fetchdata`.
    pub role: String,
    pub about: String,
    #[serde(flatten)]
    pub process: ProcessId,
    pub since: Timestamp,
    pub text: String,
}

impl Sign {
    /// Makes an empty sign of `role` about something. Where it cannot be made, that is tried again with each text.
    pub fn new(layout: &Layout, role: &'static str, about: &'static str) -> Self {
        let process = ProcessId::current();
        // Each process has its own: a second one that is about to be refused must not take down the first one's.
        let path = layout.signs().join(format!("{role}.{about}.{}{SUFFIX}", process.pid));
        // What a process that was killed has left; nobody believes it anyway.
        let _ = remove_left(layout);
        let since = clock::now();
        let mut sign = Self { path, role, about, process, file: None, shown: None, since, is_written: false };
        sign.write();
        sign
    }

    /// Says `text`, or nothing. To be called as often as one likes: only what changes is written.
    pub fn show(&mut self, text: Option<String>) {
        if self.shown != text {
            if self.shown.is_none() {
                self.since = clock::now();
            }
            self.shown = text;
            self.is_written = false;
        }
        self.write();
    }

    fn write(&mut self) {
        if self.is_written {
            return;
        }
        if self.file.is_none() {
            self.file = make(&self.path).ok();
        }
        let Some(file) = &self.file else { return };
        // All at once, so that a reader sees one text or the other.
        self.is_written = file.write_all_at(&self.block(), 0).is_ok();
    }

    fn block(&self) -> Vec<u8> {
        let notice = self.shown.as_ref().map(|text| Notice {
            role: self.role.to_owned(),
            about: self.about.to_owned(),
            process: self.process,
            since: self.since,
            text: text.chars().take(TEXT_CHARS_MAX).collect(),
        });
        let mut block = notice.map_or_else(Vec::new, |notice| {
            serde_json::to_vec(&notice).expect("a notice has no map with keys other than text")
        });
        block.resize(BYTES, b' ');
        block
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        // Only tidiness: nobody believes the sign of a process that has ended.
        let _ = files::remove_file_if_there(&self.path);
    }
}

/// Removes the signs of processes that do not run.
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

/// What all processes that run have to say, in the order of their names.
///
/// # Errors
///
/// The directory of the signs cannot be listed, or one of them not be read.
pub fn notices(layout: &Layout) -> Result<Vec<Notice>, FileError> {
    let mut found = Vec::new();
    for path in files::list(&layout.signs())? {
        if !path.to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        let text = match files::read(&path) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        // An empty one says nothing.
        let notice = serde_json::from_slice::<Notice>(&text).ok();
        found.extend(notice.filter(|notice| notice.process.alive()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(layout: &Layout) -> Vec<String> {
        notices(layout).expect("readable").into_iter().map(|notice| notice.text).collect()
    }

    #[test]
    fn a_sign_says_one_thing_at_a_time_and_goes_with_its_process() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let mut sign = Sign::new(&layout, "fetchdata", "intake");
        assert_eq!(texts(&layout), [""; 0]);
        sign.show(Some("the disk is full".to_owned()));
        sign.show(Some("the disk \"is\" fuller\n".repeat(1000)));
        let long = texts(&layout).pop().expect("one sign");
        assert!(long.starts_with("the disk \"is\" fuller\n") && long.chars().count() == TEXT_CHARS_MAX);
        sign.show(Some("short".to_owned()));
        assert_eq!(texts(&layout), ["short"]);
        sign.show(None);
        assert_eq!(texts(&layout), [""; 0]);
        drop(sign);
        assert!(files::list(&layout.signs()).expect("list").is_empty());
    }

    #[test]
    fn what_a_process_that_was_killed_has_left_goes_with_the_next_sign() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        files::create_dir_all(&layout.signs()).expect("directory");
        // No pid is as large as that.
        files::write_atomic(&layout.signs().join("fetchdata.intake.4294967295.json"), b" ").expect("left");
        let _sign = Sign::new(&layout, "fetchdata", "config");
        assert_eq!(files::list(&layout.signs()).expect("list").len(), 1);
    }

    #[test]
    fn the_sign_of_a_process_that_was_killed_is_not_believed() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let mut sign = Sign::new(&layout, "fetchdata", "intake");
        sign.process.start_time += 1;
        sign.show(Some("paused".to_owned()));
        assert_eq!(texts(&layout), [""; 0]);
    }
}
