//! The I/O adapter for staged work: `staging/`, `held/` and `archive/`. The location of an ingestion's directory is its state.
//!
//! 1. [`clients`] and [`ingestions`] list published directories, which are complete; [`read`] reads one;
//! 2. [`progress`]: attempts, outcomes and rejected records of its work units, written as they happen;
//! 3. [`content`]: its bytes, as a whole and record by record;
//! 4. [`moves`]: to `held/` and back, to `archive/`, or removal.
//!
//! Only batch-manager writes below a published directory, so what it has read stays valid until it changes it itself.

pub mod content;
pub mod moves;
pub mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::{Manifest, ManifestError};
use mysimbdp_model::outcome::Outcome;
use mysimbdp_platform::files::{self, FileError};

use progress::Progress;

pub use moves::{
    archive, find_held, held_reason, hold, hold_unreadable, moved_before, remove, remove_dir, reprocess,
    retry_dropped, retry_held, return_to_archive, sweep_removed,
};
pub use progress::{Attempt, Reject, RejectsWriter, Torn, read_rejects, write_attempt, write_outcome};

/// A staged or held ingestion and its progress.
#[derive(Clone, Debug, PartialEq)]
pub struct StagedIngestion {
    pub directory: PathBuf,
    pub manifest: Manifest,
    /// Outcomes of the work units that are done, by index.
    pub outcomes: BTreeMap<u32, Outcome>,
    /// Attempts of the work units that were begun, by index.
    pub attempts: BTreeMap<u32, Attempt>,
    /// Files of outcomes and attempts that were torn by a power cut; see [`remove_torn`].
    pub torn: Vec<Torn>,
}

/// What went wrong with a staged, held or archived directory.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot read {}", path.display())]
    Manifest {
        path: PathBuf,
        #[source]
        source: ManifestError,
    },
    #[error("{} is missing", path.display())]
    NoManifest { path: PathBuf },
    #[error("misplaced manifest {}: it is of ingestion {ingestion} of {client}", path.display())]
    Misplaced { path: PathBuf, client: ClientId, ingestion: IngestionId },
    #[error("invalid JSON in {}", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("ingestion {ingestion} of {client} is not held")]
    NotHeld { client: ClientId, ingestion: IngestionId },
    #[error("ingestion {ingestion} of {client} is already staged")]
    AlreadyStaged { client: ClientId, ingestion: IngestionId },
}

impl StagingError {
    /// Whether the manifest is damaged or missing: neither a retry nor another build will help.
    pub fn is_damaged_manifest(&self) -> bool {
        match self {
            Self::Manifest { source, .. } => !matches!(source, ManifestError::Version(_)),
            Self::NoManifest { .. } => true,
            Self::File(_) | Self::Misplaced { .. } | Self::Json { .. } => false,
            Self::NotHeld { .. } | Self::AlreadyStaged { .. } => false,
        }
    }
}

/// Follows the ingestion in the names of the directories of [`held_late`].
const LATE: &str = "-late-";

/// The clients that have a directory in staging.
///
/// # Errors
///
/// Staging cannot be listed; it is not an error if it does not exist.
pub fn clients(layout: &Layout) -> Result<Vec<ClientId>, StagingError> {
    let mut clients = names(&layout.staging())?;
    // A file that somebody has put there is not a client.
    let is_directory = |client: &ClientId| {
        files::metadata(&layout.staging().join(client.as_str())).is_ok_and(|metadata| metadata.is_dir())
    };
    clients.retain(is_directory);
    Ok(clients)
}

/// The clients that have a directory in `staging/`, `held/` or `discarded/`, whether or not they are in the config.
///
/// # Errors
///
/// One of these cannot be listed; it is not an error if it does not exist.
pub fn owners(layout: &Layout) -> Result<BTreeSet<ClientId>, FileError> {
    let mut owners = BTreeSet::new();
    for root in [layout.staging(), layout.held_root(), layout.discarded_root()] {
        owners.extend(names::<ClientId>(&root)?);
    }
    Ok(owners)
}

/// The published ingestions of a client, in name order.
///
/// # Errors
///
/// As [`clients`].
pub fn ingestions(layout: &Layout, client: &ClientId) -> Result<Vec<IngestionId>, StagingError> {
    Ok(names(&layout.staging().join(client.as_str()))?)
}

/// Reads a staged ingestion.
///
/// # Errors
///
/// The manifest is not readable or belongs to another directory, or the directory cannot be read.
pub fn read(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<StagedIngestion, StagingError> {
    read_in(layout.staged(client, ingestion), client, ingestion)
}

/// The directory that holds an original that was written to after a copy of it was staged.
pub fn held_late(layout: &Layout, client: &ClientId, ingestion: IngestionId, inode: u64) -> PathBuf {
    layout.held_root().join(client.as_str()).join(format!("{ingestion}{LATE}{inode:x}"))
}

/// Whether a directory of this name in `held/` is one of [`held_late`].
pub fn is_held_late(name: &str) -> bool {
    name.contains(LATE)
}

/// Reads a held ingestion.
///
/// # Errors
///
/// As [`read`].
pub fn read_held(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<StagedIngestion, StagingError> {
    read_in(layout.held(client, ingestion), client, ingestion)
}

fn read_in(
    directory: PathBuf,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<StagedIngestion, StagingError> {
    let manifest = read_manifest(&directory)?;
    if manifest.client != *client || manifest.ingestion != ingestion {
        let path = directory.join(Layout::MANIFEST);
        return Err(StagingError::Misplaced { path, client: manifest.client, ingestion: manifest.ingestion });
    }
    let Progress { outcomes, attempts, torn } = progress::read(&directory)?;
    Ok(StagedIngestion { directory, manifest, outcomes, attempts, torn })
}

/// Removes the files that were torn by a power cut, so that their units are run again.
///
/// # Errors
///
/// A file cannot be removed.
pub fn remove_torn(staged: &mut StagedIngestion) -> Result<(), StagingError> {
    for torn in std::mem::take(&mut staged.torn) {
        files::remove_file_if_exists(&torn.path)?;
        let (path, reason) = (torn.path.display(), torn.reason);
        tracing::warn!(%path, reason, "removed a torn file, its work unit is run again");
    }
    Ok(())
}

/// Reads the manifest in a staged, held or archived directory.
///
/// # Errors
///
/// It is not valid, or missing ([`StagingError::NoManifest`]), or there is no such directory.
pub fn read_manifest(directory: &Path) -> Result<Manifest, StagingError> {
    let path = directory.join(Layout::MANIFEST);
    let json = match files::read(&path) {
        Err(error) if error.is_not_found() && files::exists(directory) => {
            return Err(StagingError::NoManifest { path });
        }
        read => read?,
    };
    Manifest::from_json(&json).map_err(|source| StagingError::Manifest { path, source })
}

/// Writes a manifest durably; its directory entry is durable only once the directory is synced.
///
/// # Errors
///
/// It cannot be written.
pub fn write_manifest(directory: &Path, manifest: &Manifest) -> Result<(), FileError> {
    files::write_durable(&directory.join(Layout::MANIFEST), &manifest.to_json())
}

/// The names in a directory that can be parsed as `T`, in order.
fn names<T: std::str::FromStr + Ord>(directory: &Path) -> Result<Vec<T>, FileError> {
    let names = files::names(directory)?;
    let mut found: Vec<T> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests;
