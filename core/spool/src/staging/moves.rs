//! Changes of state: a staged directory is moved to `held/` or `archive/`, back from there, from `held/` to `archive/`, or removed.
//!
//! Each is one rename. If staging is on another file system, the directory is copied under a name that begins with a dot,
//! synced, renamed, and only then removed here; if this is interrupted, it is repeated and finds the copy.
//!
//! A hold with its reason, and a retry, are synced: a person reads the former and has requested the latter. The end of an
//! ingestion is not: after a power cut it may be in staging again; then its records are found in coredms, and it ends again.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::reason::{ReasonCode, ReasonFile};
use mysimbdp_platform::failpoint;
use mysimbdp_platform::files::{self, FileError};

use super::progress::{self, Progress};
use super::{StagingError, names, read_manifest, write_manifest};
use crate::drop_directory::DropPath;
use crate::replace::ReplacementTimes;

/// Prefix of the name that a directory gets before it is removed, so that a partial one is never listed.
const REMOVED: &str = ".removed-";
/// Prefix of the name of a copy that is not complete yet.
const COPY: &str = ".copy-";

/// Moves a staged ingestion to `held/`, with the reason. Nothing of it is removed.
///
/// # Errors
///
/// A file cannot be written or moved; the call may be repeated.
pub fn hold(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    reason: &ReasonFile,
) -> Result<(), StagingError> {
    let staged = layout.staged(client, ingestion);
    let json = serde_json::to_vec_pretty(reason).expect("a reason has no map");
    files::write_durable(&staged.join(ReasonFile::FILE), &json)?;
    files::sync_dir(&staged)?;
    failpoint::hit("staging.hold-explained");
    move_run_durable(&staged, &layout.held(client, ingestion))
}

/// Moves a staged ingestion with a damaged manifest to `held/`. Returns the reason that it writes, or `None` if the manifest
/// can be read after all.
///
/// # Errors
///
/// As [`hold`].
pub fn hold_unreadable(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    now: Timestamp,
) -> Result<Option<ReasonFile>, StagingError> {
    let staged = layout.staged(client, ingestion);
    let Err(error) = read_manifest(&staged) else { return Ok(None) };
    if !error.is_damaged_manifest() {
        return Err(error);
    }
    let metadata = files::metadata(&staged)?;
    let content = content(&staged)?;
    let todo = match content {
        Some(_) => "a retry drops the file again",
        None => "concatenate its parts in the order of their names, and drop the result again",
    };
    let (file, bytes) = content.unwrap_or_else(|| (ingestion.to_string(), 0));
    let dropped_at = DropPath::of_client(client, Lane::Live).join(file.as_ref());
    let reason = ReasonFile {
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
        if metadata.is_file()
            && name != Layout::MANIFEST
            && name != ReasonFile::FILE
            && !name.starts_with('.')
        {
            return Ok(Some((name, metadata.len())));
        }
    }
    Ok(None)
}

/// Moves a finished ingestion to `archive/`.
///
/// # Errors
///
/// A file cannot be moved; the call may be repeated.
pub fn archive(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Result<(), StagingError> {
    move_run(&layout.staged(client, ingestion), &layout.archived(client, ingestion))
}

/// Removes a finished ingestion.
///
/// # Errors
///
/// A file cannot be removed; [`sweep_removed`] removes the remainder.
pub fn remove(layout: &Layout, client: &ClientId, ingestion: IngestionId) -> Result<(), StagingError> {
    Ok(remove_dir(&layout.staged(client, ingestion))?)
}

/// Removes a directory with all of its contents. It is renamed first, so that it is no longer listed.
///
/// # Errors
///
/// It cannot be removed; [`sweep_removed`] removes the remainder.
pub fn remove_dir(directory: &Path) -> Result<(), FileError> {
    let removed = with_prefix(directory, REMOVED);
    if files::exists(&removed) {
        files::remove_dir_all(&removed)?;
    }
    files::rename(directory, &removed)?;
    failpoint::hit("staging.removal-begun");
    files::remove_dir_all(&removed)
}

/// Removes what interrupted removals have left of the client's directories.
///
/// # Errors
///
/// A directory cannot be listed, or one of them cannot be removed.
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

/// The directories that were moved into one of a client's directories longer than `age` ago, with their names.
///
/// # Errors
///
/// It cannot be listed, or the metadata of an entry cannot be read.
pub fn moved_before(
    directory: &Path,
    age: SignedDuration,
    now: Timestamp,
) -> Result<Vec<(String, PathBuf)>, FileError> {
    let mut found = Vec::new();
    for path in files::list(directory)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // A name that begins with a dot is being written, or removed.
        if name.starts_with('.') {
            continue;
        }
        let metadata = match files::metadata(&path) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => continue,
            found => found?,
        };
        // The status change time: a rename sets it, so it is the time when the directory was moved here.
        let since = Timestamp::from_second(metadata.ctime());
        if since.is_ok_and(|since| now.duration_since(since) > age) {
            found.push((name.to_owned(), path));
        }
    }
    Ok(found)
}

