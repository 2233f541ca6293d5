//! Observes staged work, plans it, and runs the clients' batch apps.
//!
//! A staged file goes through these steps, one module each:
//!
//! 1. `listener` wakes, `observe` looks at staging, `job` is what is known of one file;
//! 2. `unit` turns its manifest into work units, `plan` decides which one is next: purely, within bounds, fair; `queue`
//!    spares it those that cannot be next;
//! 3. `attempt` makes one attempt at a unit: `feed` verifies and feeds its bytes, `run` runs the client's
//!    program, `verify_report` and `audit` decide whether it is believed, the latter by counting in coredms;
//! 4. what failed waits (`backoff`) and is tried again, so often only; then it is held;
//! 5. `finish` ends a file whose units are all done: `rejects` keeps what was rejected, `replace` removes what earlier runs
//!    had stored instead, `history` remembers the run, `outbox` tells the world;
//! 6. `retention` removes what was not ingested, once its time is up.
//!
//! `manager` is the loop around it. Staging is the queue and the truth: a restart is a look. What a manager that was
//! killed has left running is killed before anything is started, so no unit is ever run twice at a time.

mod attempt;
mod audit;
mod backoff;
mod blocking;
mod context;
pub mod feed;
mod finish;
mod history;
mod job;
mod listener;
mod manager;
mod observe;
mod outbox;
mod plan;
mod queue;
mod record_set;
mod rejects;
mod replace;
pub mod retention;
pub mod run;
mod stores;
#[cfg(test)]
mod testing;
mod timing;
pub mod unit;
mod verify_report;

use std::sync::Arc;

use mysimbdp_config::live::LiveConfig;
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_platform::lock::{Lock, LockError};
use mysimbdp_platform::process;
use tokio::sync::watch;

use crate::context::Context;
use crate::manager::Manager;

/// The name under which it locks staging and writes its log.
pub const ROLE: &str = "batch-manager";

/// Why the batch-manager does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("a task has crashed")]
    Crashed(#[source] tokio::task::JoinError),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lock(LockError::Held { .. }) => ErrorKind::NotPermitted,
            Self::Lock(LockError::Io { .. }) => ErrorKind::Io,
            Self::Crashed(_) => ErrorKind::Internal,
        }
    }
}

/// Runs until `shutdown` is true (or its sender is gone), then stops the running apps within their grace.
///
/// # Errors
///
/// Another batch-manager works on the same staging. What goes wrong with a file is no error: it is logged, and the file
/// is tried again or held.
pub async fn run(config: impl Into<LiveConfig>, shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let live = config.into();
    let config = live.running();
    let _lock = Lock::take(&config.layout.staging(), ROLE)?;
    let context = Arc::new(Context::new(Arc::clone(&config)));
    let left = process::kill_left_behind(&context.owner).await;
    if left > 0 {
        tracing::warn!(processes = left, "killed what an earlier batch-manager had left running");
    }
    tracing::info!(staging = %config.layout.staging().display(), clients = config.clients.len(), "started");
    let ended = Manager::new(live, context).run(shutdown).await.map_err(Error::Crashed);
    tracing::info!("stopped");
    ended
}
