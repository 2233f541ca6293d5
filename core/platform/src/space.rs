//! How much room a file system has.

use std::io;
use std::path::Path;

use super::files::FileError;

/// The room on a file system, for a process without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: u64,
    /// `None` on a file system that does not count files.
    pub free_files: Option<u64>,
}

/// The room where `path` lies, or where it would be made.
///
/// # Errors
///
/// The file system does not say.
pub fn of(path: &Path) -> Result<Space, FileError> {
    let there = path.ancestors().find(|path| super::files::exists(path)).unwrap_or(path);
    match rustix::fs::statvfs(there) {
        Ok(found) => Ok(Space {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            free_files: (found.f_files > 0).then_some(found.f_favail),
        }),
        Err(errno) => Err(FileError {
            action: "ask for the room of",
            path: there.to_owned(),
            source: io::Error::from(errno),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_has_the_room_of_where_it_would_be_made() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let space = of(&directory.path().join("a/b/c")).expect("room");
        assert!(space.free_bytes > 0);
    }
}
