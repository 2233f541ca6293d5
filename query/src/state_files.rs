//! Finds damaged state files. `mysimbdp status` names each of them, and never mistakes a damaged file for a missing
//! one.
//!
//! Damaged manifests of staged files, and damaged reasons, are found when those files are listed. Found here are the
//! state of the embedded broker, the files of running stream instances, both kinds of outboxes, and the manifests of
//! held files.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::notice::Notice;
use mysimbdp_platform::process::ProcessId;
use serde::de::IgnoredAny;

/// The process name of notices that come from `mysimbdp status` itself.
pub const STATUS_COMMAND: &str = "status";

/// A file that is damaged, or cannot be read.
#[derive(Debug)]
pub struct Damaged {
    pub path: PathBuf,
    problem: &'static str,
    reason: String,
}

impl Damaged {
    pub fn new(path: PathBuf, reason: impl Into<String>) -> Self {
        Self { path, problem: "is damaged", reason: reason.into() }
    }

    /// It may be valid or missing: this user cannot tell.
    pub fn cannot_be_read(path: PathBuf, reason: impl Into<String>) -> Self {
        Self { path, problem: "cannot be read", reason: reason.into() }
    }

    /// From the error of a failed read.
    pub fn unreadable(error: FileError) -> Self {
        Self::cannot_be_read(error.path, error.source.to_string())
    }

    /// Further unreadable files of a directory, without their names.
    pub fn more_unreadable(directory: PathBuf, count: usize) -> Self {
        Self::cannot_be_read(directory, format!("and {count} more files likewise"))
    }

    /// A notice about it, from `mysimbdp status` itself.
    pub fn notice(&self, layout: &Layout) -> Notice {
        let modified = files::metadata(&self.path).ok().and_then(|metadata| metadata.modified().ok());
        let since = modified.and_then(|modified| Timestamp::try_from(modified).ok());
        let path = self.path.strip_prefix(layout.root()).unwrap_or(&self.path);
        Notice {
            process_name: STATUS_COMMAND.to_owned(),
            about: self.problem.replace(' ', "-"),
            process: ProcessId::current(),
            since: since.unwrap_or_else(clock::now),
            text: format!("{} {}: {}", path.display(), self.problem, self.reason),
        }
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.path.display(), self.problem, self.reason)
    }
}

/// Returns the damaged and unreadable files among those that this module examines.
pub fn damaged(layout: &Layout) -> Vec<Damaged> {
    let mut damaged = Vec::new();
    let mut list = |directory: &Path| {
        files::list(directory).unwrap_or_else(|error| {
            damaged.push(Damaged::unreadable(error));
            Vec::new()
        })
    };
    let mut paths = vec![layout.broker_state(), layout.serving_state()];
    for directory in [layout.instances(), layout.outbox()] {
        paths.extend(list(&directory));
    }
    for client in list(&layout.edges()) {
        paths.extend(list(&client).into_iter().map(|outbox| outbox.join("outbox.json")));
    }
    for client in list(&layout.held_root()).iter().filter(|path| is_directory(path)) {
        let held = list(client).into_iter().filter(|path| is_directory(path));
        paths.extend(held.map(|held| held.join(Layout::MANIFEST)));
    }
    for path in paths.into_iter().filter(|path| is_json(path)) {
        match files::read(&path) {
            Ok(content) => damaged.extend(fault(&content).map(|reason| Damaged::new(path, reason))),
            // The process that it belongs to may have ended meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => damaged.push(Damaged::unreadable(error)),
        }
    }
    damaged
}

fn is_directory(path: &Path) -> bool {
    files::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Whether it is a finished JSON file: a name that begins with a dot is that of a file which is still being written.
fn is_json(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".json") && !name.starts_with('.')
}

fn fault(content: &[u8]) -> Option<String> {
    if content.is_empty() {
        return Some("it is empty".to_owned());
    }
    serde_json::from_slice::<IgnoredAny>(content).err().map(|error| error.to_string())
}
