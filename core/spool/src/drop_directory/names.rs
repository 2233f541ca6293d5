//! Names in the drop directory that are not those of files to be taken.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Suffixes under which programs put a file together before they give it its name.
pub const TEMPORARY_SUFFIXES: [&str; 4] = [".part", ".filepart", ".tmp", "~"];

/// Whether a file of this name is still being written by a program that renames it at the end.
///
/// Names with a dot in front belong here as well: rsync writes `.name.XXXXXX` and `.rsync-partial/`, and the platform
/// itself uses such names at the drop point.
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") || TEMPORARY_SUFFIXES.iter().any(|suffix| name.ends_with(suffix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_programs_use_on_the_way_are_temporary() {
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
