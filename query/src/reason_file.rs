//! Why a file is held or discarded, from `reason.json` beside it.

use std::path::Path;

use mysimbdp_model::reason::ReasonFile;
use mysimbdp_platform::files::{self, FileError};

use crate::state_files::Damaged;

/// The reason that was found in the directory of a held or discarded file.
#[derive(Debug)]
pub enum ReasonLookup {
    Found(ReasonFile),
    /// The held or discarded file exists, but `reason.json` is damaged or missing.
    Damaged(Damaged),
    /// The directory does not exist: the file has been moved elsewhere.
    Moved,
}

/// Reads `reason.json` beside a held or discarded file.
///
/// # Errors
///
/// It exists but cannot be read, for example by another user.
pub fn reason_in(directory: &Path) -> Result<ReasonLookup, FileError> {
    let path = directory.join(ReasonFile::FILE);
    let fault = match files::read(&path) {
        Ok(json) => match serde_json::from_slice(&json) {
            Ok(reason) => return Ok(ReasonLookup::Found(reason)),
            Err(error) => error.to_string(),
        },
        // A file is moved together with its directory, so it is still here.
        Err(error) if error.is_not_found() && files::exists(directory) => "it is missing".to_owned(),
        Err(error) if error.is_not_found() => return Ok(ReasonLookup::Moved),
        Err(error) => return Err(error),
    };
    Ok(ReasonLookup::Damaged(Damaged::new(path, fault)))
}
