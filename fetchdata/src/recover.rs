//! Finishes or undoes interrupted steps: a directory under a hidden name in staging or in `discarded/`, and an
//! original that waits for its removal.
//!
//! It runs at start, before anything else, and may itself be interrupted anywhere. The directories tell everything
//! except what became of an original whose copy is neither staged nor archived: for that, [`originals`] asks the
//! history.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::{Lane, Manifest};
use mysimbdp_model::reason::ReasonFile;
use mysimbdp_platform::failpoint;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath};
use mysimbdp_spool::staging;
use tokio::task::{JoinError, spawn_blocking};

use crate::duplicate::EarlierIngestions;
use crate::late;
use crate::moves::put_back;
use crate::set_aside::{self, SetAside};

/// Originals that are set aside, by their content.
pub(crate) type Originals = HashMap<IngestionId, SetAside>;

/// Recovers everything except the originals that it returns: their copies are neither staged nor archived. Whatever
/// cannot be recovered is left for the next start, and stops nothing else.
pub(crate) fn all(layout: &Layout) -> Result<Originals, FileError> {
    let drop_directory = DropDirectory::open(layout)?;
    late::forget_orphans(&drop_directory)?;
    let (mut originals, refused) = find(&drop_directory)?;
    for client in clients_in(&layout.staging())? {
        for path in list_or_warn(&layout.staging().join(client.as_str())) {
            if let Some(ingestion) = unpublished_ingestion(&path) {
                warn_of(&path.display(), recover_staged(layout, &client, ingestion, &mut originals));
            }
        }
    }
    // Originals that wait for their writers have a copy; without one, they would be back in the drop directory.
    originals.retain(|_, original| !original.is_late());
    for (ingestion, original) in std::mem::take(&mut originals) {
        match is_staged_or_archived(layout, ingestion) {
            Ok(true) => warn_of(&ingestion, original.remove(&drop_directory)),
            Ok(false) => _ = originals.insert(ingestion, original),
            Err(error) => warn_of(&ingestion, Err(error)),
        }
    }
    for client in directories(&layout.discarded_root())? {
        for path in list_or_warn(&client) {
            warn_of(&path.display(), recover_discarded(&path));
        }
    }
    for (name, original) in refused {
        let ended = is_discarded(layout, &name).and_then(|is_discarded| match is_discarded {
            true => original.remove(&drop_directory),
            false => original.restore(&drop_directory),
        });
        warn_of(&name, ended);
    }
    Ok(originals)
}

/// The originals that are set aside: accepted ones, and ones that are to be discarded.
fn find(drop_directory: &DropDirectory) -> Result<(Originals, Vec<(String, SetAside)>), FileError> {
    let (mut originals, mut refused) = (Originals::new(), Vec::new());
    for (key, original) in set_aside::find(drop_directory)? {
        match set_aside::key::ingestion_of(&key) {
            // Of two with the same content, the one that waits for its writer has a published copy already. That of
            // the other may not be published yet, so the other wins.
            Some((ingestion, true)) => _ = originals.entry(ingestion).or_insert(original),
            Some((ingestion, false)) => _ = originals.insert(ingestion, original),
            None => refused.push((key, original)),
        }
    }
    Ok((originals, refused))
}

/// Removes the originals whose copies have been ingested. What became of the copy of any other is not known, so that
/// one is inspected again.
pub(crate) async fn originals(
    layout: &Layout,
    history: &EarlierIngestions,
    waiting: Originals,
) -> Result<(), JoinError> {
    for (ingestion, original) in waiting {
        let since = DropDirectory::open(layout).and_then(|drop_directory| original.since(&drop_directory));
        let is_ingested = match since {
            Ok(since) => history.is_ingested_since(ingestion, since).await,
            Err(_) => false,
        };
        let layout = layout.clone();
        spawn_blocking(move || {
            let end = if is_ingested { SetAside::remove } else { SetAside::restore };
            warn_of(
                &ingestion,
                DropDirectory::open(&layout).and_then(|drop_directory| end(&original, &drop_directory)),
            );
        })
        .await?;
    }
    Ok(())
}

/// Lists a client's own directory. If that fails, only that client is affected.
fn list_or_warn(directory: &Path) -> Vec<PathBuf> {
    files::list(directory).unwrap_or_else(|error| {
        warn_of(&directory.display(), Err(error));
        Vec::new()
    })
}

fn warn_of(what: &dyn std::fmt::Display, recovered: Result<(), FileError>) {
    if let Err(error) = recovered {
        let error = mysimbdp_model::error_chain(&error);
        tracing::warn!(%what, error, "interrupted step cannot be recovered, it is left for the next start");
    }
}

