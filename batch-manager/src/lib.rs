//! Observes staged work, plans it, and runs the clients' batch apps.
//!
//! A staged file goes through these steps, one module each:
//!
//! 1. `listener` receives staged notifications, `observe` scans staging, `job` holds the state of one file;
//! 2. `unit` turns the manifest into work units, and `plan` decides which unit is next: pure, bounded and fair; `queue`
//!    selects the files that can be next;
//! 3. `attempt` makes one attempt at a unit: `feed` verifies and feeds its bytes, `run` runs the client's
//!    program, `verify_report` and `audit` decide whether its report is believed, the latter by counting in coredms;
//! 4. a unit that failed waits (`backoff`) and is tried again a limited number of times; then its file is held;
//! 5. `finish` ends a file whose units are all done and records the run: `rejects` stores the rejected records,
//!    `replace` removes what only earlier runs had stored, `history` reads the earlier runs, `outbox` publishes the
//!    result;
//! 6. `arrivals` judges whether the files that are expected have come;
//! 7. `retention` removes archived, held and discarded files that have been kept long enough.
//!
//! `manager` is the loop around these steps. Staging is the queue and the truth: a restart scans it again. Apps that a
//! killed manager has left running are killed before anything is started, so no unit ever runs twice at the same time.

mod arrivals;
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
mod metrics;
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
use mysimbdp_telemetry::metrics::Endpoint;
use tokio::sync::watch;

use crate::context::Context;
use crate::manager::Manager;

/// The name under which this process locks staging and writes its log.
pub const PROCESS_NAME: &str = "batch-manager";

/// Why the batch-manager does not start, or has stopped.
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

/// Runs until `shutdown` is true (or its sender is dropped), then stops the running apps within their grace.
///
/// # Errors
///
/// Another batch-manager uses the same staging, or a task has panicked. A problem with a file is not an error: it is
/// logged, and the file is tried again or held.
pub async fn run(config: impl Into<LiveConfig>, shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let live = config.into();
    let config = live.running();
    let _lock = Lock::take(&config.layout.staging(), PROCESS_NAME)?;
    let _endpoint = Endpoint::start(&config.layout, PROCESS_NAME);
    let context = Arc::new(Context::new(Arc::clone(&config)));
    let left = process::kill_left_behind(&context.owner).await;
    if left > 0 {
        tracing::warn!(processes = left, "killed processes that an earlier batch-manager had left running");
    }
    tracing::info!(staging = %config.layout.staging().display(), clients = config.clients.len(), "started");
    let ended = Box::pin(Manager::new(live, context).run(shutdown)).await.map_err(Error::Crashed);
    tracing::info!("stopped");
    ended
}
