//! State files that are damaged. `mysimbdp status` names each of them, and never takes one for a missing file.
//!
//! Manifests of staged files and reasons are found when these files are listed; all others are found here.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mysimbdp_core::io::process::ProcessId;
use mysimbdp_core::io::sign::Notice;
use mysimbdp_core::io::{clock, files};
use mysimbdp_core::layout::Layout;
use serde::de::IgnoredAny;

use crate::error::Failure;

/// A state file that cannot be read.
#[derive(Debug)]
pub struct Damaged {
    pub path: PathBuf,
    pub reason: String,
}

impl Damaged {
    /// A notice about it, from `mysimbdp status` itself.
    pub fn notice(&self, layout: &Layout) -> Notice {
        let modified = files::metadata(&self.path).ok().and_then(|metadata| metadata.modified().ok());
        let since = modified.and_then(|modified| Timestamp::try_from(modified).ok());
        let path = self.path.strip_prefix(layout.root()).unwrap_or(&self.path);
        Notice {
            role: "status".to_owned(),
            about: "damaged-file".to_owned(),
            process: ProcessId::current(),
            since: since.unwrap_or_else(clock::now),
            text: format!("{} is damaged: {}", path.display(), self.reason),
        }
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged: {}", self.path.display(), self.reason)
    }
}

/// The damaged files below `state/`, and the manifests of held files, which nothing but a retry reads.
pub fn damaged(layout: &Layout) -> Result<Vec<Damaged>, Failure> {
    let mut paths = vec![layout.broker_state()];
    for directory in [layout.instances(), layout.outbox()] {
        paths.extend(files::list(&directory)?);
    }
    for client in files::list(&layout.edges())? {
        paths.extend(files::list(&client)?.into_iter().map(|outbox| outbox.join("outbox.json")));
    }
    for client in files::list(&layout.held_root())?.iter().filter(|path| is_directory(path)) {
        let held = files::list(client)?.into_iter().filter(|path| is_directory(path));
        paths.extend(held.map(|held| held.join(Layout::MANIFEST)));
    }
    let mut damaged = Vec::new();
    for path in paths.into_iter().filter(|path| is_json(path)) {
        match files::read(&path) {
            Ok(content) => damaged.extend(fault(&content).map(|reason| Damaged { path, reason })),
            // Its process may have ended meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => damaged.push(Damaged { path, reason: mysimbdp_core::chain(&error) }),
        }
    }
    Ok(damaged)
}

fn is_directory(path: &Path) -> bool {
    files::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// A name that begins with a dot is that of a file which is still being written.
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
