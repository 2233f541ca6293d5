//! Removes what has been in `archive/`, `held/` or `discarded/` for longer than the config, or a person, wants to keep it.
//!
//! Each file that was not ingested is logged as it goes. The history of a held one says `purged` before it goes: a crash in between costs nothing, as
//! the next time begins with the same.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bson::doc;
use jiff::{SignedDuration, Timestamp};
use mysimbdp_core::chain;
use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::io::clock;
use mysimbdp_core::io::coredms::{Coredms, CoredmsError};
use mysimbdp_core::io::files::FileError;
use mysimbdp_core::io::staging;
use mysimbdp_core::layout::Layout;
use mysimbdp_core::outcome::{FinalState, Run};
use mysimbdp_core::units::Period;

use crate::blocking::blocking;
use crate::stores::Stores;

/// Far more often than anybody retries one content.
const RUNS_MAX: i64 = 10_000;

/// Why something is left whose time is up.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] CoredmsError),
}

/// Where a file lies whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Held,
    Discarded,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Discarded => "discarded",
        })
    }
}

/// A file whose time is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    pub kind: Kind,
    /// The client, or `_unrouted`.
    pub owner: String,
    /// An ingestion, or the name of a discarded directory.
    pub id: String,
    directory: PathBuf,
}

/// Removes what the config no longer wants to keep, of all clients. What cannot be removed is left for the next time.
pub(crate) async fn sweep(config: &Arc<Config>, stores: &Stores) {
    let archives = Arc::clone(config);
    blocking(move || sweep_archives(&archives)).await;
    for client in config.clients.values() {
        let Some(kept) = &client.settings.retention else { continue };
        for (kind, age) in [(Kind::Held, kept.held), (Kind::Discarded, kept.discarded)] {
            if let Some(age) = age
                && let Err(error) = sweep_kind(config, stores, &client.id, kind, age).await
            {
                tracing::warn!(client = %client.id, kind = %kind, error = chain(&error), "cannot sweep");
            }
        }
    }
}

async fn sweep_kind(
    config: &Config,
    stores: &Stores,
    client: &ClientId,
    kind: Kind,
    age: Period,
) -> Result<(), RetentionError> {
    // Longer than any clock can tell.
    let Ok(age) = SignedDuration::try_from(age.duration()) else { return Ok(()) };
    let expired = expired(&config.layout, kind, Some(client), age, clock::now())?;
    if expired.is_empty() {
        return Ok(());
    }
    let platform = stores.platform().await?;
    for expired in &expired {
        remove(platform.as_ref(), expired).await?;
    }
    Ok(())
}

fn sweep_archives(config: &Config) {
    for client in config.clients.values() {
        let removed = staging::sweep_removed(&config.layout, &client.id);
        let archived = match client.settings.archive {
            Some(age) => jiff::SignedDuration::try_from(age.duration())
                .map_or(Ok(0), |age| staging::sweep_archive(&config.layout, &client.id, age, clock::now())),
            None => Ok(0),
        };
        match removed.and(archived) {
            Ok(0) => {}
            Ok(count) => tracing::info!(client = %client.id, count, "removed old files from the archive"),
            Err(error) => tracing::warn!(client = %client.id, error = chain(&error), "cannot sweep"),
        }
    }
}

/// What came there longer than `age` ago, of a client or (discarded) of none.
///
/// # Errors
///
/// A directory cannot be listed.
pub fn expired(
    layout: &Layout,
    kind: Kind,
    client: Option<&ClientId>,
    age: SignedDuration,
    now: Timestamp,
) -> Result<Vec<Expired>, FileError> {
    let owner = client.map_or(Layout::UNROUTED, ClientId::as_str);
    let root = match kind {
        Kind::Held => layout.held_root(),
        Kind::Discarded => layout.discarded_root(),
    };
    let came = staging::came_before(&root.join(owner), age, now)?;
    let expired = |(id, directory)| Expired { kind, owner: owner.to_owned(), id, directory };
    Ok(came.into_iter().map(expired).collect())
}

/// Removes it; `platform` is the platform's database.
///
/// # Errors
///
/// The history of a held file cannot be written, or the file not be removed.
pub async fn remove(platform: &dyn Coredms, expired: &Expired) -> Result<(), RetentionError> {
    let Expired { kind, owner, id, directory } = expired;
    if *kind == Kind::Held {
        let held = doc! { "ingestion": id, "client": owner, "state": FinalState::Held.as_str() };
        for mut run in platform.find(Run::COLLECTION, held, RUNS_MAX).await? {
            run.insert("state", FinalState::Purged.as_str());
            platform.put(Run::COLLECTION, run).await?;
        }
    }
    let directory = directory.clone();
    blocking(move || staging::remove_for_good(&directory)).await?;
    tracing::info!(client = owner, id, kind = %kind, "removed a file, its time was up");
    Ok(())
}
