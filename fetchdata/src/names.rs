//! File names from outside: which ones are temporary, and how unusual ones are written.

use std::ffi::OsStr;

pub(crate) use mysimbdp_spool::drop_directory::{is_temporary, plain};

/// How much of an escaped name is kept, within the longest name that a file system takes.
const ESCAPED_BYTES_MAX: usize = 240;

/// A name that is safe to display, for a file that is put aside: [`plain`], within the length that file systems take.
pub(crate) fn safe(name: &OsStr) -> String {
    let mut name = plain(name);
    if name.len() > ESCAPED_BYTES_MAX && name.contains('%') {
        name.truncate(name.floor_char_boundary(ESCAPED_BYTES_MAX));
        // Truncated there, it could look like a temporary file that nobody needs any more.
        while is_temporary(OsStr::new(&name)) {
            name.pop();
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn plain_names_stay_and_unusual_ones_are_escaped() {
        assert_eq!(plain(OsStr::new("wetter grün 100%.csv")), "wetter grün 100%.csv");
        assert_eq!(plain(OsStr::new("a\nTIMING stage=x\x1b[2J\u{85}")), "a%0ATIMING stage=x%1B[2J%C2%85");
        assert_eq!(plain(OsStr::from_bytes(b"a\xffb\xc3")), "a%FFb%C3");
        assert!(safe(OsStr::from_bytes(&[0xff; 255])).len() <= 255);
        assert_eq!(safe(OsStr::new(&"a".repeat(255))).len(), 255);
    }

    #[test]
    fn a_truncated_name_does_not_become_a_temporary_one() {
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
