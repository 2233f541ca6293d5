//! `mysimbdp status`: what is there of what the config demands, files by state, the queue, the running instances.
//!
//! It works with everything down: what cannot be looked at is said, and hides nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::process::ProcessId;
use mysimbdp_platform::sign::{self, Notice};
use mysimbdp_platform::{clock, files};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath, FileKind, is_receipt};
use mysimbdp_spool::staging::{self, StagingError};
use mysimbdp_stream_manager::control::StreamStatus;
use serde::Serialize;

use crate::commands::{health, stream};
use crate::error::Failure;
use crate::file_outcome::{self, Explained};
use crate::output::{self, Foreign};
use crate::snapshot::{self, Part, Snapshot};
use crate::state_files::{self, Damaged};
use crate::table;

/// Files of a directory that are named if they may not be read; beyond, they are counted.
const UNREADABLE_MAX: usize = 20;

#[derive(Debug, Serialize)]
struct Status {
    /// Processes, connections, streams.
    parts: Vec<Part>,
    clients: BTreeMap<String, ClientStatus>,
    /// Discarded files that no client's rules claimed.
    unrouted: Vec<Parked>,
    /// `None` where no stream-manager runs or answers.
    streams: Option<Vec<StreamStatus>>,
    /// What running processes have to say, such as why one pauses; and, of the role `status`, what is damaged or cannot be
    /// read.
    notices: Vec<Notice>,
}

#[derive(Debug, Serialize)]
struct ClientStatus {
    /// False for files that are left of a client which the config does not have, or not any more.
    configured: bool,
    /// Files in the drop point that are not yet taken.
    dropped: usize,
    staged: Vec<Staged>,
    held: Vec<Parked>,
    discarded: Vec<Parked>,
    archived: usize,
}

/// A file in the queue.
#[derive(Debug, Serialize)]
struct Staged {
    ingestion: String,
    file: String,
    lane: Lane,
    bytes: u64,
    records: u64,
    units_done: usize,
    micro_batches: usize,
}

impl ClientStatus {
    fn has_files(&self) -> bool {
        !(self.staged.is_empty() && self.held.is_empty() && self.discarded.is_empty())
    }
}

impl Staged {
    /// One whose manifest cannot be read.
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

/// A file that waits for a person.
#[derive(Debug, Serialize)]
struct Parked {
    /// What `mysimbdp retry` takes.
    id: String,
    file: String,
    bytes: u64,
    reasons: Vec<String>,
}

/// Exits 69 if something that the config demands is not there, and 75 if something waits, or files wait for a person.
pub async fn run(config: &Config, json: bool) -> Result<(), Failure> {
    let Snapshot { parts, streams } = snapshot::look(config).await;
    let status = look(config, parts, streams);
    if json {
        output::print_json(&status)?;
    } else {
        print(&status);
    }
    let is_stuck = status.notices.iter().any(is_of_stuck_file);
    match snapshot::exit_code(&status.parts).or(is_stuck.then_some(exit::TEMPORARY)) {
        None => Ok(()),
        Some(code) => Err(Failure::said(code)),
    }
}

/// Whether it is about files that wait until a person does something.
fn is_of_stuck_file(notice: &Notice) -> bool {
    notice.role == state_files::ROLE || notice.about == sign::DROP_DIRECTORY
}

fn look(config: &Config, parts: Vec<Part>, streams: Option<Vec<StreamStatus>>) -> Status {
    let layout = &config.layout;
    let mut clients = BTreeMap::new();
    let mut damaged = state_files::damaged(layout);
    let owners = staging::owners(layout).unwrap_or_else(|error| {
        damaged.push(Damaged::unreadable(error));
        BTreeSet::new()
    });
    for id in owners.iter().chain(config.clients.keys()).collect::<BTreeSet<_>>() {
        let client = look_at_client(config, id, &mut damaged);
        if client.configured || client.has_files() {
            clients.insert(id.to_string(), client);
        }
    }
    let unrouted = parked(&layout.discarded_root().join(Layout::UNROUTED), &mut damaged);
    let mut notices = sign::notices(layout).unwrap_or_else(|error| {
        damaged.push(Damaged::unreadable(error));
        Vec::new()
    });
    notices.extend(damaged.iter().map(|damaged| damaged.notice(layout)));
    notices.extend(clients.iter().filter_map(|(id, client)| wait_for_nobody(id, client)));
    Status { parts, clients, unrouted, streams, notices }
}

/// That files are staged of a client whom the config does not have.
fn wait_for_nobody(id: &str, client: &ClientStatus) -> Option<Notice> {
    let count = client.staged.len();
    (!client.configured && count > 0).then(|| Notice {
        role: state_files::ROLE.to_owned(),
        about: "not-configured".to_owned(),
        process: ProcessId::current(),
        since: clock::now(),
        text: format!("{id} is not configured: its {count} staged files wait"),
    })
}

fn look_at_client(config: &Config, id: &ClientId, damaged: &mut Vec<Damaged>) -> ClientStatus {
    let layout = &config.layout;
    let dropped: Vec<DropPath> =
        [Lane::Live, Lane::Backfill].map(|lane| DropPath::of_client(id, lane)).into();
    ClientStatus {
        configured: config.client(id).is_some(),
        dropped: dropped.iter().map(|place| files_in(layout, place, damaged)).sum(),
        staged: staged(layout, id, damaged),
        held: parked(&layout.held_root().join(id.as_str()), damaged),
        discarded: parked(&layout.discarded_root().join(id.as_str()), damaged),
        archived: listed(&layout.archive_root().join(id.as_str()), damaged).len(),
    }
}

/// How many files lie there that are to be taken: a receipt is the platform's own. Each that may not be read is stuck, as is what lies in a directory that may not.
fn files_in(layout: &Layout, place: &DropPath, damaged: &mut Vec<Damaged>) -> usize {
    let opened = DropDirectory::open(layout)
        .and_then(|drop_directory| drop_directory.directory(place))
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
        // It may be taken while we look.
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
        damaged.push(Damaged::more_unreadable(place.to_string().into(), more));
    }
    count
}

