//! Removes files that have been in `archive/`, `held/` or `discarded/` for longer than the config allows, or than a
//! person asks (`mysimbdp purge`).
//!
//! A held file whose run was to replace what an earlier one has stored is returned to the archive, not removed, if its
//! client has one: `reprocess` had taken it from there, and it may be the only copy of what is stored.
//!
//! The removal of each file that was not ingested is logged. The history of a held file says `purged` before the file
//! is removed or returned: a crash in between costs nothing, as the next sweep repeats both steps.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_spool::staging::{self, StagingError};
use mysimbdp_store::CoredmsError;
use mysimbdp_store::history::History;

use crate::blocking::blocking;
use crate::stores::Stores;

/// Why an expired file could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error(transparent)]
    Store(#[from] CoredmsError),
}

/// Where an expired file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiredKind {
    Archived,
    Held,
    Discarded,
}

impl fmt::Display for ExpiredKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Archived => "archived",
            Self::Held => "held",
            Self::Discarded => "discarded",
        })
    }
}

/// A file that has been kept long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    pub kind: ExpiredKind,
    /// The client, or `_unrouted`.
    pub owner: String,
    /// An ingestion, or the name of a discarded directory.
    pub id: String,
    directory: PathBuf,
    /// The client and the ingestion of a held file that returns to the archive.
    returns: Option<(ClientId, IngestionId)>,
}

impl Expired {
    /// Whether the file is returned to the archive instead of removed.
    pub fn returns(&self) -> bool {
        self.returns.is_some()
    }
}

/// Removes the expired files of all clients. The next sweep tries again what cannot be removed.
pub(crate) async fn sweep(config: &Arc<Config>, stores: &Stores) {
    for client in config.clients.values() {
        let (layout, id) = (config.layout.clone(), client.id.clone());
        if let Err(error) = blocking(move || staging::sweep_removed(&layout, &id)).await {
            tracing::warn!(client = %client.id, error = error_chain(&error), "cannot sweep");
        }
        let kept = client.settings.retention.as_ref();
        let ages = [
            (ExpiredKind::Archived, client.settings.archive),
            (ExpiredKind::Held, kept.and_then(|kept| kept.held)),
            (ExpiredKind::Discarded, kept.and_then(|kept| kept.discarded)),
        ];
        for (kind, age) in ages {
            let Some(age) = age else { continue };
            if let Err(error) = sweep_kind(config, stores, &client.id, kind, age.duration()).await {
                tracing::warn!(client = %client.id, kind = %kind, error = error_chain(&error), "cannot sweep");
            }
        }
    }
}

async fn sweep_kind(
    config: &Arc<Config>,
    stores: &Stores,
    client: &ClientId,
    kind: ExpiredKind,
    age: Duration,
) -> Result<(), RetentionError> {
    let (shared, owner) = (Arc::clone(config), client.clone());
    let expired = blocking(move || expired(&shared, kind, Some(&owner), age, clock::now())).await?;
    // Only held files need the store: others are removed even while it is unavailable.
    if kind == ExpiredKind::Held && !expired.is_empty() {
        mark_purged(&stores.history().await?, &expired).await?;
    }
    for expired in &expired {
        remove(&config.layout, expired).await?;
    }
    if kind == ExpiredKind::Archived && !expired.is_empty() {
        tracing::info!(client = %client, count = expired.len(), "removed old files from the archive");
    }
    Ok(())
}

/// Returns the files of this kind that arrived longer than `age` ago, of a client or (discarded) of none.
///
/// # Errors
///
/// A directory cannot be listed.
pub fn expired(
    config: &Config,
    kind: ExpiredKind,
    client: Option<&ClientId>,
    age: Duration,
    now: Timestamp,
) -> Result<Vec<Expired>, FileError> {
    // The age is longer than any clock can measure.
    let Ok(age) = SignedDuration::try_from(age) else { return Ok(Vec::new()) };
    let layout = &config.layout;
    let owner = client.map_or(Layout::UNROUTED, ClientId::as_str);
    let root = match kind {
        ExpiredKind::Archived => layout.archive_root(),
        ExpiredKind::Held => layout.held_root(),
        ExpiredKind::Discarded => layout.discarded_root(),
    };
    let arrived = staging::moved_before(&root.join(owner), age, now)?;
    let expired = |(id, directory): (String, PathBuf)| {
        let returns =
            client.filter(|_| kind == ExpiredKind::Held).and_then(|client| returns(config, client, &id));
        Expired { kind, owner: owner.to_owned(), id, directory, returns }
    };
    Ok(arrived.into_iter().map(expired).collect())
}

/// Returns the ingestion of a held directory if its run replaces and the archive has no other copy.
fn returns(config: &Config, client: &ClientId, id: &str) -> Option<(ClientId, IngestionId)> {
    config.client(client)?.settings.archive?;
    let ingestion = id.parse().ok()?;
    let replaces = staging::read_manifest(&config.layout.held(client, ingestion)).ok()?.replace;
    let is_only = !files::exists(&config.layout.archived(client, ingestion));
    (replaces && is_only).then(|| (client.clone(), ingestion))
}

/// Marks the held files among these as purged in the history, also those that return to the archive: they are no longer
/// held either.
///
/// # Errors
///
/// The history cannot be written.
pub async fn mark_purged(history: &History, expired: &[Expired]) -> Result<(), CoredmsError> {
    for Expired { id, owner, .. } in expired.iter().filter(|expired| expired.kind == ExpiredKind::Held) {
        history.mark_purged(owner, id).await?;
    }
    Ok(())
}

/// Removes the file, or returns it to the archive. Call [`mark_purged`] first for a held one.
///
/// # Errors
///
/// A file cannot be removed or moved.
pub async fn remove(layout: &Layout, expired: &Expired) -> Result<(), StagingError> {
    let Expired { kind, owner, id, directory, returns } = expired;
    if let Some((client, ingestion)) = returns.clone() {
        let layout = layout.clone();
        blocking(move || staging::return_to_archive(&layout, &client, ingestion)).await?;
        tracing::info!(client = owner, id, "returned a held file to the archive");
        return Ok(());
    }
    let directory = directory.clone();
    blocking(move || staging::remove_dir(&directory)).await?;
    // An archived file was ingested, so the history has it.
    if *kind != ExpiredKind::Archived {
        tracing::info!(client = owner, id, kind = %kind, "removed a file");
    }
    Ok(())
}
