//! Single-instance locks, in the directory that they guard.
//!
//! Whoever can open a lock file can hold it, and so stop the platform. Therefore only this user can open it: its mode is 0600,
//! and a lock file of another user is replaced. Others may write to the directory, such as the drop directory.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::files::{self, FileError};

const MODE: u32 = 0o600;

/// How often others may replace the lock file while it is being locked, before this is an error.
const ATTEMPTS_MAX: usize = 100;

/// A lock, held until this is dropped; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another {process_name} uses {}: {holder}", directory.display())]
    Held { process_name: String, directory: PathBuf, holder: String },
    #[error("cannot lock {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Who holds a lock, or held it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    /// The process with this pid on this host, if it is still running.
    Here(u32),
    /// A process on another host, in the words of the lock file.
    Elsewhere(String),
}

/// Reads who holds the lock of `process_name` on `directory`. Does not try to lock it: a process that starts at this moment would find
/// it held.
///
/// # Errors
///
/// The lock file exists and cannot be read.
pub fn holder(directory: &Path, process_name: &str) -> Result<Holder, FileError> {
    let text = match files::read_to_string(&path(directory, process_name)) {
        Err(error) if error.is_not_found() => return Ok(Holder::Nobody),
        text => text?,
    };
    let mut words = text.split_whitespace();
    let named = (words.next(), words.next().and_then(|pid| pid.parse().ok()), words.next(), words.next());
    Ok(match named {
        (Some("pid"), Some(pid), Some("on"), Some(name)) if name == host() => Holder::Here(pid),
        (Some("pid"), Some(_), Some("on"), Some(_)) => Holder::Elsewhere(text.trim().to_owned()),
        _ => Holder::Nobody,
    })
}

/// The name of this host, as lock files have it.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn path(directory: &Path, process_name: &str) -> PathBuf {
    directory.join(format!(".{process_name}.lock"))
}

impl Lock {
    /// Takes the lock of `process_name` (such as `batch-manager`) on `directory`, or returns an error that names the holder.
    pub fn take(directory: &Path, process_name: &str) -> Result<Self, LockError> {
        let path = path(directory, process_name);
        let io_error = |source| LockError::Io { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(io_error)?;
        for _ in 0..ATTEMPTS_MAX {
            let (mut file, is_new) = open(&path).map_err(io_error)?;
            if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
                if error != rustix::io::Errno::WOULDBLOCK {
                    return Err(io_error(error.into()));
                }
                return Err(held(process_name, directory, &mut file).unwrap_or_else(io_error));
            }
            if is_ours(&path, &file, is_new).map_err(io_error)? {
                let host = host();
                file.set_len(0).map_err(io_error)?;
                file.rewind().map_err(io_error)?;
                writeln!(file, "pid {} on {host}", std::process::id()).map_err(io_error)?;
                return Ok(Self { _file: file });
            }
        }
        Err(io_error(io::Error::other("it is being replaced repeatedly")))
    }
}

/// Opens the lock file, or creates it and returns true as the second value. Does not follow a symlink.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map(|file| (file, false)),
    }
    match options.create_new(true).mode(MODE).open(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create_new(false).open(path).map(|file| (file, false))
        }
        other => other.map(|file| (file, true)),
    }
}

/// Whether the locked file belongs to this user and is still at `path`; if so, it is closed to other users. A file of another
/// user is removed: nobody holds it, because this process has just locked it. A file that this process has created is its
/// own, whatever owner a network mount reports.
fn is_ours(path: &Path, file: &File, is_new: bool) -> io::Result<bool> {
    let locked = file.metadata()?;
    let is_at_path = std::fs::symlink_metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino()));
    if !is_at_path {
        return Ok(false);
    }
    if !locked.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if !is_new && locked.uid() != rustix::process::geteuid().as_raw() {
        tracing::warn!(path = %path.display(), user = locked.uid(), "lock file of another user replaced");
        std::fs::remove_file(path)?;
        return Ok(false);
    }
    if locked.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(true)
}

fn held(process_name: &str, directory: &Path, file: &mut File) -> io::Result<LockError> {
    let mut holder = String::new();
    file.read_to_string(&mut holder)?;
    let owner = file.metadata()?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        holder = format!("{} (the lock file belongs to user {owner})", holder.trim());
    }
    Ok(LockError::Held {
        process_name: process_name.to_owned(),
        directory: directory.to_owned(),
        holder: holder.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_names_its_holder() {
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
    fn a_symlink_in_place_of_the_lock_file_is_refused_and_its_target_is_unchanged() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let theirs = directory.path().join("theirs");
        std::fs::write(&theirs, "theirs").expect("file");
        std::os::unix::fs::symlink(&theirs, directory.path().join(".fetchdata.lock")).expect("symlink");
        assert!(matches!(Lock::take(directory.path(), "fetchdata"), Err(LockError::Io { .. })));
        assert_eq!(std::fs::read(&theirs).expect("file"), b"theirs");
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("a lock file").permissions().mode() & 0o777
    }

    #[test]
    fn a_lock_file_that_others_could_hold_is_closed_to_them() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join(".fetchdata.lock");
        std::fs::write(&path, "pid 1 on an earlier version's host").expect("write");
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("a mode");
        let _lock = Lock::take(directory.path(), "fetchdata").expect("free lock");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_lock_file_of_another_user_is_replaced_and_another_user_cannot_hold_ours() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root can make files of another user");
            return;
        }
        const NOBODY: u32 = 65_534;
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("a mode");
        let path = directory.path().join(".fetchdata.lock");
        std::fs::write(&path, "").expect("write");
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("another owner");
        let lock = Lock::take(directory.path(), "fetchdata").expect("free lock");
        let metadata = std::fs::metadata(&path).expect("a lock file");
        assert_eq!((metadata.uid(), mode(&path)), (0, 0o600));
        drop(lock);

        // Another user's `flock`, which once stopped an ingestion, needs to open the file.
        let mut flock = std::process::Command::new("flock");
        flock.arg("--nonblock").arg(&path).arg("true");
        let flock = std::os::unix::process::CommandExt::uid(&mut flock, NOBODY).output().expect("flock runs");
        let stderr = String::from_utf8_lossy(&flock.stderr);
        assert!(!flock.status.success() && stderr.contains("ermission"), "{stderr}");
    }
}
