//! Takes files away from the drop point, and gives them back.
//!
//! Until a file is moved its sender may put another one in its place. So each move is followed by a look at what was
//! moved, and what nobody has judged goes back.

use std::path::{Path, PathBuf};

use mysimbdp_core::failpoint;
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_core::io::files::{self, FileError};
use mysimbdp_core::io::random;

use crate::scan::Stamp;

/// In front of the ingestion in the name of a directory at the drop point, in which an original waits for its removal
/// while its copy becomes visible in staging.
pub(crate) const TAKEN_PREFIX: &str = ".taken-";

/// Whether the file that was meant has been moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Captured {
    Yes,
    /// Another one had taken its place, and is there again.
    Replaced,
}

/// Moves the file that `stamp` tells of, within its file system.
pub(crate) fn capture(from: &Path, to: &Path, stamp: &Stamp) -> Result<Captured, FileError> {
    files::rename(from, to)?;
    failpoint::hit("fetchdata.captured");
    if Stamp::of(&files::metadata(to)?).is_same_content(stamp) {
        return Ok(Captured::Yes);
    }
    put_back(to, from)?;
    Ok(Captured::Replaced)
}

/// Returns a file to the drop point; where its name is in use again, in a directory of its own there.
pub(crate) fn put_back(from: &Path, to: &Path) -> Result<PathBuf, FileError> {
    if let Some(parent) = to.parent() {
        files::create_dir_all(parent)?;
    }
    if files::rename_new(from, to).is_ok() {
        return Ok(to.to_owned());
    }
    // Any failure comes here, also that of a file system without such a rename: a new directory is always possible.
    let directory = to.with_file_name(format!("returned-{:016x}", random::number()));
    files::create_dir_all(&directory)?;
    let to = directory.join(to.file_name().unwrap_or_default());
    files::move_file(from, &to)?;
    Ok(to)
}

/// Puts the original out of the scanner's sight, beside where it lies. `None` where another has taken its place.
pub(crate) fn hide(path: &Path, ingestion: IngestionId, stamp: &Stamp) -> Result<Option<PathBuf>, FileError> {
    let directory = path.with_file_name(format!("{TAKEN_PREFIX}{ingestion}"));
    files::create_dir_all(&directory)?;
    let hidden = directory.join(path.file_name().unwrap_or_default());
    match capture(path, &hidden, stamp)? {
        Captured::Yes => Ok(Some(directory)),
        Captured::Replaced => {
            files::remove_dir_all(&directory)?;
            Ok(None)
        }
    }
}

/// Undoes [`hide`]: what is in the directory returns to where it was.
pub(crate) fn unhide(directory: &Path) -> Result<(), FileError> {
    for path in files::list(directory)? {
        put_back(&path, &directory.with_file_name(path.file_name().unwrap_or_default()))?;
    }
    failpoint::hit("fetchdata.recovery-unhidden");
    files::remove_dir_all(directory)
}
