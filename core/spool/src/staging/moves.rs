//! Changes of state: a staged directory is moved to `held/` or `archive/`, back from there, from `held/` to `archive/`, or removed.
//!
//! Each is one rename. Where staging is another file system the directory is copied under a name that begins with a
//! dot, synced, renamed and only then removed here; cut off in between, it is repeated and finds the copy.
//!
//! A hold with its reason, and a retry, are synced: a person reads the one and has asked for the other. The end of an
//! ingestion is not: after a power cut it may be in staging again, its records are found in coredms, and it ends again.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::reason::{Reason, ReasonCode};
use mysimbdp_platform::failpoint;
use mysimbdp_platform::files::{self, FileError};

use super::progress::{self, Progress};
use super::{StagingError, names, read_manifest, write_manifest};
use crate::drop_directory::DropPath;
use crate::replace::Succession;

/// Where a directory that is being removed is put out of sight first, so that nobody sees half of one.
const REMOVED: &str = ".removed-";
/// A copy that is not whole yet.
const COPY: &str = ".copy-";

/// Moves a staged ingestion to `held/`, with the reason. Nothing of it is removed.
///
/// # Errors
///
/// A file cannot be written or moved; it may be called again.
pub fn hold(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    reason: &Reason,
) -> Result<(), StagingError> {
    let staged = layout.staged(client, ingestion);
    let json = serde_json::to_vec_pretty(reason).expect("a reason has no map");
    files::write_durable(&staged.join(Reason::FILE), &json)?;
    files::sync_dir(&staged)?;
    failpoint::hit("staging.hold-explained");
    move_run_durable(&staged, &layout.held(client, ingestion))
}

/// Moves a staged ingestion whose manifest is damaged to `held/`. Returns the reason that it writes, or `None` if the
/// manifest can be read after all.
///
/// # Errors
///
/// As [`hold`].
pub fn hold_unreadable(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    now: Timestamp,
) -> Result<Option<Reason>, StagingError> {
    let staged = layout.staged(client, ingestion);
    let Err(error) = read_manifest(&staged) else { return Ok(None) };
    if !error.is_damaged_manifest() {
        return Err(error);
    }
    let metadata = files::metadata(&staged)?;
    let content = content(&staged)?;
    let todo = match content {
        Some(_) => "a retry drops the file again",
        None => "its parts have to be put together in the order of their names, and dropped again",
    };
    let (file, bytes) = content.unwrap_or_else(|| (ingestion.to_string(), 0));
    let dropped_at = DropPath::of_client(client, Lane::Live).join(file.as_ref());
    let reason = Reason {
        dropped_at: dropped_at.to_string(),
        file,
        client: Some(client.to_string()),
        ingestion: Some(ingestion.to_string()),
        bytes,
        received_at: Timestamp::from_second(metadata.mtime()).unwrap_or(now),
        decided_at: now,
        reasons: vec![format!("{}; {todo}", error_chain(&error))],
        codes: vec![ReasonCode::Damaged],
    };
    hold(layout, client, ingestion, &reason)?;
    Ok(Some(reason))
}

