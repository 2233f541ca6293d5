//! Moves files out of the drop directory, and back into it.
//!
//! Until a file is moved its sender may put another one in its place. So each move is followed by a look at what was
//! moved, and what nobody has inspected goes back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use mysimbdp_platform::files::Result;
use mysimbdp_platform::{failpoint, random};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath, Existing};

use crate::stamp::Stamp;

/// In front of the random part of the name of a directory that holds a file whose own name was in use again.
const RETURNED: &str = "returned-";
/// The same of one whose directory is gone: in the drop directory itself it would be routed by name, to whomever that means.
const STRANDED: &str = "stranded-";

/// Whether the file that was meant has been moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Moved {
    Yes,
    /// Another one had taken its place, and is there again.
    Replaced,
}

/// Moves the file that `stamp` tells of to `to`, a directory of the platform's own on the same file system.
pub(crate) fn move_verified(
    drop_directory: &DropDirectory,
    path: &DropPath,
    to: &Directory,
    name: &OsStr,
    stamp: &Stamp,
) -> Result<Moved> {
    drop_directory.parent(path)?.rename(path.name(), to, name, Existing::Replace)?;
    failpoint::hit("fetchdata.captured");
    if Stamp::of(&to.status(name)?).is_same_content(stamp) {
        return Ok(Moved::Yes);
    }
    put_back(drop_directory, to, name, path)?;
    Ok(Moved::Replaced)
}

/// Returns a file to where it was; if its name is in use again, to a directory of its own there, and if that is no longer a
/// directory, to the nearest one above.
pub(crate) fn put_back(
    drop_directory: &DropDirectory,
    from: &Directory,
    name: &OsStr,
    to: &DropPath,
) -> Result<()> {
    let mut place = to.parent();
    let directory = loop {
        match drop_directory.make_directory(&place) {
            Err(error) if error.is_obstructed() && !place.is_root() => place = place.parent(),
            directory => break directory?,
        }
    };
    if place == to.parent() && from.move_file(name, &directory, to.name(), Existing::Keep).is_ok() {
        return Ok(());
    }
    // Any failure comes here, also that of a file system without such a move: a new directory is always possible.
    let prefix = if place == to.parent() { RETURNED } else { STRANDED };
    let returned = format!("{prefix}{:016x}", random::number());
    from.move_file(name, &directory.make(OsStr::new(&returned))?, to.name(), Existing::Replace)
}

/// Whether the directory of this name, directly in the drop directory, holds what [`put_back`] has returned there: such a
/// file is routed by its name, as it was before.
pub(crate) fn is_returned(drop_directory: &Directory, name: &OsStr) -> bool {
    name.as_bytes().starts_with(RETURNED.as_bytes()) && drop_directory.open_own(name).is_ok()
}
