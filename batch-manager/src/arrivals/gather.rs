//! Finds the files of a client on disk that its contracts expect, in the order of a file's way: one that moves on meanwhile is found
//! at least once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use mysimbdp_config::{Client, Config};
use mysimbdp_model::arrival::{Arrival, ArrivedState, DiscardedArrival};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::{Lane, Manifest};
use mysimbdp_model::reason::ReasonFile;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_spool::drop_directory::{
    DropDirectory, DropPath, FileKind, FileStatus, is_receipt, is_temporary, plain,
};
use mysimbdp_spool::staging;

use crate::job::IngestionKey;
use crate::observe::Work;

/// A discarded directory is named after the second in which its file was received.
const NAME_TIME: &str = "%Y%m%dT%H%M%SZ";
/// More reasons tell nobody more.
const REASONS_MAX: usize = 10;
const REASON_CHARS_MAX: usize = 500;

/// The staged files that are known, so that their manifests are not read again.
pub(crate) type StagedFiles = BTreeMap<IngestionKey, Arc<Work>>;

/// What a manifest says that is needed here.
struct StagedFile {
    file: String,
    received_at: Timestamp,
    lane: Lane,
}

/// A file that has arrived, whatever contract expects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Arrived(Arrival),
    Discarded(DiscardedArrival),
}

/// What `reason.json` says, by directory: it is written once. `None`: it is of no interest.
type Reasons = BTreeMap<PathBuf, Option<Found>>;

/// What has been read of held and discarded files, so that it is not read again.
#[derive(Debug, Default)]
pub(super) struct KnownReasons {
    before: Reasons,
    now: Reasons,
}

