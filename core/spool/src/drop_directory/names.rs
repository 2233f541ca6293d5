//! Names in the drop directory of files that must not be taken.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Suffixes of names under which programs write a file before they rename it.
pub const TEMPORARY_SUFFIXES: [&str; 4] = [".part", ".filepart", ".tmp", "~"];

/// Whether a file of this name is still being written by a program that renames it at the end.
///
/// Names that begin with a dot count as well: rsync writes `.name.XXXXXX` and `.rsync-partial/`, and the platform itself
/// uses such names in the drop directory.
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") || TEMPORARY_SUFFIXES.iter().any(|suffix| name.ends_with(suffix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_partial_files_are_temporary() {
        for name in
            [".a.csv.Xa81bZ", ".rsync-partial", "a.csv.part", "a.csv.filepart", "a.tmp", "a.csv~", ".", "..."]
        {
            assert!(is_temporary(OsStr::new(name)), "{name}");
        }
        for name in ["a.csv", "part", "a.part.csv", "tmp", "~a"] {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }
}
