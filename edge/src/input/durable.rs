//! Makes the bytes that were read from a followed file durable, before any line of them is accepted.
//!
//! They may be in the page cache only, because many programs never sync their logs. If a power cut removed a line that
//! already has a number, the position after it would not be found in any file, and the file would be read from its
//! beginning, under new numbers. So the follower syncs in place of the writer: a descriptor opened for reading is enough.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mysimbdp_platform::files::{self, FileError};
use tokio::task::{JoinHandle, spawn_blocking};

/// How far an open file is durable.
#[derive(Debug)]
pub struct FileSync {
    file: Arc<File>,
    path: PathBuf,
    /// The directories that hold its name: if a power cut undid a rename, another file would have that name.
    directories: Vec<PathBuf>,
    /// All bytes before this offset are durable, and so are the names. `None` if nothing has been synced yet.
    through: Option<u64>,
    /// The running sync and the offset that it covers. It continues if its caller is dropped.
    running: Option<(u64, JoinHandle<Result<Outcome, FileError>>)>,
}

/// The result of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Synced,
    /// This kind of file, or its file system, does not support syncing.
    Unsupported,
}

impl FileSync {
    pub fn new(file: Arc<File>, path: PathBuf, directories: Vec<PathBuf>) -> Self {
        Self { file, path, directories, through: None, running: None }
    }

    /// Returns when all bytes before `offset`, which have been read, are durable. May be dropped at any await.
    ///
    /// # Errors
    ///
    /// The sync failed. Then it is unknown which bytes are on disk, and a second sync would not report the loss.
    pub async fn sync_through(&mut self, offset: u64) -> Result<(), FileError> {
        while self.through.is_none_or(|through| through < offset) {
            let (reached, sync) = match &mut self.running {
                Some(running) => running,
                None => {
                    let sync = self.start();
                    self.running.insert((offset, sync))
                }
            };
            let (reached, result) = (*reached, sync.await);
            self.running = None;
            let ended = |error| FileError {
                action: "sync",
                path: self.path.clone(),
                source: io::Error::other(error),
            };
            self.through = match result.map_err(ended)?? {
                Outcome::Synced => Some(reached),
                Outcome::Unsupported => Some(u64::MAX),
            };
        }
        Ok(())
    }

    /// The file no longer contains any of the synced bytes.
    pub fn restart(&mut self) {
        self.through = None;
    }

    /// Runs on a thread of its own: a busy disk must not block the publisher's connection.
    fn start(&self) -> JoinHandle<Result<Outcome, FileError>> {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let directories = if self.through.is_none() { self.directories.clone() } else { Vec::new() };
        spawn_blocking(move || {
            let synced = file.sync_data().map_err(|source| FileError { action: "sync", path, source });
            let outcome = outcome_of(synced)?;
            directories.iter().try_for_each(|directory| outcome_of(files::sync_dir(directory)).map(drop))?;
            Ok(outcome)
        })
    }
}

fn outcome_of(synced: Result<(), FileError>) -> Result<Outcome, FileError> {
    match synced {
        Ok(()) => Ok(Outcome::Synced),
        Err(error) if is_unsupported(&error.source) => {
            tracing::warn!(
                error = %mysimbdp_model::error_chain(&error),
                "followed file or its directory cannot be synced, lines may be published twice after a power cut"
            );
            Ok(Outcome::Unsupported)
        }
        Err(error) => Err(error),
    }
}

/// Whether the file or its file system does not support syncing, or the directory cannot be opened for reading, which a sync
/// needs.
///
/// EROFS does not count: ext4 returns it for a file system that has failed, and then the bytes that were read may be in
/// memory only.
fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_can_never_be_synced_is_read_without_a_sync() {
        // EINVAL, ENOSYS, EOPNOTSUPP, EACCES.
        for code in [22, 38, 95, 13] {
            assert!(is_unsupported(&io::Error::from_raw_os_error(code)), "{code}");
        }
        // EIO, ENOSPC, EROFS, EDQUOT.
        for code in [5, 28, 30, 122] {
            assert!(!is_unsupported(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }
}
