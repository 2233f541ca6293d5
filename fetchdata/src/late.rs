//! Originals of files that a writer may still have open.
//!
//! If the kernel does not tell and no writer was seen to close a file, it settles for long before a copy of it is
//! staged. Its original then waits in the platform's own directory, beside a record of its identity at that time. If
//! it changes, its writer was not done: it goes to `held/`, for a person to look at. One that has not changed for
//! [`KEPT_FOR`] is removed.

use std::io::Read;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::outcome::FinalState;
use mysimbdp_model::reason::{ReasonCode, ReasonFile};
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::{clock, failpoint};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath, Existing};
use mysimbdp_spool::staging;
use mysimbdp_telemetry::metrics::metrics;
use serde::{Deserialize, Serialize};

use crate::file_identity::FileIdentity;
use crate::names;
use crate::openers::ClosedEvidence;
use crate::set_aside::{self, SetAside, key};

const RECORD_BYTES_MAX: u64 = 64 << 10;

/// Within two hours TCP tells the server that receives an upload that its connection is dead; the server then closes
/// the file.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(3);
/// At most this often; the check is part of the surveys.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// An original at the time when its copy was made.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    client: ClientId,
    ingestion: IngestionId,
    /// The path where it was dropped, for people.
    #[serde(rename = "dropped_at")]
    dropped_path: String,
    #[serde(rename = "stamp")]
    identity: FileIdentity,
    taken_at: Timestamp,
}

/// The result of setting an original aside.
#[derive(Debug)]
pub(crate) enum SetAsideResult {
    Done(SetAside),
    /// It must be scanned again: another file has taken its place, or an earlier original with this key was still
    /// waiting and is back now.
    Changed,
    /// An earlier original of the same content still waits for its writer.
    Occupied,
}

/// Sets the original of a file aside. If it is not known to be closed, it stays there after its copy is made.
pub(crate) fn set_aside(
    drop_directory: &DropDirectory,
    closed: ClosedEvidence,
    (client, ingestion): (&ClientId, IngestionId),
    path: &DropPath,
    identity: &FileIdentity,
) -> Result<SetAsideResult, FileError> {
    let key = match closed {
        ClosedEvidence::KernelOrSender | ClosedEvidence::Events => ingestion.to_string(),
        ClosedEvidence::SettledLonger => {
            let key = key::of_late(ingestion);
            if set_aside::is_occupied(drop_directory, &key)? {
                return Ok(SetAsideResult::Occupied);
            }
            let platform_directory = drop_directory.platform_directory()?;
            let record = Record {
                client: client.clone(),
                ingestion,
                dropped_path: path.to_string(),
                identity: *identity,
                taken_at: clock::now(),
            };
            let json = serde_json::to_vec(&record).expect("a record has no map");
            platform_directory.write(
                format!("{key}.tmp").as_ref(),
                &json,
                &platform_directory,
                key::record_name(&key).as_ref(),
            )?;
            failpoint::hit("late.recorded");
            key
        }
    };
    let set_aside = set_aside::set_aside(drop_directory, path, &key, identity);
    match set_aside {
        Ok(Some(original)) => Ok(SetAsideResult::Done(original)),
        Ok(None) | Err(_) => {
            key::forget(drop_directory, &key)?;
            set_aside.map(|_| SetAsideResult::Changed)
        }
    }
}

/// Removes the records of originals that were never set aside because fetchdata died in between. Only for its start.
pub(crate) fn forget_orphans(drop_directory: &DropDirectory) -> Result<(), FileError> {
    for name in drop_directory.platform_directory()?.names()? {
        let key = name.to_str().and_then(|name| name.strip_suffix(key::RECORD_SUFFIX));
        if let Some(key) = key.filter(|key| key::is_late(key))
            && !set_aside::is_occupied(drop_directory, key)?
        {
            key::forget(drop_directory, key)?;
        }
    }
    Ok(())
}

