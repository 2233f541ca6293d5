//! `mysimbdp install-links`: creates links to this executable under the names of the platform's processes, so that each
//! process can run alone on its own host.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mysimbdp_model::exit;
use mysimbdp_platform::files;

use crate::error::CommandError;

/// The names under which this executable runs as one of the platform's processes; `main` checks `argv[0]`.
pub const PIPELINE: [&str; 3] = ["fetchdata", "batch-manager", "stream-manager"];

pub fn run(directory: Option<PathBuf>) -> Result<(), CommandError> {
    let executable = std::env::current_exe().map_err(|error| CommandError::of(exit::IO, &error))?;
    let directory = match directory {
        Some(directory) => directory,
        None => executable.parent().unwrap_or(Path::new("/")).to_owned(),
    };
    for stage in PIPELINE {
        let link = directory.join(stage);
        let points_here = files::canonical(&link).is_ok_and(|target| target == executable);
        if !points_here {
            symlink(&executable, &link).map_err(|error| {
                CommandError::new(exit::IO, format!("cannot make the link {}: {error}", link.display()))
            })?;
        }
        println!("{}", link.display());
    }
    Ok(())
}
