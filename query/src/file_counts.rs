//! How many files each client has in each state now. Only names are read, so it takes little time however many there are.

use std::ffi::OsString;
use std::path::Path;

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath, is_receipt};

use crate::file_list::FileState;

/// The files of a client of the config in one state; [`Layout::UNROUTED`] has what no client's rules claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCount {
    pub client: String,
    pub state: FileState,
    pub files: u64,
}

/// Counts the waiting, staged, held and discarded files. A directory that cannot be read is left out.
pub fn file_counts(config: &Config) -> Vec<FileCount> {
    let layout = &config.layout;
    let of_client = |client: &ClientId| {
        let below = |root: std::path::PathBuf| entries(&root.join(client.as_str()));
        [
            (FileState::Waiting, waiting(layout, client)),
            (FileState::Staged, below(layout.staging())),
            (FileState::Held, below(layout.held_root())),
            (FileState::Discarded, below(layout.discarded_root())),
        ]
        .map(|(state, files)| (client.to_string(), state, files))
    };
    let unrouted = entries(&layout.discarded_root().join(Layout::UNROUTED));
    let unrouted = (Layout::UNROUTED.to_owned(), FileState::Discarded, unrouted);
    let counted = config.clients.keys().flat_map(of_client).chain([unrouted]);
    counted
        .filter_map(|(client, state, files)| Some(FileCount { client, state, files: files.ok()? }))
        .collect()
}

/// The entries of a directory without the hidden ones, which are not published yet.
fn entries(directory: &Path) -> Result<u64, FileError> {
    match files::names(directory) {
        Ok(names) => Ok(names.iter().filter(|name| !is_hidden(name)).count() as u64),
        Err(error) if error.is_not_found() => Ok(0),
        Err(error) => Err(error),
    }
}

fn waiting(layout: &Layout, client: &ClientId) -> Result<u64, FileError> {
    let drop_directory = DropDirectory::open(layout)?;
    let mut count = 0;
    for lane in [Lane::Live, Lane::Backfill] {
        let directory = match drop_directory.directory(&DropPath::of_client(client, lane)) {
            Ok(directory) => directory,
            Err(error) if error.is_not_found() || error.is_obstructed() => continue,
            Err(error) => return Err(error),
        };
        let names = directory.names()?;
        let files = names.iter().filter(|name| !is_hidden(name) && !is_receipt(name));
        // A file may be taken meanwhile.
        count += files.filter(|name| directory.status(name).is_ok_and(|found| !found.is_directory())).count();
    }
    Ok(count as u64)
}

fn is_hidden(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
