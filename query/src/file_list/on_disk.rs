//! The files whose state is their directory: waiting, staged, held and discarded ones.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::{Lane, Manifest};
use mysimbdp_platform::files;
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath, is_receipt, is_temporary, plain};
use mysimbdp_spool::staging::{self, StagingError};

use super::{Collected, FilePosition, FileState, ListedFile, UnitProgress};
use crate::error::QueryError;
use crate::reason_file::{ReasonLookup, reason_in};

/// A file whose state is its directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OnDisk {
    pub(crate) state: FileState,
    /// A client, or `_unrouted`.
    pub(crate) owner: String,
    /// Identifies it among its owner's files in this state.
    pub(crate) id: String,
    pub(crate) lane: Lane,
    /// The name of its directory entry.
    pub(crate) name: OsString,
}

/// The states that are directories, in the order of a file's way.
pub(crate) const STATES: [FileState; 4] =
    [FileState::Waiting, FileState::Staged, FileState::Held, FileState::Discarded];

/// Adds the files after `after`, until the page is full.
pub(super) fn collect(
    config: &Config,
    after: Option<&FilePosition>,
    collected: &mut Collected<'_>,
) -> Result<(), QueryError> {
    let owners = owners(config, collected.filter.client.as_ref())?;
    for state in STATES.into_iter().filter(|state| collected.filter.wants(*state)) {
        for owner in &owners {
            // All of this owner's files have been listed.
            if after.is_some_and(|after| (after.state, &after.owner) > (state, owner)) {
                continue;
            }
            for file in entries(config, state, owner)? {
                let position =
                    FilePosition { state, owner: owner.clone(), id: file.id.clone(), ended_at: None };
                if after.is_none_or(|after| *after < position) {
                    collected.add(position, describe(config, &file));
                }
                if collected.is_full() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The clients that may have files, and `_unrouted` for files of none.
pub(crate) fn owners(config: &Config, only: Option<&ClientId>) -> Result<BTreeSet<String>, QueryError> {
    if let Some(client) = only {
        return Ok(BTreeSet::from([client.to_string()]));
    }
    let found = staging::owners(&config.layout)?;
    let clients = found.iter().chain(config.clients.keys()).map(ClientId::to_string);
    Ok(clients.chain([Layout::UNROUTED.to_owned()]).collect())
}

/// The files of an owner in one of [`STATES`], in the order of their ids.
pub(crate) fn entries(config: &Config, state: FileState, owner: &str) -> Result<Vec<OnDisk>, QueryError> {
    let layout = &config.layout;
    let client = owner.parse::<ClientId>().ok();
    let found: Vec<(Lane, OsString)> = match (state, &client) {
        (FileState::Waiting, client) => waiting(layout, client.as_ref())?,
        (FileState::Staged, Some(client)) => {
            let names = files::names(&layout.staging().join(client.as_str()))?;
            let is_ingestion = |name: &OsString| {
                name.to_str().is_some_and(|name| published(name).parse::<IngestionId>().is_ok())
            };
            names.into_iter().filter(is_ingestion).map(|name| (Lane::Live, name)).collect()
        }
        (FileState::Held, _) => set_aside_names(&layout.held_root().join(owner))?,
        (FileState::Discarded, _) => set_aside_names(&layout.discarded_root().join(owner))?,
        (FileState::Staged, None) | (FileState::Ingested | FileState::Purged, _) => Vec::new(),
    };
    let entry = |(lane, name): (Lane, OsString)| {
        let id = match lane {
            Lane::Backfill => format!("{}/{}", Layout::BACKFILL, plain(&name)),
            Lane::Live | Lane::Retry if state == FileState::Waiting => plain(&name).to_string(),
            Lane::Live | Lane::Retry => published(&plain(&name)).to_owned(),
        };
        OnDisk { state, owner: owner.to_owned(), id, lane, name }
    };
    let mut entries: Vec<OnDisk> = found.into_iter().map(entry).collect();
    entries.sort_unstable();
    Ok(entries)
}

/// Reads what is known about a file; `None` if it is no longer there.
pub(crate) fn describe(config: &Config, file: &OnDisk) -> Option<ListedFile> {
    let (layout, client) = (&config.layout, file.owner.parse::<ClientId>().ok());
    match file.state {
        FileState::Waiting => waiting_file(layout, client.as_ref(), file.lane, &file.name),
        FileState::Staged => staged_file(layout, &client?, file.id.parse().ok()?),
        FileState::Held | FileState::Discarded => {
            let root =
                if file.state == FileState::Held { layout.held_root() } else { layout.discarded_root() };
            let directory = root.join(&file.owner);
            let describe =
                |name: &OsStr| set_aside(file.state, client.as_ref(), &directory.join(name), &file.id);
            // It may have been published meanwhile.
            describe(&file.name).or_else(|| describe(file.id.as_ref()))
        }
        FileState::Ingested | FileState::Purged => None,
    }
}

/// The name under which a directory is published. Until then it has a hidden one; the file may already be in it, and is then in
/// no other place.
fn published(name: &str) -> &str {
    name.strip_prefix('.').unwrap_or(name)
}

fn set_aside_names(directory: &Path) -> Result<Vec<(Lane, OsString)>, QueryError> {
    Ok(files::names(directory)?.into_iter().map(|name| (Lane::Live, name)).collect())
}

/// The files that wait for intake; without a client those in the drop directory itself.
fn waiting(layout: &Layout, client: Option<&ClientId>) -> Result<Vec<(Lane, OsString)>, QueryError> {
    let drop_directory = match DropDirectory::open(layout) {
        Ok(drop_directory) => drop_directory,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    let lanes = if client.is_some() { &[Lane::Live, Lane::Backfill][..] } else { &[Lane::Live] };
    for &lane in lanes {
        let opened = drop_directory.directory(&folder(client, lane));
        match opened.and_then(|directory| directory.names()) {
            Ok(names) => {
                let names = names.into_iter().filter(|name| !is_temporary(name) && !is_receipt(name));
                found.extend(names.map(|name| (lane, name)));
            }
            Err(error) if error.is_not_found() || error.is_obstructed() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn folder(client: Option<&ClientId>, lane: Lane) -> DropPath {
    client.map_or_else(DropPath::root, |client| DropPath::of_client(client, lane))
}

/// `None` if the file has been taken meanwhile, or is a directory.
fn waiting_file(layout: &Layout, client: Option<&ClientId>, lane: Lane, name: &OsStr) -> Option<ListedFile> {
    let path = folder(client, lane).join(name);
    let status = DropDirectory::open(layout).and_then(|drop_directory| drop_directory.status(&path));
    let status = status.ok().filter(|status| !status.is_directory())?;
    Some(ListedFile {
        state: FileState::Waiting,
        client: client.map(ClientId::to_string),
        id: path.to_string(),
        ingestion: None,
        name: plain(name).to_string(),
        lane: Some(lane),
        bytes: status.bytes,
        received_at: Timestamp::try_from(status.modified_at()).ok(),
        ended_at: None,
        progress: None,
        counts: None,
        reasons: Vec::new(),
        codes: Vec::new(),
    })
}

/// `None` if the ingestion has ended meanwhile.
fn staged_file(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Option<ListedFile> {
    let staged = match staging::read(layout, client, ingestion) {
        Ok(staged) => staged,
        Err(StagingError::File(error)) if error.is_not_found() => {
            let manifest = staging::read_manifest(&layout.staged_unpublished(client, ingestion)).ok()?;
            return Some(staged_as(manifest, 0, Vec::new()));
        }
        Err(error) => {
            let mut file = damaged(FileState::Staged, Some(client), ingestion.to_string());
            file.reasons.push(error_chain(&error));
            return Some(file);
        }
    };
    // Why the last attempts failed, or what they wait for.
    let reasons = staged.attempts.into_values().filter_map(|attempt| attempt.reason).collect();
    Some(staged_as(staged.manifest, staged.outcomes.len(), reasons))
}

fn staged_as(manifest: Manifest, units_done: usize, reasons: Vec<String>) -> ListedFile {
    ListedFile {
        state: FileState::Staged,
        client: Some(manifest.client.to_string()),
        id: manifest.ingestion.to_string(),
        ingestion: Some(manifest.ingestion.to_string()),
        name: manifest.file,
        lane: Some(manifest.lane),
        bytes: manifest.bytes,
        received_at: Some(manifest.received_at),
        ended_at: None,
        progress: Some(UnitProgress {
            records: manifest.records,
            micro_batches: manifest.micro_batches.len(),
            units_done,
        }),
        counts: None,
        reasons,
        codes: Vec::new(),
    }
}

/// `None` if the file has been moved meanwhile.
fn set_aside(state: FileState, client: Option<&ClientId>, directory: &Path, id: &str) -> Option<ListedFile> {
    let mut file = damaged(state, client, id.to_owned());
    match reason_in(directory) {
        Ok(ReasonLookup::Found(reason)) => {
            file.ingestion = reason.ingestion;
            file.name = reason.file;
            file.bytes = reason.bytes;
            file.received_at = Some(reason.received_at);
            file.ended_at = Some(reason.decided_at);
            file.reasons = reason.reasons;
            file.codes = reason.codes;
        }
        // A directory that has no reason yet is not published, and the file is still where it was.
        Ok(ReasonLookup::Damaged(_)) if is_hidden(directory) => return None,
        Ok(ReasonLookup::Damaged(damaged)) => file.reasons.push(damaged.to_string()),
        Ok(ReasonLookup::Moved) => return None,
        Err(error) => file.reasons.push(error_chain(&error)),
    }
    Some(file)
}

fn is_hidden(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// A file of which only the id is known.
fn damaged(state: FileState, client: Option<&ClientId>, id: String) -> ListedFile {
    let ingestion = id.parse::<IngestionId>().ok().map(|ingestion| ingestion.to_string());
    ListedFile {
        state,
        client: client.map(ClientId::to_string),
        id,
        ingestion,
        name: String::new(),
        lane: None,
        bytes: 0,
        received_at: None,
        ended_at: None,
        progress: None,
        counts: None,
        reasons: Vec::new(),
        codes: Vec::new(),
    }
}
