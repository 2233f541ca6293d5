//! The files of each client, by where they are: dropped, staged, held, discarded, archived.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::notice::{self, Notice};
use mysimbdp_platform::process::ProcessId;
use mysimbdp_platform::{clock, files};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath, FileKind, is_receipt};
use mysimbdp_spool::staging::{self, StagingError};
use serde::Serialize;

use crate::reason_file::{ReasonLookup, reason_in};
use crate::state_files::{self, Damaged};

/// Unreadable files of a directory that are listed by name; any beyond this number are only counted.
const UNREADABLE_MAX: usize = 20;

/// The files of all clients.
#[derive(Debug, Serialize)]
pub struct FilesByState {
    pub clients: BTreeMap<String, ClientFiles>,
    /// Discarded files that no client's rules claimed.
    pub unrouted: Vec<SetAsideFile>,
    /// Notices of the running processes, such as why one pauses. Those of the process `status` come from this scan:
    /// files that are damaged or unreadable, or belong to a client that is not configured.
    #[serde(skip)]
    pub notices: Vec<Notice>,
}

/// The files of a client.
#[derive(Debug, Serialize)]
pub struct ClientFiles {
    /// False if the config does not have the client (any more): then only its files are left.
    pub configured: bool,
    /// Files in the drop directory that fetchdata has not taken yet.
    pub dropped: usize,
    pub staged: Vec<StagedFile>,
    pub held: Vec<SetAsideFile>,
    pub discarded: Vec<SetAsideFile>,
    pub archived: usize,
}

/// A file in the queue.
#[derive(Debug, Serialize)]
pub struct StagedFile {
    pub ingestion: String,
    pub file: String,
    pub lane: Lane,
    pub bytes: u64,
    pub records: u64,
    pub units_done: usize,
    pub micro_batches: usize,
}

impl ClientFiles {
    fn has_files(&self) -> bool {
        !(self.staged.is_empty() && self.held.is_empty() && self.discarded.is_empty())
    }
}

impl StagedFile {
    /// A file whose manifest cannot be read.
    fn unreadable(ingestion: IngestionId) -> Self {
        Self {
            ingestion: ingestion.to_string(),
            file: String::new(),
            lane: Lane::Live,
            bytes: 0,
            records: 0,
            units_done: 0,
            micro_batches: 0,
        }
    }
}

/// A held or discarded file.
#[derive(Debug, Serialize)]
pub struct SetAsideFile {
    /// The id that `mysimbdp retry` accepts.
    pub id: String,
    pub file: String,
    pub bytes: u64,
    pub reasons: Vec<String>,
}

/// Scans all directories. Each one that cannot be read becomes a notice; the others are still listed.
pub fn files_by_state(config: &Config) -> FilesByState {
    let layout = &config.layout;
    let mut clients = BTreeMap::new();
    let mut damaged = state_files::damaged(layout);
    let owners = staging::owners(layout).unwrap_or_else(|error| {
        damaged.push(Damaged::unreadable(error));
        BTreeSet::new()
    });
    for id in owners.iter().chain(config.clients.keys()).collect::<BTreeSet<_>>() {
        let client = scan_client(config, id, &mut damaged);
        if client.configured || client.has_files() {
            clients.insert(id.to_string(), client);
        }
    }
    let unrouted = set_aside(&layout.discarded_root().join(Layout::UNROUTED), &mut damaged);
    let mut notices = notice::notices(layout).unwrap_or_else(|error| {
        damaged.push(Damaged::unreadable(error));
        Vec::new()
    });
    notices.extend(damaged.iter().map(|damaged| damaged.notice(layout)));
    notices.extend(clients.iter().filter_map(|(id, client)| notice_of_unconfigured(id, client)));
    FilesByState { clients, unrouted, notices }
}

/// Returns a notice if files are staged for a client that the config does not have.
fn notice_of_unconfigured(id: &str, client: &ClientFiles) -> Option<Notice> {
    let count = client.staged.len();
    (!client.configured && count > 0).then(|| Notice {
        process_name: state_files::STATUS_COMMAND.to_owned(),
        about: "not-configured".to_owned(),
        process: ProcessId::current(),
        since: clock::now(),
        text: format!("{id} is not configured: its {count} staged files wait"),
    })
}

fn scan_client(config: &Config, id: &ClientId, damaged: &mut Vec<Damaged>) -> ClientFiles {
    let layout = &config.layout;
    let dropped: Vec<DropPath> =
        [Lane::Live, Lane::Backfill].map(|lane| DropPath::of_client(id, lane)).into();
    ClientFiles {
        configured: config.client(id).is_some(),
        dropped: dropped.iter().map(|directory| files_in(layout, directory, damaged)).sum(),
        staged: staged(layout, id, damaged),
        held: set_aside(&layout.held_root().join(id.as_str()), damaged),
        discarded: set_aside(&layout.discarded_root().join(id.as_str()), damaged),
        archived: listed(&layout.archive_root().join(id.as_str()), damaged).len(),
    }
}

