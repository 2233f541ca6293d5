//! File names as they come from outside: which ones are not meant yet, and how odd ones are written down.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

pub(crate) use mysimbdp_core::io::drop_directory::plain;

/// Suffixes under which programs put a file together before they give it its name.
const TEMPORARY_SUFFIXES: [&[u8]; 4] = [b".part", b".filepart", b".tmp", b"~"];

/// Of an escaped name, as much as leaves room for the longest name that a file system takes.
const ESCAPED_BYTES_MAX: usize = 240;

/// Whether a file of this name is still being written by a program that renames it at the end.
///
/// Names with a dot in front belong here as well: rsync writes `.name.XXXXXX` and `.rsync-partial/`, and the platform
/// itself uses such names at the drop point.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") || TEMPORARY_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// A name that is safe to look at, for a file that is put aside: [`plain`], within the length that file systems take.
pub(crate) fn safe(name: &OsStr) -> String {
    let mut name = plain(name);
    if name.len() > ESCAPED_BYTES_MAX && name.contains('%') {
        name.truncate(name.floor_char_boundary(ESCAPED_BYTES_MAX));
        // Cut there, it could look like a file that nobody needs any more.
        while is_temporary(OsStr::new(&name)) {
            name.pop();
        }
    }
    name
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

    #[test]
    fn plain_names_stay_and_odd_ones_are_escaped() {
        assert_eq!(plain(OsStr::new("wetter grün 100%.csv")), "wetter grün 100%.csv");
        assert_eq!(plain(OsStr::new("a\nTIMING stage=x\x1b[2J\u{85}")), "a%0ATIMING stage=x%1B[2J%C2%85");
        assert_eq!(plain(OsStr::from_bytes(b"a\xffb\xc3")), "a%FFb%C3");
        assert!(safe(OsStr::from_bytes(&[0xff; 255])).len() <= 255);
        assert_eq!(safe(OsStr::new(&"a".repeat(255))).len(), 255);
    }

    #[test]
    fn a_name_that_is_cut_does_not_become_a_temporary_one() {
        for end in ["~", ".tmp", "~~", ".part"] {
            let name =
                ["\u{1}", &"a".repeat(ESCAPED_BYTES_MAX - 3 - end.len()), end, &"b".repeat(12)].concat();
            assert!(
                !is_temporary(OsStr::new(&name)) && !is_temporary(OsStr::new(&safe(OsStr::new(&name)))),
                "{end}"
            );
        }
    }
}
