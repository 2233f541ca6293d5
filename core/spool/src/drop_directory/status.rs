//! The status of a file, as the file system reports it.

use std::fmt;
use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat, fstat};

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// The status of a file itself; symlinks are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    pub kind: FileKind,
    pub device: u64,
    pub inode: u64,
    pub bytes: u64,
    /// Last change of the content: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Last change of content, name, mode or owner, likewise.
    pub changed: (i64, i64),
    /// The user's id.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
}

impl FileStatus {
    /// The status of an open file.
    ///
    /// # Errors
    ///
    /// The status cannot be read.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(fstat(file)?.into())
    }

    /// The time of the content's last change.
    pub fn modified_at(&self) -> SystemTime {
        let (seconds, nanoseconds) = self.modified;
        // A time before 1970 counts as 1970: either is long ago.
        UNIX_EPOCH
            + Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0))
    }

    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }
}

impl From<Stat> for FileStatus {
    fn from(stat: Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            _ => FileKind::Device,
        };
        Self {
            kind,
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "regular file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Device => "device",
        })
    }
}
