//! Finishes or undoes what was cut off: a directory under a name with a dot, in staging or among the discarded, and an
//! original that waits for its removal.
//!
//! Runs at start, before anything else, and may itself be cut off anywhere. Only what became of an original whose copy is
//! in staging no more cannot be seen in the directories: [`originals`] asks the history.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mysimbdp_core::client::ClientId;
use mysimbdp_core::failpoint;
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_core::io::files::{self, FileError};
use mysimbdp_core::io::staging;
use mysimbdp_core::layout::Layout;
use mysimbdp_core::manifest::{Lane, Manifest};
use mysimbdp_core::reason::Reason;
use tokio::task::{JoinError, spawn_blocking};

use crate::capture::{self, TAKEN_PREFIX};
use crate::duplicate::History;

/// Originals out of sight: the directory that each waits in.
pub(crate) type Hidden = HashMap<IngestionId, PathBuf>;

/// Recovers everything but the originals that it returns, the copies of which are in staging no more. What cannot be
/// recovered is left as it is for the next start, and stops nothing else.
pub(crate) fn all(layout: &Layout) -> Result<Hidden, FileError> {
    let mut hidden = Hidden::new();
    find_hidden(&layout.drop_point(), &mut hidden)?;
    for client in clients_in(&layout.staging())? {
        for path in files::list(&layout.staging().join(client.as_str()))? {
            if let Some(ingestion) = unseen_ingestion(&path) {
                warn_of(&path, directory(layout, &client, ingestion, &mut hidden));
            }
        }
    }
    for (ingestion, directory) in std::mem::take(&mut hidden) {
        match is_kept(layout, ingestion) {
            Ok(true) => warn_of(&directory, files::remove_dir_all(&directory)),
            Ok(false) => _ = hidden.insert(ingestion, directory),
            Err(error) => warn_of(&directory, Err(error)),
        }
    }
    for client in directories(&layout.discarded_root())? {
        for path in directories(&client)? {
            warn_of(&path, discarded(&path));
        }
    }
    Ok(hidden)
}

/// Removes the originals whose copies have been ingested. Of any other it is not known what has become of its copy, so it
/// is judged again.
pub(crate) async fn originals(history: &History, hidden: Hidden) -> Result<(), JoinError> {
    for (ingestion, directory) in hidden {
        let hidden_since = files::metadata(&directory).ok().and_then(|metadata| metadata.modified().ok());
        let is_ingested = match hidden_since {
            Some(since) => history.is_ingested_since(ingestion, since).await,
            None => false,
        };
        spawn_blocking(move || {
            let end = if is_ingested { files::remove_dir_all } else { capture::unhide };
            warn_of(&directory, end(&directory));
        })
        .await?;
    }
    Ok(())
}

fn warn_of(directory: &Path, recovered: Result<(), FileError>) {
    if let Err(error) = recovered {
        let (directory, error) = (directory.display(), mysimbdp_core::chain(&error));
        tracing::warn!(%directory, error, "what was cut off cannot be recovered, it is left for the next start");
    }
}