/// Recovers one directory in staging.
pub(crate) fn leftover(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Result<(), FileError> {
    let (mut originals, _) = find(&DropDirectory::open(layout)?)?;
    recover_staged(layout, client, ingestion, &mut originals)
}

/// Whether the bytes in a staged or held directory match its manifest.
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

/// The files that make up the content, in order.
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

/// Completes the interrupted staging of one directory, or returns its file to the drop directory.
fn recover_staged(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    originals: &mut Originals,
) -> Result<(), FileError> {
    let drop_directory = DropDirectory::open(layout)?;
    let unpublished = layout.staged_unpublished(client, ingestion);
    let published = layout.staged(client, ingestion);
    let manifest =
        staging::read_manifest(&unpublished).ok().filter(|m| m.client == *client && m.ingestion == ingestion);
    if let Some(manifest) = &manifest
        && !files::exists(&published)
        // Parts whose original is still in the drop directory are made again from it.
        && (!has_parts(manifest) || is_set_aside(&drop_directory, originals.get(&ingestion))?)
        && matches(manifest, &unpublished)?
    {
        files::rename(&unpublished, &published)?;
        files::sync_dir(published.parent().unwrap_or(&published))?;
        failpoint::hit("fetchdata.recovery-published");
        if let Some(original) = originals.remove(&ingestion) {
            original.finish(&drop_directory)?;
        }
        tracing::info!(client = %client, ingestion = %ingestion, file = manifest.file, "staging was interrupted, it is completed now");
        return Ok(());
    }
    let lane = manifest.map_or(Lane::Live, |manifest| manifest.lane);
    return_data(&drop_directory, &DropPath::of_client(client, lane), &unpublished)?;
    failpoint::hit("fetchdata.recovery-returned");
    if let Some(original) = originals.remove(&ingestion) {
        original.restore(&drop_directory)?;
    }
    files::remove_dir_all(&unpublished)?;
    tracing::warn!(client = %client, ingestion = %ingestion, "staging was interrupted, its file is back in the drop directory");
    Ok(())
}

/// Whether the original has been set aside.
fn is_set_aside(drop_directory: &DropDirectory, original: Option<&SetAside>) -> Result<bool, FileError> {
    original.map_or(Ok(false), |original| original.holds_anything(drop_directory))
}

/// Returns files of senders, but not the platform's own, to the drop directory.
fn return_data(drop_directory: &DropDirectory, to: &DropPath, unpublished: &Path) -> Result<(), FileError> {
    let directory = Directory::open_platform(unpublished)?;
    for name in directory.names()? {
        let ours = name == OsStr::new(Layout::MANIFEST)
            || crate::names::is_temporary(&name)
            || directory.status(&name)?.is_directory();
        if !ours {
            put_back(drop_directory, &directory, &name, &to.join(&name))?;
        }
    }
    Ok(())
}

/// Whether a copy of the content is staged or archived.
fn is_staged_or_archived(layout: &Layout, ingestion: IngestionId) -> Result<bool, FileError> {
    let clients = clients_in(&layout.staging())?.into_iter().chain(clients_in(&layout.archive_root())?);
    Ok(clients.into_iter().any(|client| {
        files::exists(&layout.staged(&client, ingestion))
            || files::exists(&layout.archived(&client, ingestion))
    }))
}

/// Publishes a discarded file that is complete with its reason; removes a reason without its file, as that is still
/// where it was.
fn recover_discarded(unpublished: &Path) -> Result<(), FileError> {
    let Some(name) = unpublished.file_name().and_then(|name| name.to_str()?.strip_prefix('.')) else {
        return Ok(());
    };
    let is_complete = files::list(unpublished)?.iter().any(|path| {
        path.file_name().is_some_and(|name| name != ReasonFile::FILE && !crate::names::is_temporary(name))
    });
    if is_complete {
        files::rename(unpublished, &unpublished.with_file_name(name))
    } else {
        files::remove_dir_all(unpublished)
    }
}

/// The directories in a directory.
fn directories(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = files::list(directory)?;
    paths.retain(|path| files::metadata(path).is_ok_and(|metadata| metadata.is_dir()));
    Ok(paths)
}

/// Whether the discarded directory of this name is published.
fn is_discarded(layout: &Layout, name: &str) -> Result<bool, FileError> {
    let clients = directories(&layout.discarded_root())?;
    Ok(clients.iter().any(|client| files::exists(&client.join(name))))
}

fn clients_in(directory: &Path) -> Result<Vec<ClientId>, FileError> {
    let paths = files::list(directory)?;
    Ok(paths.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
}

fn unpublished_ingestion(path: &Path) -> Option<IngestionId> {
    path.file_name()?.to_str()?.strip_prefix('.')?.parse().ok()
}
