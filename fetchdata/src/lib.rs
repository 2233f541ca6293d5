//! Takes what clients drop into the drop point, and stages it for batch-manager.
//!
//! A file goes through these steps, one module each:
//!
//! 1. [`watch`] wakes, and [`scan`] walks over the drop directory, over each client's folder for itself; [`areas`] knows when;
//!    [`route`] says whose each file is;
//! 2. [`settle`] decides when a file is complete, [`room`] whether there is room for it ([`measure`] looks, [`pause`]
//!    tells); [`intake`] takes a few of them at a time, of each client in turn ([`windows`] moves on behind what fails);
//! 3. [`validate`] inspects kind, name and size, [`split`] the content while it finds the micro-batches; [`inspect`] does
//!    both on one descriptor that nobody else writes to;
//! 4. [`duplicate`] seeks the same content in staging, held and history;
//! 5. [`stage`] makes it visible to batch-manager, [`notify_staged`] tells it;
//! 6. or else [`discard`] puts it aside with all reasons; [`tell`] says so, in a flood once for many.
//!
//! The drop directory is the senders' ground: nothing there is trusted, see [`mysimbdp_spool::drop_directory`].
//! [`waiting`] tells what in it is nobody's or cannot be looked at.
//! [`openers`] knows of a file's writers what the kernel does not tell, [`late`] waits for those of whom nothing is known.
//! [`moves`] takes files from it and gives them back, [`set_aside`] is where some wait in between.
//!
//! A file's state is where it lies, so there is nothing to restore after a crash but what was cut off in between:
//! [`recover`] finishes or undoes it at start.

mod areas;
mod discard;
mod duplicate;
mod inspect;
mod intake;
mod late;
mod measure;
mod moves;
mod names;
mod notify_staged;
mod openers;
mod pause;
mod recover;
mod room;
mod route;
mod scan;
mod set_aside;
mod settle;
mod split;
mod stage;
mod stamp;
mod take;
mod tell;
mod validate;
mod waiting;
mod watch;
mod windows;

use std::path::PathBuf;
use std::sync::Arc;

use mysimbdp_config::Config;
use mysimbdp_config::live::LiveConfig;
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::lock::{Lock, LockError};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath};
use tokio::task::{JoinError, spawn_blocking};

use crate::intake::Intake;
use crate::take::FileIntake;
use crate::watch::Watch;

/// The name under which it locks the drop point and writes its log.
pub const ROLE: &str = "fetchdata";

/// Why fetchdata does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("cannot prepare the directories")]
    Prepare(#[source] FileError),
    #[error("cannot recover what was cut off")]
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

/// Runs until `shutdown` is true (or its sender is gone), then finishes the files in work.
///
/// # Errors
///
/// Another fetchdata works on the same drop point, or the directories cannot be prepared. A file that cannot be taken
/// is no error: it is logged, and tried again.
pub async fn run(
    config: impl Into<LiveConfig>,
    shutdown: tokio::sync::watch::Receiver<bool>,
) -> Result<(), Error> {
    let live = config.into();
    let config = live.running();
    // Before the lock in it, as it is not made as everything else is: others have to get in.
    DropDirectory::make(&config.layout).map_err(Error::Prepare)?;
    let drop_directory = drop_directory(&config);
    let _lock = Lock::take(&drop_directory, ROLE)?;
    let prepared = Arc::clone(&config);
    let originals = spawn_blocking(move || prepare(&prepared)).await.map_err(Error::Crashed)??;
    let watch = Arc::new(Watch::new(areas::watches(&config)));
    let taker = Arc::new(FileIntake::new(Arc::clone(&config), Arc::clone(&watch)));
    taker.recover(originals).await.map_err(Error::Crashed)?;
    tracing::info!(drop_directory = %drop_directory.display(), clients = config.clients.len(), "started");
    announce(&config);
    let ended = Intake::new(live, Arc::clone(&taker), watch).run(shutdown).await;
    taker.close().await;
    withdraw(&config);
    tracing::info!("stopped");
    ended
}

/// Where the lock lies, which does not follow symlinks.
#[expect(clippy::disallowed_methods, reason = "the lock takes a path")]
fn drop_directory(config: &Config) -> PathBuf {
    config.layout.drop_directory()
}

/// Tells who drops files whose are taken.
fn announce(config: &Config) {
    let with_app = config.clients.values().filter(|client| !client.apps.is_empty());
    let clients = with_app.map(|client| client.id.clone()).collect();
    let announced =
        DropDirectory::open(&config.layout).and_then(|drop_directory| drop_directory.announce(clients));
    if let Err(error) = announced {
        let error = mysimbdp_model::error_chain(&error);
        tracing::warn!(error, "`mysimbdp drop` cannot know whose files are taken, it asks its config alone");
    }
}

/// Only tidiness: a process that has ended is not believed.
fn withdraw(config: &Config) {
    let _ = DropDirectory::open(&config.layout).and_then(|drop_directory| drop_directory.withdraw());
}

fn prepare(config: &Config) -> Result<recover::Originals, Error> {
    let drop_directory = DropDirectory::prepare(&config.layout).map_err(Error::Prepare)?;
    make_folders(config, &drop_directory);
    recover::all(&config.layout).map_err(Error::Recover)
}

/// Makes the folders of the clients that have none yet.
fn make_folders(config: &Config, drop_directory: &DropDirectory) {
    for client in config.clients.keys() {
        let made = drop_directory.make_directory(&DropPath::of_client(client, Lane::Backfill));
        let staging = files::create_dir_all(&config.layout.staging().join(client.as_str()));
        // What is wrong with a client's directories stops no other client; the walks try again, and tell.
        if let Err(error) = made.map(|_| ()).and(staging) {
            tracing::warn!(%client, error = mysimbdp_model::error_chain(&error), "client's directories cannot be prepared");
        }
    }
}
