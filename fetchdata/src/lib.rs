//! Takes the files that clients drop into the drop directory and stages them for batch-manager.
//!
//! A file goes through these steps, one module each:
//!
//! 1. [`watch`] wakes the intake, and [`scan`] walks over the drop directory, one area at a time; [`areas`] decides
//!    when, [`route`] which client a file belongs to;
//! 2. [`settle`] decides when a file is complete, [`admission`] whether there is capacity for it ([`disk_usage`]
//!    measures, [`intake_status`] reports); [`intake`] processes a few files at a time, from each client in turn
//!    ([`scan_windows`] moves on past files that keep failing);
//! 3. [`validate`] inspects kind, name and size, [`split`] the content while it finds the micro-batches; [`inspect`]
//!    does both on one file descriptor that nobody else writes to;
//! 4. [`duplicate`] looks up the same content in staging, in `held/` and in the history;
//! 5. [`stage`] publishes the file to batch-manager, [`notify_staged`] notifies it;
//! 6. or [`discard`] puts it aside with all reasons, and [`burst_log`] logs it, once for many files in a burst.
//!
//! Senders own the drop directory, so nothing in it is trusted: see [`mysimbdp_spool::drop_directory`].
//! [`scan_status`] reports what in it belongs to no client or cannot be scanned. [`openers`] tracks who has a file
//! open if the kernel does not tell; [`late`] handles files whose writers are unknown. [`moves`] moves files out of
//! the drop directory and back into it; [`set_aside`] keeps originals while their copies are being published.
//!
//! The state of a file is its location, so after a crash only interrupted steps need recovery: [`recover`] finishes
//! or undoes them at start.

mod admission;
mod areas;
mod burst_log;
mod discard;
mod disk_usage;
mod duplicate;
mod file_identity;
mod file_intake;
mod inspect;
mod intake;
mod intake_status;
mod late;
mod moves;
mod names;
mod notify_staged;
mod openers;
mod recover;
mod route;
mod scan;
mod scan_status;
mod scan_windows;
mod set_aside;
mod settle;
mod split;
mod stage;
mod validate;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use mysimbdp_config::Config;
use mysimbdp_config::live::LiveConfig;
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::lock::{Lock, LockError};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath};
use mysimbdp_telemetry::metrics::Endpoint;
use tokio::task::{JoinError, spawn_blocking};

use crate::file_intake::FileIntake;
use crate::intake::Intake;
use crate::watch::Watch;

/// The name under which fetchdata locks the drop directory and writes its log.
pub const PROCESS_NAME: &str = "fetchdata";

/// Why fetchdata did not start, or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("cannot prepare the directories")]
    Prepare(#[source] FileError),
    #[error("cannot recover interrupted steps")]
    Recover(#[source] FileError),
    #[error("a task has crashed")]
    Crashed(#[source] JoinError),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lock(LockError::Held { .. }) => ErrorKind::NotPermitted,
            Self::Lock(LockError::Io { .. }) | Self::Prepare(_) | Self::Recover(_) => ErrorKind::Io,
            Self::Crashed(_) => ErrorKind::Internal,
        }
    }
}

/// Runs until `shutdown` is true (or its sender is dropped), then finishes the files in progress.
///
/// # Errors
///
/// Another fetchdata works on the same drop directory, or the directories cannot be prepared. A file that cannot be
/// processed is not an error: it is logged and tried again.
pub async fn run(
    config: impl Into<LiveConfig>,
    shutdown: tokio::sync::watch::Receiver<bool>,
) -> Result<(), Error> {
    let live = config.into();
    let config = live.running();
    // Before the lock in it: unlike other directories it is made so that other users can enter it.
    DropDirectory::open_or_create(&config.layout).map_err(Error::Prepare)?;
    let drop_directory = drop_directory(&config);
    let _lock = Lock::take(&drop_directory, PROCESS_NAME)?;
    let _endpoint = Endpoint::start(&config.layout, PROCESS_NAME);
    let prepared = Arc::clone(&config);
    let originals = spawn_blocking(move || prepare(&prepared)).await.map_err(Error::Crashed)??;
    let watch = Arc::new(Watch::new(areas::watches(&config)));
    let file_intake = Arc::new(FileIntake::new(Arc::clone(&config), Arc::clone(&watch)));
    file_intake.recover(originals).await.map_err(Error::Crashed)?;
    tracing::info!(drop_directory = %drop_directory.display(), clients = config.clients.len(), "started");
    announce(&config);
    let ended = Intake::new(live, Arc::clone(&file_intake), watch).run(shutdown).await;
    file_intake.close().await;
    withdraw(&config);
    tracing::info!("stopped");
    ended
}

/// The path of the lock, which does not follow symlinks.
#[expect(clippy::disallowed_methods, reason = "the lock takes a path")]
fn drop_directory(config: &Config) -> PathBuf {
    config.layout.drop_directory()
}

/// Announces to those who drop files which clients have an app.
fn announce(config: &Config) {
    let with_app = config.clients.values().filter(|client| !client.apps.is_empty());
    let clients = with_app.map(|client| client.id.clone()).collect();
    let announced =
        DropDirectory::open(&config.layout).and_then(|drop_directory| drop_directory.announce(clients));
    if let Err(error) = announced {
        let error = mysimbdp_model::error_chain(&error);
        tracing::warn!(
            error,
            "cannot announce which clients have an app, `mysimbdp drop` falls back to its own config"
        );
    }
}

/// Only for tidiness: nobody trusts the announcement of a process that has ended.
fn withdraw(config: &Config) {
    let _ = DropDirectory::open(&config.layout).and_then(|drop_directory| drop_directory.withdraw());
}

fn prepare(config: &Config) -> Result<recover::Originals, Error> {
    let drop_directory = DropDirectory::prepare(&config.layout).map_err(Error::Prepare)?;
    make_folders(config, &drop_directory);
    recover::all(&config.layout).map_err(Error::Recover)
}

/// Makes the missing folders of clients.
fn make_folders(config: &Config, drop_directory: &DropDirectory) {
    for client in config.clients.keys() {
        let made = drop_directory.open_or_create_directory(&DropPath::of_client(client, Lane::Backfill));
        let staging = files::create_dir_all(&config.layout.staging().join(client.as_str()));
        // A fault in one client's directories stops no other client; the walks try again and report it.
        if let Err(error) = made.map(|_| ()).and(staging) {
            tracing::warn!(%client, error = mysimbdp_model::error_chain(&error), "client's directories cannot be prepared");
        }
    }
}