fn staged(layout: &Layout, id: &ClientId, damaged: &mut Vec<Damaged>) -> Vec<Staged> {
    let mut queue = Vec::new();
    let ingestions = staging::ingestions(layout, id).unwrap_or_else(|error| {
        let path = layout.staging().join(id.as_str());
        damaged.push(Damaged::cannot_be_read(path, mysimbdp_model::error_chain(&error)));
        Vec::new()
    });
    for ingestion in ingestions {
        let staged = match staging::read(layout, id, ingestion) {
            Ok(staged) => staged,
            // It was finished while we looked.
            Err(StagingError::File(error)) if error.is_not_found() => continue,
            Err(error) => {
                let path = layout.staged(id, ingestion).join(Layout::MANIFEST);
                damaged.push(Damaged::new(path, mysimbdp_model::error_chain(&error)));
                queue.push(Staged::unreadable(ingestion));
                continue;
            }
        };
        damaged.extend(staged.torn.into_iter().map(|torn| Damaged::new(torn.path, torn.reason)));
        queue.push(Staged {
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

fn parked(directory: &Path, damaged: &mut Vec<Damaged>) -> Vec<Parked> {
    let mut found = Vec::new();
    for path in visible(directory, damaged) {
        let id = path.file_name().unwrap_or_default().display().to_string();
        match file_outcome::reason_in(&path) {
            Ok(Explained::By(reason)) => {
                found.push(Parked { id, file: reason.file, bytes: reason.bytes, reasons: reason.reasons });
            }
            Ok(Explained::Damaged(reason)) => {
                found.push(Parked { id, file: String::new(), bytes: 0, reasons: vec![reason.to_string()] });
                damaged.push(reason);
            }
            Ok(Explained::Nowhere) => {}
            Err(error) => {
                let reason = Damaged::unreadable(error);
                found.push(Parked { id, file: String::new(), bytes: 0, reasons: vec![reason.to_string()] });
                damaged.push(reason);
            }
        }
    }
    found
}

fn visible(directory: &Path, damaged: &mut Vec<Damaged>) -> Vec<PathBuf> {
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

fn print(status: &Status) {
    health::print(&status.parts);
    for notice in &status.notices {
        println!("{} says since {:.0}: {}", notice.role, notice.since, Foreign(&notice.text));
    }
    let rows = status.clients.iter().map(|(id, client)| {
        vec![
            if client.configured { id.clone() } else { format!("{id} (not configured)") },
            client.dropped.to_string(),
            client.staged.len().to_string(),
            client.held.len().to_string(),
            client.discarded.len().to_string(),
            client.archived.to_string(),
        ]
    });
    println!("{}", table::render(&["client", "dropped", "staged", "held", "discarded", "archived"], rows));
    for (id, client) in &status.clients {
        for file in &client.staged {
            println!(
                "staged    {id} {} {:?} {} of {} units",
                file.ingestion, file.file, file.units_done, file.micro_batches
            );
        }
        print_parked("held     ", id, &client.held);
        print_parked("discarded", id, &client.discarded);
    }
    print_parked("discarded", Layout::UNROUTED, &status.unrouted);
    match &status.streams {
        Some(streams) => println!("{}", stream::table(streams)),
        None => println!("no stream-manager is running, or it does not answer"),
    }
}

fn print_parked(state: &str, client: &str, files: &[Parked]) {
    for file in files {
        let (id, reasons) = (Foreign(&file.id), file.reasons.join("; "));
        println!("{state} {client} {id} {:?}: {}", file.file, Foreign(&reasons));
    }
}