/// Name and size of the staged file; `None` if it was staged in parts.
fn content(staged: &Path) -> Result<Option<(String, u64)>, StagingError> {
    for path in files::list(staged)? {
        let metadata = files::metadata(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if metadata.is_file() && name != Layout::MANIFEST && name != Reason::FILE && !name.starts_with('.') {
            return Ok(Some((name, metadata.len())));
        }
    }
    Ok(None)
}

/// Moves an ingestion that has been finished to `archive/`.
///
/// # Errors
///
/// A file cannot be moved; it may be called again.
pub fn archive(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Result<(), StagingError> {
    move_run(&layout.staged(client, ingestion), &layout.archived(client, ingestion))
}

/// Removes an ingestion that has been finished.
///
/// # Errors
///
/// A file cannot be removed; [`sweep_removed`] removes what is left.
pub fn remove(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Result<(), StagingError> {
    Ok(remove_dir(&layout.staged(client, ingestion))?)
}

/// Removes a directory with all that is in it. It is out of sight at once.
///
/// # Errors
///
/// It cannot be removed; [`sweep_removed`] removes what is left.
pub fn remove_dir(directory: &Path) -> Result<(), FileError> {
    let unseen = hidden(directory, REMOVED);
    if files::exists(&unseen) {
        files::remove_dir_all(&unseen)?;
    }
    files::rename(directory, &unseen)?;
    failpoint::hit("staging.removal-begun");
    files::remove_dir_all(&unseen)
}

/// Removes what a removal that was cut off has left of the client's.
///
/// # Errors
///
/// A directory cannot be listed, or one of them not be removed.
pub fn sweep_removed(layout: &Layout, client: &ClientId) -> Result<(), StagingError> {
    for root in [layout.staging(), layout.archive_root(), layout.held_root(), layout.discarded_root()] {
        for path in files::list(&root.join(client.as_str()))? {
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(REMOVED)) {
                files::remove_dir_all(&path)?;
            }
        }
    }
    Ok(())
}

/// The directories in one of a client's that came there longer than `age` ago, and their names.
///
/// # Errors
///
/// It cannot be listed, or one of them not be looked at.
pub fn came_before(
    directory: &Path,
    age: SignedDuration,
    now: Timestamp,
) -> Result<Vec<(String, PathBuf)>, FileError> {
    let mut found = Vec::new();
    for path in files::list(directory)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // What is hidden is being put together, or removed.
        if name.starts_with('.') {
            continue;
        }
        let metadata = match files::metadata(&path) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => continue,
            found => found?,
        };
        // The status change time: a rename sets it, so it is when the directory came here.
        let since = Timestamp::from_second(metadata.ctime());
        if since.is_ok_and(|since| now.duration_since(since) > age) {
            found.push((name.to_owned(), path));
        }
    }
    Ok(found)
}

