//! Why a file is held or discarded, from the file beside it.

use std::path::Path;

use mysimbdp_model::reason::Reason;
use mysimbdp_platform::files::{self, FileError};

use crate::state_files::Damaged;

/// What the directory of a held or discarded file explains.
#[derive(Debug)]
pub enum Explained {
    By(Reason),
    /// The file exists, but its reason cannot be read.
    Damaged(Damaged),
    /// The file has been moved elsewhere.
    Absent,
}

/// The reason beside a held or discarded file.
///
/// # Errors
///
/// It is there and cannot be read, as by another user.
pub fn reason_in(directory: &Path) -> Result<Explained, FileError> {
    let path = directory.join(Reason::FILE);
    let fault = match files::read(&path) {
        Ok(json) => match serde_json::from_slice(&json) {
            Ok(reason) => return Ok(Explained::By(reason)),
            Err(error) => error.to_string(),
        },
        // A file moves with its directory, so it is still here.
        Err(error) if error.is_not_found() && files::exists(directory) => "it is missing".to_owned(),
        Err(error) if error.is_not_found() => return Ok(Explained::Absent),
        Err(error) => return Err(error),
    };
    Ok(Explained::Damaged(Damaged::new(path, fault)))
}
