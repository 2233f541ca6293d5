//! Makes what has been read of a followed file durable, before any line of it is accepted.
//!
//! What is read may be in the page cache only, as many programs never sync their logs. If a power cut took back a line that
//! has a number already, the position after it would be in no file any more, and what is there then would be read from its
//! beginning, under new numbers. So the follower syncs instead of the writer: a descriptor opened for reading is enough.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mysimbdp_platform::files::{self, FileError};
use tokio::task::{JoinHandle, spawn_blocking};

/// How far an open file is durable.
#[derive(Debug)]
pub struct Durable {
    file: Arc<File>,
    path: PathBuf,
    /// Where its name is: were a rename undone by a power cut, another file would have the name.
    directories: Vec<PathBuf>,
    /// All before this offset is durable, and so are the names. `None`: nothing has been synced yet.
    through: Option<u64>,
    /// The sync that is under way, and up to which offset. It goes on when its caller has gone.
    running: Option<(u64, JoinHandle<Result<Outcome, FileError>>)>,
}

/// What became of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Synced,
    /// There is no sync for such a file, or on its file system.
    Unsupported,
}

impl Durable {
    pub fn new(file: Arc<File>, path: PathBuf, directories: Vec<PathBuf>) -> Self {
        Self { file, path, directories, through: None, running: None }
    }

    /// Returns when all before `offset`, which has been read, is durable. May be dropped at any await.
    ///
    /// # Errors
    ///
    /// It could not be written. Then nobody knows what of it is on the disk, and a second sync would not say.
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

    /// Nothing that was synced is in the file any more.
    pub fn restart(&mut self) {
        self.through = None;
    }

    /// On a thread of its own: a disk that is busy must not keep the publisher from its connection.
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

/// Such a file, or its file system, has no sync; or its directory may be searched and not read, and a sync needs that.
///
/// Not so EROFS: ext4 answers it for a file system that has failed, and then what was read may be in memory only.
fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_synced_is_read_without_a_sync() {
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
