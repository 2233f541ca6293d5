//! How much space a file system has.

use std::io;
use std::path::Path;

use super::files::FileError;

/// The free space on a file system, for a process without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: u64,
    /// `None` on a file system that does not count files.
    pub free_files: Option<u64>,
}

/// The free space on the file system of `path`, which need not exist yet.
///
/// # Errors
///
/// The file system does not report it.
pub fn of(path: &Path) -> Result<Space, FileError> {
    let existing = path.ancestors().find(|path| super::files::exists(path)).unwrap_or(path);
    match rustix::fs::statvfs(existing) {
        Ok(found) => Ok(Space {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            free_files: (found.f_files > 0).then_some(found.f_favail),
        }),
        Err(errno) => Err(FileError {
            action: "read the free space of",
            path: existing.to_owned(),
            source: io::Error::from(errno),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_has_the_space_of_its_nearest_existing_parent() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let space = of(&directory.path().join("a/b/c")).expect("free space");
        assert!(space.free_bytes > 0);
    }
}