/// Returns a held ingestion to staging, in the lane `retry`. Its units' failures are forgotten, their outcomes and
/// baselines stay: what is done is not done again. Only units that have rejected something are, as their app may have been
/// mended; what they have stored is found there.
///
/// # Errors
///
/// It is not held, is staged already, or a file cannot be written or moved.
pub fn retry_held(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Result<(), StagingError> {
    let held = layout.held(client, ingestion);
    let staged = layout.staged(client, ingestion);
    if !files::exists(&held) {
        return Err(StagingError::NotHeld { client: client.clone(), ingestion });
    }
    if files::exists(&staged) {
        return Err(StagingError::AlreadyStaged { client: client.clone(), ingestion });
    }
    let mut manifest = read_manifest(&held)?;
    manifest.lane = Lane::Retry;
    write_manifest(&held, &manifest)?;
    files::sync_dir(&held)?;
    let Progress { attempts, outcomes, .. } = progress::read(&held)?;
    for outcome in outcomes.values().filter(|outcome| outcome.counts.rejected > 0) {
        progress::remove_outcome(&held, outcome.index)?;
    }
    for (index, attempt) in attempts {
        let attempt = progress::Attempt { failures: 0, reason: None, ..attempt };
        progress::write_attempt(&held, index, &attempt)?;
    }
    failpoint::hit("staging.retry-noted");
    move_run_durable(&held, &staged)?;
    failpoint::hit("staging.retry-moved");
    files::remove_file_if_there(&staged.join(Reason::FILE))?;
    Ok(())
}

/// As [`retry_held`], for a held ingestion that was dropped again at this time, and counts from then. All units are run once
/// more: of what they have stored, others may have written a newer version since.
///
/// # Errors
///
/// As [`retry_held`].
pub fn retry_dropped(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    received_at: Timestamp,
) -> Result<(), StagingError> {
    let held = layout.held(client, ingestion);
    let mut manifest = read_manifest(&held)?;
    // Before the new time is there: cut off in between, it is a retry that does more than it must.
    for index in progress::read(&held)?.outcomes.into_keys() {
        progress::remove_outcome(&held, index)?;
    }
    let outcomes = held.join(Layout::OUTCOMES);
    if files::exists(&outcomes) {
        files::sync_dir(&outcomes)?;
    }
    manifest.received_at = manifest.received_at.max(received_at);
    write_manifest(&held, &manifest)?;
    retry_held(layout, client, ingestion)
}

/// Returns a held ingestion to `archive/`, from where a run that replaces had taken it, with the reason why it was held.
///
/// # Errors
///
/// It cannot be moved; it may be called again.
pub fn return_to_archive(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<(), StagingError> {
    move_run_durable(&layout.held(client, ingestion), &layout.archived(client, ingestion))
}

/// Returns an archived ingestion to staging, as a run that replaces what earlier ones have stored. What is known of those is
/// forgotten before: a unit of theirs must not count as done.
///
/// # Errors
///
/// It is not archived, is staged already, or a file cannot be written or moved; it may be called again.
pub fn reprocess(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    times: Succession,
) -> Result<(), StagingError> {
    let archived = layout.archived(client, ingestion);
    let staged = layout.staged(client, ingestion);
    if files::exists(&staged) {
        return Err(StagingError::AlreadyStaged { client: client.clone(), ingestion });
    }
    let mut manifest = read_manifest(&archived)?;
    manifest.replace = true;
    // A receipt goes to where the file was dropped.
    if manifest.lane == Lane::Live {
        manifest.lane = Lane::Retry;
    }
    (manifest.received_at, manifest.staged_at) = (times.received_at, times.staged_at);
    write_manifest(&archived, &manifest)?;
    failpoint::hit("replace.run-noted");
    let outcomes = archived.join(Layout::OUTCOMES);
    if files::exists(&outcomes) {
        files::remove_dir_all(&outcomes)?;
    }
    // It may have been held before.
    files::remove_file_if_there(&archived.join(Reason::FILE))?;
    files::sync_dir(&archived)?;
    failpoint::hit("replace.outcomes-forgotten");
    move_run_durable(&archived, &staged)?;
    failpoint::hit("replace.run-staged");
    Ok(())
}

/// The clients that hold an ingestion of this id; more than one only by a forged directory.
///
/// # Errors
///
/// `held/` cannot be listed.
pub fn find_held(layout: &Layout, ingestion: IngestionId) -> Result<Vec<ClientId>, StagingError> {
    let clients: Vec<ClientId> = names(&layout.held_root())?;
    Ok(clients.into_iter().filter(|client| files::exists(&layout.held(client, ingestion))).collect())
}

/// Why an ingestion is held.
///
/// # Errors
///
/// It is not held, or its reason cannot be read.
pub fn held_reason(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<Reason, StagingError> {
    let path = layout.held(client, ingestion).join(Reason::FILE);
    let json = files::read(&path)?;
    serde_json::from_slice(&json).map_err(|source| StagingError::Json { path, source })
}

fn move_run_durable(from: &Path, to: &Path) -> Result<(), StagingError> {
    move_run(from, to)?;
    for parent in [to, from].into_iter().filter_map(Path::parent) {
        files::sync_dir(parent)?;
    }
    Ok(())
}

fn move_run(from: &Path, to: &Path) -> Result<(), StagingError> {
    if files::exists(to) {
        if is_same_run(from, to) {
            // The copy to another file system had been made; the original was not removed yet.
            return Ok(remove_dir(from)?);
        }
        // Another run of the same content lies there. It is kept, under another name.
        files::rename(to, &beside(to, &format!("-earlier-{:016x}", mysimbdp_platform::random::number())))?;
    }
    if let Some(parent) = to.parent() {
        files::create_dir_all_durable(parent)?;
    }
    match files::rename(from, to) {
        Err(error) if error.is_cross_device() => {}
        other => return Ok(other?),
    }
    let unseen = hidden(to, COPY);
    if files::exists(&unseen) {
        files::remove_dir_all(&unseen)?;
    }
    copy_dir_durable(from, &unseen)?;
    failpoint::hit("staging.run-copied");
    files::rename(&unseen, to)?;
    failpoint::hit("staging.copy-shown");
    if let Some(parent) = to.parent() {
        files::sync_dir(parent)?;
    }
    Ok(remove_dir(from)?)
}

fn is_same_run(one: &Path, other: &Path) -> bool {
    let run = |directory| read_manifest(directory).ok().map(|found| (found.ingestion, found.staged_at));
    run(one).is_some_and(|found| run(other) == Some(found))
}

fn copy_dir_durable(from: &Path, to: &Path) -> Result<(), FileError> {
    files::create_dir_all(to)?;
    for path in files::list(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        let metadata = files::metadata(&path)?;
        if metadata.is_dir() {
            copy_dir_durable(&path, &target)?;
        } else {
            files::copy_range_durable(&files::open(&path)?, 0, metadata.len(), &target)?;
        }
    }
    files::sync_dir(to)
}

fn hidden(path: &Path, prefix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(prefix);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}
