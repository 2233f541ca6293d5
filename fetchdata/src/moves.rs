//! Moves files out of the drop directory, and back into it.
//!
//! Until a file is moved, its sender may put another one in its place. So each move verifies what was moved, and a
//! file that nobody has inspected goes back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use mysimbdp_platform::files::Result;
use mysimbdp_platform::{failpoint, random};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath, Existing};

use crate::file_identity::FileIdentity;

/// Prefix of the name of a directory that holds a returned file whose own name was in use again; a random part
/// follows.
const RETURNED: &str = "returned-";
/// The same for a file whose directory has been replaced by something else: directly in the drop directory it would
/// be routed by its name, perhaps to another client.
const STRANDED: &str = "stranded-";

/// Whether the intended file has been moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Moved {
    Yes,
    /// Another file had taken its place, and is back there.
    Changed,
}

/// Moves the file that `identity` describes to `to`, a directory of the platform's own on the same file system.
pub(crate) fn move_verified(
    drop_directory: &DropDirectory,
    path: &DropPath,
    to: &Directory,
    name: &OsStr,
    identity: &FileIdentity,
) -> Result<Moved> {
    drop_directory.parent(path)?.rename(path.name(), to, name, Existing::Replace)?;
    failpoint::hit("fetchdata.original-moved");
    if FileIdentity::of(&to.status(name)?).is_same_content(identity) {
        return Ok(Moved::Yes);
    }
    put_back(drop_directory, to, name, path)?;
    Ok(Moved::Changed)
}

/// Returns a file to where it was. If its name is in use again, it goes to a directory of its own there; if something
/// else is in place of its directory, to one in the nearest ancestor.
pub(crate) fn put_back(
    drop_directory: &DropDirectory,
    from: &Directory,
    name: &OsStr,
    to: &DropPath,
) -> Result<()> {
    let mut destination = to.parent();
    let directory = loop {
        match drop_directory.open_or_create_directory(&destination) {
            Err(error) if error.is_obstructed() && !destination.is_root() => {
                destination = destination.parent()
            }
            directory => break directory?,
        }
    };
    if destination == to.parent() && from.move_file(name, &directory, to.name(), Existing::Keep).is_ok() {
        return Ok(());
    }
    // Any failure leads here, also that of a file system without such a move: a new directory is always possible.
    let prefix = if destination == to.parent() { RETURNED } else { STRANDED };
    let returned = format!("{prefix}{:016x}", random::number());
    from.move_file(name, &directory.open_or_create(OsStr::new(&returned))?, to.name(), Existing::Replace)
}

/// Whether the directory of this name, directly in the drop directory, holds a file that [`put_back`] has returned
/// there: such a file is routed by its name, as it was before.
pub(crate) fn is_returned(drop_directory: &Directory, name: &OsStr) -> bool {
    name.as_bytes().starts_with(RETURNED.as_bytes()) && drop_directory.open_private(name).is_ok()
}