impl KnownReasons {
    /// Forgets what was not asked for since the last call: those files are gone.
    pub(super) fn forget_others(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// What became of the files in these directories; reads what is not known.
    fn of(&mut self, directories: Vec<PathBuf>, read: impl Fn(ReasonFile) -> Option<Found>) -> Vec<Found> {
        let mut found = Vec::new();
        for directory in directories {
            let known = self.before.remove(&directory).or_else(|| reason(&directory).map(&read));
            // It is not there yet, or no longer.
            let Some(known) = known else { continue };
            found.extend(known.clone());
            self.now.insert(directory, known);
        }
        found
    }
}

/// Returns the files of a client on disk, and of discarded ones those that were received at `since` or later.
pub(super) fn gather(
    config: &Config,
    client: &Client,
    staged: &StagedFiles,
    reasons: &mut KnownReasons,
    since: Timestamp,
) -> Result<Vec<Found>, FileError> {
    let mut found = waiting(config, client)?;
    found.extend(self::staged(&config.layout, client, staged)?);
    found.extend(held(&config.layout, client, reasons)?);
    found.extend(discarded(&config.layout, client, reasons, since)?);
    Ok(found)
}

fn is_expected(client: &Client, name: &OsStr) -> bool {
    client.contracts.iter().any(|contract| client.expects(contract, name))
}

fn waiting(config: &Config, client: &Client) -> Result<Vec<Found>, FileError> {
    let drop_directory = match DropDirectory::open(&config.layout) {
        Ok(drop_directory) => drop_directory,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for folder in [DropPath::of_client(&client.id, Lane::Live), DropPath::root()] {
        let is_root = folder.is_root();
        let names = match drop_directory.directory(&folder).and_then(|directory| directory.names()) {
            Ok(names) => names,
            Err(error) if error.is_not_found() || error.is_obstructed() => continue,
            Err(error) => return Err(error),
        };
        for name in names.iter().filter(|name| is_complete(client, name, &names)) {
            if is_root && !is_routed_to(config, client, name) {
                continue;
            }
            // It may have been taken meanwhile.
            let Ok(status) = drop_directory.status(&folder.join(name)) else { continue };
            if status.kind == FileKind::File {
                found.push(Found::Arrived(Arrival {
                    received_at: received_at(&status),
                    file: plain(name),
                    ingestion: None,
                    state: ArrivedState::Waiting,
                }));
            }
        }
    }
    Ok(found)
}

/// Whether it is an expected file that its sender has marked as complete, if senders do that.
fn is_complete(client: &Client, name: &OsStr, names: &[OsString]) -> bool {
    let sentinel = client.settings.files.sentinel.as_ref().map(|sentinel| {
        let mut name = name.to_owned();
        name.push(sentinel);
        name
    });
    !is_temporary(name)
        && !is_receipt(name)
        && is_expected(client, name)
        && sentinel.is_none_or(|sentinel| names.contains(&sentinel))
}

/// Whether a file directly in the drop directory goes to this client: it alone claims the name.
fn is_routed_to(config: &Config, client: &Client, name: &OsStr) -> bool {
    let claims = |other: &&Client| !other.apps.is_empty() && other.globs.is_match(name);
    let mut claiming = config.clients.values().filter(claims);
    claiming.next().is_some_and(|first| first.id == client.id) && claiming.next().is_none()
}

/// As its manifest will say: when its status last changed, and not in the future.
fn received_at(status: &FileStatus) -> Timestamp {
    let (second, nanosecond) = status.changed;
    let changed =
        i32::try_from(nanosecond).ok().and_then(|nanosecond| Timestamp::new(second, nanosecond).ok());
    let now = clock::now();
    changed.map_or(now, |changed| changed.min(now))
}

fn staged(layout: &Layout, client: &Client, known: &StagedFiles) -> Result<Vec<Found>, FileError> {
    let mut found = Vec::new();
    for name in files::names(&layout.staging().join(client.id.as_str()))? {
        // Under a hidden name it is on its way in or out, and in no other place.
        let name = name.to_string_lossy();
        let Ok(ingestion) = name.trim_start_matches('.').parse::<IngestionId>() else { continue };
        let key = (client.id.clone(), ingestion);
        let Some(staged) = known
            .get(&key)
            .map(|work| of_manifest(&work.manifest))
            .or_else(|| read_staged(layout, &client.id, ingestion))
        else {
            continue;
        };
        if staged.lane != Lane::Backfill && is_expected(client, staged.file.as_ref()) {
            found.push(Found::Arrived(Arrival {
                received_at: staged.received_at,
                file: staged.file,
                ingestion: Some(ingestion.to_string()),
                state: ArrivedState::Staged,
            }));
        }
    }
    Ok(found)
}

/// `None` if it has ended meanwhile, or is damaged.
fn read_staged(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Option<StagedFile> {
    let manifest = staging::read_manifest(&layout.staged(client, ingestion))
        .or_else(|_| staging::read_manifest(&layout.staged_unpublished(client, ingestion)))
        .ok()?;
    Some(of_manifest(&manifest))
}

fn of_manifest(manifest: &Manifest) -> StagedFile {
    StagedFile { file: manifest.file.clone(), received_at: manifest.received_at, lane: manifest.lane }
}

fn held(layout: &Layout, client: &Client, reasons: &mut KnownReasons) -> Result<Vec<Found>, FileError> {
    let directories = files::list(&layout.held_root().join(client.id.as_str()))?;
    let read = |reason: ReasonFile| {
        is_of_contract(client, &reason).then_some(Found::Arrived(Arrival {
            received_at: reason.received_at,
            file: reason.file,
            ingestion: reason.ingestion,
            state: ArrivedState::Held,
        }))
    };
    Ok(reasons.of(directories, read))
}

fn discarded(
    layout: &Layout,
    client: &Client,
    reasons: &mut KnownReasons,
    since: Timestamp,
) -> Result<Vec<Found>, FileError> {
    let since = since.strftime(NAME_TIME).to_string();
    let mut directories = files::list(&layout.discarded_root().join(client.id.as_str()))?;
    directories
        .retain(|directory| directory.file_name().is_some_and(|name| *name.to_string_lossy() >= *since));
    let text = |reason: String| reason.chars().take(REASON_CHARS_MAX).collect();
    let read = |reason: ReasonFile| {
        is_of_contract(client, &reason).then(|| {
            Found::Discarded(DiscardedArrival {
                file: reason.file,
                received_at: reason.received_at,
                reasons: reason.reasons.into_iter().take(REASONS_MAX).map(text).collect(),
                codes: reason.codes.into_iter().take(REASONS_MAX).collect(),
            })
        })
    };
    Ok(reasons.of(directories, read))
}

/// Why a file is set aside. `None` under a hidden name, which has no reason yet, or if it cannot be read.
fn reason(directory: &Path) -> Option<ReasonFile> {
    let is_hidden = directory.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let json = files::read(&directory.join(ReasonFile::FILE)).ok().filter(|_| !is_hidden)?;
    serde_json::from_slice(&json).ok()
}

fn is_of_contract(client: &Client, reason: &ReasonFile) -> bool {
    let backfill = format!("{}/{}/{}/", Layout::DROP, client.id, Layout::BACKFILL);
    !reason.dropped_at.starts_with(&backfill) && is_expected(client, reason.file.as_ref())
}
