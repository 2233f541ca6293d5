//! Starts, stops, monitors and scales the clients' stream apps.
//!
//! A reconcile loop: each pass reads the whole state, decides purely, and does what is due. Messages, requests and
//! ended processes only make the next pass come sooner.
//!
//! 1. [`manager`]: the loop itself; it adopts the instances of an earlier manager, and executes what is planned;
//! 2. [`instances`]: the state files that survive the manager, by which the next one finds the instances;
//! 3. [`prepare`]: the collections of a stream are created, and a session if the stream has no instance yet;
//! 4. [`observe`]: reports and requests are received; [`load`] sums up the reports;
//! 5. [`scaling`]: how many instances should there be? (pure)
//! 6. [`plan`]: which actions in which [`slot`] does that take? (pure)
//! 7. [`spawn`]: instances are started, signalled, and restarted with back-off;
//! 8. [`control`]: a person's request takes precedence over the policy's decision.
//!
//! **Instances outlive the manager** if it is killed: the next one adopts them by pid and start time. If the manager is
//! *asked* to stop, by Ctrl-C or SIGTERM, it stops all instances, because a person who does that means all of them.
//! Their sessions remain, so that the broker keeps queuing until they are started again.

// The list above links to private modules too.
#![allow(rustdoc::private_intra_doc_links)]

pub mod control;
mod decisions;
pub mod instances;
pub mod key;
pub mod load;
mod logs;
mod manager;
mod metrics;
mod observe;
pub mod plan;
mod prepare;
pub mod scaling;
pub mod slot;
mod spawn;

use mysimbdp_config::live::LiveConfig;
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_platform::files::FileError;
use mysimbdp_platform::lock::{Lock, LockError};
use mysimbdp_platform::socket::{SocketError, SocketListener};
use mysimbdp_telemetry::metrics::Endpoint;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::manager::Manager;

/// Requests queued between the socket and the loop; further callers wait.
const CALLS_MAX: usize = 64;

/// Why the manager cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("cannot use the state directory")]
    State(#[from] FileError),
    #[error("cannot accept requests")]
    Socket(#[from] SocketError),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lock(LockError::Held { .. }) => ErrorKind::NotPermitted,
            Self::Lock(LockError::Io { .. }) | Self::State(_) | Self::Socket(_) => ErrorKind::Io,
        }
    }
}

/// Runs the manager until `shutdown` is true, and then stops all instances within `stop_grace`.
///
/// # Errors
///
/// If another manager runs on this data root, or its `state/` cannot be used.
pub async fn run(config: impl Into<LiveConfig>, shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let live = config.into();
    let (config, followed) = (live.running(), live.follow());
    let _lock = Lock::take(&config.layout.state(), "stream-manager")?;
    let _endpoint = Endpoint::start(&config.layout, "stream-manager");
    let listener = SocketListener::bind(&config.layout.stream_manager_socket())?;
    let mut manager = Manager::start(live).await?;
    let (calls, incoming) = mpsc::channel(CALLS_MAX);
    // Dropping it ends these tasks, whichever way this function ends.
    let mut background = JoinSet::new();
    background.spawn(control::socket::serve(listener, calls));
    background.spawn(logs::rotate(followed));
    tracing::info!(streams = manager.streams(), "stream-manager started");
    manager.work(incoming, shutdown).await;
    background.shutdown().await;
    manager.stop_all().await;
    tracing::info!("stream-manager ended");
    Ok(())
}
