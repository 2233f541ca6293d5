//! Starts, stops, watches and scales the clients' stream apps.
//!
//! A reconcile loop: each pass looks at everything, decides purely, and does what is due. Messages, requests and ended
//! processes only make it look sooner.
//!
//! 1. [`instances`]: what an earlier manager left running is found again, and adopted;
//! 2. [`prepare`]: collections, and the session of a stream that may have no instance;
//! 3. [`observe`]: reports and requests arrive; [`load`] sums the reports up;
//! 4. [`scaling`]: how many instances should there be? (pure)
//! 5. [`plan`]: what has to be done in which [`slot`] for that? (pure)
//! 6. [`spawn`]: instances are started, signalled, and started again with back-off;
//! 7. [`control`]: what a person asks for goes before what the policy decides.
//!
//! **Instances outlive the manager** when it is killed: the next one adopts them by pid and start time. When it is
//! *told* to stop, by Ctrl-C or SIGTERM, it stops them all, because then a person means everything; their sessions
//! stay, so that the broker goes on queuing until they are started again.

// The map above names the private modules too.
#![allow(rustdoc::private_intra_doc_links)]

pub mod control;
pub mod instances;
pub mod key;
pub mod load;
mod logs;
mod manager;
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
use mysimbdp_platform::socket::{Listener, SocketError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::manager::Manager;

/// Requests between the socket and the loop; those who ask more wait.
const CALLS_MAX: usize = 64;

/// Why the manager cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("state directory cannot be used")]
    State(#[from] FileError),
    #[error("no requests can be taken")]
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
/// Another manager runs on this data root, or its `state/` cannot be used.
pub async fn run(config: impl Into<LiveConfig>, shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let live = config.into();
    let (config, followed) = (live.running(), live.follow());
    let _lock = Lock::take(&config.layout.state(), "stream-manager")?;
    let listener = Listener::bind(&config.layout.stream_manager_socket())?;
    let mut manager = Manager::start(live).await?;
    let (calls, incoming) = mpsc::channel(CALLS_MAX);
    // Ended by the end of this function, whichever it is.
    let mut beside = JoinSet::new();
    beside.spawn(control::socket::serve(listener, calls));
    beside.spawn(logs::rotate(followed));
    tracing::info!(streams = manager.streams(), "stream-manager at work");
    manager.work(incoming, shutdown).await;
    beside.shutdown().await;
    manager.stop_all().await;
    tracing::info!("stream-manager ended");
    Ok(())
}
