//! `mysimbdp status`: files by state, the queue, the running instances. Reads directories, so it works with everything down.

use std::collections::BTreeMap;
use std::path::Path;

use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::exit;
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_core::io::drop_directory::{DropDirectory, DropPath};
use mysimbdp_core::io::files;
use mysimbdp_core::io::sign::{self, Notice};
use mysimbdp_core::io::staging::{self, StagingError};
use mysimbdp_core::layout::Layout;
use mysimbdp_core::manifest::Lane;
use mysimbdp_stream_manager::control::StreamStatus;
use serde::Serialize;

use crate::commands::stream;
use crate::error::Failure;
use crate::fate::{self, Explained};
use crate::output::{self, Foreign};
use crate::state_files::{self, Damaged};
use crate::table;

#[derive(Debug, Serialize)]
struct Status {
    clients: BTreeMap<String, ClientStatus>,
    /// Discarded files that no client's rules claimed.
    unrouted: Vec<Parked>,
    /// `None` where no stream-manager runs or answers.
    streams: Option<Vec<StreamStatus>>,
    /// What running processes have to say, such as why one pauses.
    notices: Vec<Notice>,
}

#[derive(Debug, Default, Serialize)]
struct ClientStatus {
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

pub async fn run(config: &Config, json: bool) -> Result<(), Failure> {
    let status = look(config).await?;
    if json {
        return output::print_json(&status);
    }
    print(&status);
    Ok(())
}

async fn look(config: &Config) -> Result<Status, Failure> {
    let layout = &config.layout;
    let mut clients = BTreeMap::new();
    let mut damaged = state_files::damaged(layout)?;
    for id in config.clients.keys() {
        clients.insert(id.to_string(), look_at_client(layout, id, &mut damaged)?);
    }
    let unrouted = parked(&layout.discarded_root().join(Layout::UNROUTED), &mut damaged)?;
    let mut notices = sign::notices(layout)?;
    notices.extend(damaged.iter().map(|damaged| damaged.notice(layout)));
    Ok(Status { clients, unrouted, streams: stream::streams(config, None).await, notices })
}

fn look_at_client(
    layout: &Layout,
    id: &ClientId,
    damaged: &mut Vec<Damaged>,
) -> Result<ClientStatus, Failure> {
    let dropped = |lane| files_in(layout, &DropPath::of_client(id, lane));
    Ok(ClientStatus {
        dropped: dropped(Lane::Live)? + dropped(Lane::Backfill)?,
        staged: staged(layout, id, damaged)?,
        held: parked(&layout.held_root().join(id.as_str()), damaged)?,
        discarded: parked(&layout.discarded_root().join(id.as_str()), damaged)?,
        archived: files::list(&layout.archive_root().join(id.as_str()))?.len(),
    })
}

fn files_in(layout: &Layout, place: &DropPath) -> Result<usize, Failure> {
    let directory =
        match DropDirectory::open(layout).and_then(|drop_directory| drop_directory.directory(place)) {
            Err(error) if error.is_not_found() || error.is_obstructed() => return Ok(0),
            directory => directory?,
        };
    let mut names = directory.names()?;
    // It may be taken while we look.
    names.retain(|name| {
        !name.as_encoded_bytes().starts_with(b".")
            && directory.status(name).is_ok_and(|status| !status.is_directory())
    });
    Ok(names.len())
}

fn staged(layout: &Layout, id: &ClientId, damaged: &mut Vec<Damaged>) -> Result<Vec<Staged>, Failure> {
    let mut queue = Vec::new();
    for ingestion in staging::ingestions(layout, id).map_err(|error| Failure::of(exit::IO, &error))? {
        let staged = match staging::read(layout, id, ingestion) {
            Ok(staged) => staged,
            // It was finished while we looked.
            Err(StagingError::File(error)) if error.is_not_found() => continue,
            Err(error) => {
                let path = layout.staged(id, ingestion).join(Layout::MANIFEST);
                damaged.push(Damaged { path, reason: mysimbdp_core::chain(&error) });
                queue.push(Staged::unreadable(ingestion));
                continue;
            }
        };
        damaged.extend(staged.torn.into_iter().map(|torn| Damaged { path: torn.path, reason: torn.reason }));
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
    Ok(queue)
}

fn parked(directory: &Path, damaged: &mut Vec<Damaged>) -> Result<Vec<Parked>, Failure> {
    let mut found = Vec::new();
    for path in visible(directory)? {
        let id = path.file_name().unwrap_or_default().display().to_string();
        match fate::reason_in(&path)? {
            Explained::By(reason) => {
                found.push(Parked { id, file: reason.file, bytes: reason.bytes, reasons: reason.reasons });
            }
            Explained::Damaged(reason) => {
                found.push(Parked { id, file: String::new(), bytes: 0, reasons: vec![reason.to_string()] });
                damaged.push(reason);
            }
            Explained::Nowhere => {}
        }
    }
    Ok(found)
}

fn visible(directory: &Path) -> Result<Vec<std::path::PathBuf>, Failure> {
    let mut paths = files::list(directory)?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    Ok(paths)
}

fn print(status: &Status) {
    for notice in &status.notices {
        println!("{} says since {:.0}: {}", notice.role, notice.since, Foreign(&notice.text));
    }
    let rows = status.clients.iter().map(|(id, client)| {
        vec![
            id.clone(),
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
        Some(streams) => println!("{}", stream::instance_table(streams)),
        None => println!("no stream-manager is running, or it does not answer"),
    }
}

fn print_parked(state: &str, client: &str, files: &[Parked]) {
    for file in files {
        let (id, reasons) = (Foreign(&file.id), file.reasons.join("; "));
        println!("{state} {client} {id} {:?}: {}", file.file, Foreign(&reasons));
    }
}