/// Checks the late originals from time to time.
#[derive(Debug, Default)]
pub(crate) struct LateOriginals {
    checked_at: Option<Instant>,
}

impl LateOriginals {
    /// Holds originals that have changed, and removes those that have waited long enough. Blocks.
    pub(crate) fn check(&mut self, layout: &Layout) {
        if self.checked_at.is_some_and(|checked_at| checked_at.elapsed() < CHECK_EVERY) {
            return;
        }
        self.checked_at = Some(Instant::now());
        let checked = DropDirectory::open(layout).and_then(|drop_directory| {
            let found = set_aside::find(&drop_directory)?;
            for (key, original) in found.iter().filter(|(key, _)| key::is_late(key)) {
                if let Err(error) = check_original(layout, &drop_directory, key, original) {
                    let error = mysimbdp_model::error_chain(&error);
                    tracing::warn!(key, error, "an original cannot be checked, it stays where it is");
                }
            }
            Ok(())
        });
        if let Err(error) = checked {
            tracing::warn!(error = mysimbdp_model::error_chain(&error), "originals cannot be checked");
        }
    }
}

fn check_original(
    layout: &Layout,
    drop_directory: &DropDirectory,
    key: &str,
    original: &SetAside,
) -> Result<(), FileError> {
    let record = read(drop_directory, key)?;
    let mut held = false;
    original.each_file(drop_directory, &mut |directory, name, path| {
        let now = FileIdentity::of(&directory.status(name)?);
        if !now.is_same_content(&record.identity) {
            hold(layout, directory, &path, &record, &now)?;
            held = true;
        }
        Ok(())
    })?;
    let age = clock::now().duration_since(record.taken_at);
    if held || age > KEPT_FOR {
        original.remove(drop_directory)?;
    }
    Ok(())
}

fn read(drop_directory: &DropDirectory, key: &str) -> Result<Record, FileError> {
    let name = key::record_name(key);
    let error = |source| FileError { action: "read", path: name.clone().into(), source };
    let mut json = Vec::new();
    let file = drop_directory.platform_directory()?.open(name.as_ref())?;
    file.take(RECORD_BYTES_MAX).read_to_end(&mut json).map_err(error)?;
    serde_json::from_slice(&json).map_err(|source| error(source.into()))
}

/// Moves the file itself, so that a writer that has it open still writes to it. It may be repeated.
fn hold(
    layout: &Layout,
    from: &Directory,
    path: &DropPath,
    record: &Record,
    now: &FileIdentity,
) -> Result<(), FileError> {
    let Record { client, ingestion, dropped_path, identity, taken_at } = record;
    let directory = staging::held_late(layout, client, *ingestion, now.inode);
    files::create_dir_all(&directory)?;
    let file = names::safe(path.name());
    let why = format!(
        "changed after it was taken, as its writer still had it open: of its {} bytes (or more by now) {} were taken as ingestion \
         {ingestion}; drop the missing part, or the whole file if its app has \"key\" ids",
        now.bytes, identity.bytes
    );
    let reason = ReasonFile {
        file: file.clone(),
        client: Some(client.to_string()),
        ingestion: Some(ingestion.to_string()),
        dropped_at: dropped_path.clone(),
        bytes: now.bytes,
        received_at: *taken_at,
        decided_at: clock::now(),
        reasons: vec![why.clone()],
        codes: vec![ReasonCode::ChangedLater],
    };
    let json = serde_json::to_vec_pretty(&reason).expect("a reason has no map");
    files::write_durable(&directory.join(ReasonFile::FILE), &json)?;
    failpoint::hit("late.explained");
    let to = Directory::open_platform(&directory)?;
    from.rename(path.name(), &to, file.as_ref(), Existing::Replace)?;
    to.sync()?;
    failpoint::hit("late.held");
    metrics().file_ended(client.as_str(), FinalState::Held, Some(ReasonCode::ChangedLater), now.bytes);
    tracing::error!(%client, %ingestion, file, reason = why, "held");
    Ok(())
}