/// Recovers one directory in staging.
pub(crate) fn leftover(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Result<(), FileError> {
    let mut hidden = Hidden::new();
    find_hidden(&layout.drop_point(), &mut hidden)?;
    directory(layout, client, ingestion, &mut hidden)
}

/// Whether the bytes in a staged or held directory are those that its manifest tells of.
pub(crate) fn matches(manifest: &Manifest, directory: &Path) -> Result<bool, FileError> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    for path in content(manifest, directory) {
        let file = match files::open(&path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let counted = io::copy(&mut files::buffered(file).take(manifest.bytes + 1), &mut hasher);
        bytes += counted.map_err(|source| FileError { action: "read", path, source })?;
    }
    Ok(bytes == manifest.bytes && hasher.finalize().to_string() == manifest.blake3)
}

/// The files that together are the content, in order.
fn content(manifest: &Manifest, directory: &Path) -> Vec<PathBuf> {
    if !has_parts(manifest) {
        return vec![directory.join(&manifest.file)];
    }
    let prefix =
        (manifest.prefix.length > 0).then(|| directory.join(Layout::PARTS).join(Layout::PREFIX_PART));
    prefix.into_iter().chain(manifest.micro_batches.iter().map(|batch| directory.join(&batch.path))).collect()
}

fn has_parts(manifest: &Manifest) -> bool {
    manifest.micro_batches.iter().any(|batch| batch.path != manifest.file)
}

fn directory(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    hidden: &mut Hidden,
) -> Result<(), FileError> {
    let unseen = layout.staged_unseen(client, ingestion);
    let visible = layout.staged(client, ingestion);
    let manifest =
        staging::read_manifest(&unseen).ok().filter(|m| m.client == *client && m.ingestion == ingestion);
    if let Some(manifest) = &manifest
        && !files::exists(&visible)
        // Parts whose original still lies at the drop point are made again from it.
        && (!has_parts(manifest) || hidden.get(&ingestion).is_some_and(|hidden| holds_anything(hidden)))
        && matches(manifest, &unseen)?
    {
        files::rename(&unseen, &visible)?;
        files::sync_dir(visible.parent().unwrap_or(&visible))?;
        failpoint::hit("fetchdata.recovery-shown");
        if let Some(original) = hidden.remove(&ingestion) {
            files::remove_dir_all(&original)?;
        }
        tracing::info!(client = %client, ingestion = %ingestion, file = manifest.file, "staging was cut off, completed");
        return Ok(());
    }
    let lane = manifest.map_or(Lane::Live, |manifest| manifest.lane);
    return_data(layout, client, lane, &unseen)?;
    failpoint::hit("fetchdata.recovery-returned");
    if let Some(original) = hidden.remove(&ingestion) {
        capture::unhide(&original)?;
    }
    files::remove_dir_all(&unseen)?;
    tracing::warn!(client = %client, ingestion = %ingestion, "staging was cut off, its file lies at the drop point again");
    Ok(())
}

/// Whether the original had been moved there.
fn holds_anything(hidden: &Path) -> bool {
    files::names(hidden).is_ok_and(|names| !names.is_empty())
}

/// Moves what is a sender's file, and not ours, to the drop point.
fn return_data(layout: &Layout, client: &ClientId, lane: Lane, unseen: &Path) -> Result<(), FileError> {
    let mut drop_point = layout.client_drop_point(client);
    if lane == Lane::Backfill {
        drop_point.push(Layout::BACKFILL);
    }
    for path in files::list(unseen)? {
        let name = path.file_name().unwrap_or_default();
        let ours =
            name == Layout::MANIFEST || crate::names::is_temporary(name) || files::metadata(&path)?.is_dir();
        if !ours {
            capture::put_back(&path, &drop_point.join(name))?;
        }
    }
    Ok(())
}

/// Whether the platform has a copy of the content.
fn is_kept(layout: &Layout, ingestion: IngestionId) -> Result<bool, FileError> {
    let clients = clients_in(&layout.staging())?.into_iter().chain(clients_in(&layout.archive_root())?);
    Ok(clients.into_iter().any(|client| {
        files::exists(&layout.staged(&client, ingestion))
            || files::exists(&layout.archived(&client, ingestion))
    }))
}

/// A discarded file with its reason becomes visible; a reason without its file goes, as the file lies where it was.
fn discarded(unseen: &Path) -> Result<(), FileError> {
    let Some(name) = unseen.file_name().and_then(|name| name.to_str()?.strip_prefix('.')) else {
        return Ok(());
    };
    let is_complete = files::list(unseen)?.iter().any(|path| {
        path.file_name().is_some_and(|name| name != Reason::FILE && !crate::names::is_temporary(name))
    });
    if is_complete {
        files::rename(unseen, &unseen.with_file_name(name))
    } else {
        files::remove_dir_all(unseen)
    }
}

fn find_hidden(directory: &Path, hidden: &mut Hidden) -> Result<(), FileError> {
    for path in directories(directory)? {
        let Some(name) = path.file_name() else { continue };
        match name.to_str().and_then(|name| name.strip_prefix(TAKEN_PREFIX)).and_then(|id| id.parse().ok()) {
            Some(ingestion) => {
                hidden.insert(ingestion, path);
            }
            None if crate::names::is_temporary(name) => {}
            None => find_hidden(&path, hidden)?,
        }
    }
    Ok(())
}

/// The directories in a directory.
fn directories(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = files::list(directory)?;
    paths.retain(|path| files::metadata(path).is_ok_and(|metadata| metadata.is_dir()));
    Ok(paths)
}

fn clients_in(directory: &Path) -> Result<Vec<ClientId>, FileError> {
    let paths = files::list(directory)?;
    Ok(paths.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
}

fn unseen_ingestion(path: &Path) -> Option<IngestionId> {
    path.file_name()?.to_str()?.strip_prefix('.')?.parse().ok()
}