/// Counts the files that wait for intake; receipts are not among them. Files and directories that cannot be read are
/// reported as damaged.
fn files_in(layout: &Layout, path: &DropPath, damaged: &mut Vec<Damaged>) -> usize {
    let opened = DropDirectory::open(layout)
        .and_then(|drop_directory| drop_directory.directory(path))
        .and_then(|directory| Ok((directory.names()?, directory)));
    let (names, directory) = match opened {
        Ok(opened) => opened,
        Err(error) if error.is_not_found() || error.is_obstructed() => return 0,
        Err(error) => {
            damaged.push(Damaged::unreadable(error));
            return 0;
        }
    };
    let mut count = 0;
    let mut unreadable = Vec::new();
    let is_hidden = |name: &OsString| name.as_encoded_bytes().starts_with(b".");
    for name in names.iter().filter(|name| !is_hidden(name) && !is_receipt(name)) {
        // The file may be taken during the scan.
        let Ok(status) = directory.status(name) else { continue };
        count += usize::from(!status.is_directory());
        let opened = match status.kind {
            FileKind::File => directory.open(name).map(drop),
            FileKind::Directory => directory.directory(name).and_then(|below| below.names()).map(drop),
            _ => Ok(()),
        };
        unreadable.extend(opened.err().filter(|error| error.is_denied()));
    }
    let more = unreadable.len().saturating_sub(UNREADABLE_MAX);
    damaged.extend(unreadable.into_iter().take(UNREADABLE_MAX).map(Damaged::unreadable));
    if more > 0 {
        damaged.push(Damaged::more_unreadable(path.to_string().into(), more));
    }
    count
}

fn staged(layout: &Layout, id: &ClientId, damaged: &mut Vec<Damaged>) -> Vec<StagedFile> {
    let mut queue = Vec::new();
    let ingestions = staging::ingestions(layout, id).unwrap_or_else(|error| {
        let path = layout.staging().join(id.as_str());
        damaged.push(Damaged::cannot_be_read(path, error_chain(&error)));
        Vec::new()
    });
    for ingestion in ingestions {
        let staged = match staging::read(layout, id, ingestion) {
            Ok(staged) => staged,
            // The ingestion ended during the scan.
            Err(StagingError::File(error)) if error.is_not_found() => continue,
            Err(error) => {
                let path = layout.staged(id, ingestion).join(Layout::MANIFEST);
                damaged.push(Damaged::new(path, error_chain(&error)));
                queue.push(StagedFile::unreadable(ingestion));
                continue;
            }
        };
        damaged.extend(staged.torn.into_iter().map(|torn| Damaged::new(torn.path, torn.reason)));
        queue.push(StagedFile {
            ingestion: ingestion.to_string(),
            file: staged.manifest.file,
            lane: staged.manifest.lane,
            bytes: staged.manifest.bytes,
            records: staged.manifest.records,
            units_done: staged.outcomes.len(),
            micro_batches: staged.manifest.micro_batches.len(),
        });
    }
    queue
}

fn set_aside(directory: &Path, damaged: &mut Vec<Damaged>) -> Vec<SetAsideFile> {
    let mut found = Vec::new();
    for path in entries(directory, damaged) {
        let id = path.file_name().unwrap_or_default().display().to_string();
        match reason_in(&path) {
            Ok(ReasonLookup::Found(reason)) => {
                found.push(SetAsideFile {
                    id,
                    file: reason.file,
                    bytes: reason.bytes,
                    reasons: reason.reasons,
                });
            }
            Ok(ReasonLookup::Damaged(reason)) => {
                found.push(SetAsideFile {
                    id,
                    file: String::new(),
                    bytes: 0,
                    reasons: vec![reason.to_string()],
                });
                damaged.push(reason);
            }
            Ok(ReasonLookup::Moved) => {}
            Err(error) => {
                let reason = Damaged::unreadable(error);
                found.push(SetAsideFile {
                    id,
                    file: String::new(),
                    bytes: 0,
                    reasons: vec![reason.to_string()],
                });
                damaged.push(reason);
            }
        }
    }
    found
}

fn entries(directory: &Path, damaged: &mut Vec<Damaged>) -> Vec<PathBuf> {
    let mut paths = listed(directory, damaged);
    paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    paths
}

fn listed(directory: &Path, damaged: &mut Vec<Damaged>) -> Vec<PathBuf> {
    files::list(directory).unwrap_or_else(|error| {
        damaged.push(Damaged::unreadable(error));
        Vec::new()
    })
}

/// Whether the notice is about files that wait until a person does something.
pub fn is_of_stuck_file(notice: &Notice) -> bool {
    notice.process_name == state_files::STATUS_COMMAND || notice.about == notice::DROP_DIRECTORY
}
