//! Single-instance locks, in the directory that they guard.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Held as long as it lives; the kernel releases it with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The lock was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another {role} works on {}: {holder}", directory.display())]
    Held { role: String, directory: PathBuf, holder: String },
    #[error("cannot lock {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of `role` (such as `batch-manager`) on `directory`, or says who holds it.
    pub fn take(directory: &Path, role: &str) -> Result<Self, LockError> {
        let path = directory.join(format!(".{role}.lock"));
        let io_error = |source| LockError::Io { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(io_error)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // It may lie where others write too: what a symlink of theirs leads to is not to be emptied.
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(io_error)?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io_error(error.into()));
            }
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(io_error)?;
            return Err(LockError::Held {
                role: role.to_owned(),
                directory: directory.to_owned(),
                holder: holder.trim().to_owned(),
            });
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        file.set_len(0).map_err(io_error)?;
        file.rewind().map_err(io_error)?;
        writeln!(file, "pid {} on {host}", std::process::id()).map_err(io_error)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_who_holds_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let first = Lock::take(directory.path(), "batch-manager").expect("free lock");
        match Lock::take(directory.path(), "batch-manager") {
            Err(LockError::Held { holder, .. }) => {
                assert!(holder.contains(&std::process::id().to_string()), "{holder}")
            }
            other => panic!("expected the lock to be held, got {other:?}"),
        }
        drop(first);
        Lock::take(directory.path(), "batch-manager").expect("lock free again");
    }

    #[test]
    fn a_symlink_in_its_place_is_refused_and_what_it_leads_to_stays() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let theirs = directory.path().join("theirs");
        std::fs::write(&theirs, "theirs").expect("file");
        std::os::unix::fs::symlink(&theirs, directory.path().join(".fetchdata.lock")).expect("symlink");
        assert!(matches!(Lock::take(directory.path(), "fetchdata"), Err(LockError::Io { .. })));
        assert_eq!(std::fs::read(&theirs).expect("file"), b"theirs");
    }
}