/// Returns a held ingestion to staging, in the lane `retry`. The failures of its units are reset, their outcomes and
/// baselines stay: units that are done are not run again. The exception are units that have rejected records, as their app
/// may have been repaired; what they have stored is found in coredms.
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
    files::remove_file_if_exists(&staged.join(ReasonFile::FILE))?;
    Ok(())
}

/// Like [`retry_held`], for a held ingestion that was dropped again, and counts as received at `received_at`. All units are run
/// again: others may have written newer versions of the documents that they have stored.
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
    // Before the new time is written: if this is interrupted in between, the retry only does more than it must.
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

/// Returns a held ingestion to `archive/`, from which a replacing run had taken it, with the reason why it was held.
///
/// # Errors
///
/// It cannot be moved; the call may be repeated.
pub fn return_to_archive(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<(), StagingError> {
    move_run_durable(&layout.held(client, ingestion), &layout.archived(client, ingestion))
}

/// Returns an archived ingestion to staging, as a run that replaces what earlier ones have stored. The outcomes of those are
/// removed before: none of their units must count as done.
///
/// # Errors
///
/// It is not archived, is staged already, or a file cannot be written or moved; the call may be repeated.
pub fn reprocess(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
    times: ReplacementTimes,
) -> Result<(), StagingError> {
    let archived = layout.archived(client, ingestion);
    let staged = layout.staged(client, ingestion);
    if files::exists(&staged) {
        return Err(StagingError::AlreadyStaged { client: client.clone(), ingestion });
    }
    let mut manifest = read_manifest(&archived)?;
    manifest.replace = true;
    // The lane `backfill` stays, as a receipt is written to the folder in which the file was dropped.
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
    // Left if the ingestion was held before.
    files::remove_file_if_exists(&archived.join(ReasonFile::FILE))?;
    files::sync_dir(&archived)?;
    failpoint::hit("replace.outcomes-forgotten");
    move_run_durable(&archived, &staged)?;
    failpoint::hit("replace.run-staged");
    Ok(())
}

/// The clients that have a held ingestion of this id; more than one only if a directory is invalid.
///
/// # Errors
///
/// `held/` cannot be listed.
pub fn find_held(layout: &Layout, ingestion: IngestionId) -> Result<Vec<ClientId>, StagingError> {
    let clients: Vec<ClientId> = names(&layout.held_root())?;
    Ok(clients.into_iter().filter(|client| files::exists(&layout.held(client, ingestion))).collect())
}

/// Reads the reason why an ingestion is held.
///
/// # Errors
///
/// It is not held, or its reason cannot be read.
pub fn held_reason(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<ReasonFile, StagingError> {
    let path = layout.held(client, ingestion).join(ReasonFile::FILE);
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
            // An interrupted move to another file system: the copy is complete, the original was not removed yet.
            return Ok(remove_dir(from)?);
        }
        // This is another run of the same content. It is kept, under another name.
        files::rename(
            to,
            &with_suffix(to, &format!("-earlier-{:016x}", mysimbdp_platform::random::number())),
        )?;
    }
    if let Some(parent) = to.parent() {
        files::create_dir_all_durable(parent)?;
    }
    match files::rename(from, to) {
        Err(error) if error.is_cross_device() => {}
        other => return Ok(other?),
    }
    let copy = with_prefix(to, COPY);
    if files::exists(&copy) {
        files::remove_dir_all(&copy)?;
    }
    copy_dir_durable(from, &copy)?;
    failpoint::hit("staging.run-copied");
    files::rename(&copy, to)?;
    failpoint::hit("staging.copy-published");
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

fn with_prefix(path: &Path, prefix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(prefix);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}
