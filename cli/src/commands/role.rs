//! The platform's processes, each as this one.

use std::path::Path;
use std::sync::Arc;

use mysimbdp_core::config::{Config, edits};
use mysimbdp_core::exit;
use mysimbdp_core::io::address::{AddressError, BrokerState};
use mysimbdp_core::io::embedded_broker::{EmbeddedBroker, EmbeddedBrokerError, EmbeddedBrokerOptions};
use mysimbdp_core::io::lock::LockError;
use mysimbdp_core::io::modes;
use mysimbdp_core::io::sign::Sign;
use mysimbdp_core::logging::{self, LogGuard};

use crate::error::Failure;
use crate::signals;

/// What each of them does first: it logs, and keeps what the platform keeps from others.
pub fn begin(role: &'static str, config: &Config) -> Result<LogGuard, Failure> {
    let log = logging::init(role, &config.layout, &config.settings.logs, true)?;
    modes::close(&config.layout);
    Ok(log)
}

pub async fn fetchdata(config: Config, file: &Path) -> Result<(), Failure> {
    let _log = begin("fetchdata", &config)?;
    let shutdown = signals::shutdown()?;
    let config = Arc::new(config);
    let running = mysimbdp_fetchdata::run(Arc::clone(&config), shutdown);
    let ended = beside_edits(running, file, config, "fetchdata").await;
    ended.map_err(|error| Failure::of(error.exit_code(), &error))
}

pub async fn batch_manager(config: Config, file: &Path) -> Result<(), Failure> {
    let _log = begin("batch-manager", &config)?;
    let shutdown = signals::shutdown()?;
    let config = Arc::new(config);
    let running = mysimbdp_batch_manager::run(Arc::clone(&config), shutdown);
    let ended = beside_edits(running, file, config, "batch-manager").await;
    ended.map_err(|error| Failure::of(error.exit_code(), &error))
}

pub async fn stream_manager(config: Config, file: &Path) -> Result<(), Failure> {
    let _log = begin("stream-manager", &config)?;
    let shutdown = signals::shutdown()?;
    let config = Arc::new(config);
    let running = mysimbdp_stream_manager::run(Arc::clone(&config), shutdown);
    let ended = beside_edits(running, file, config, "stream-manager").await;
    ended.map_err(|error| Failure::of(error.exit_code(), &error))
}

/// The embedded broker; writes its address to `state/broker.json` and takes it back at the end.
pub async fn broker(config: Config, port: Option<u16>) -> Result<(), Failure> {
    let _log = begin("broker", &config)?;
    let directory = config.layout.embedded_broker();
    let shutdown = signals::shutdown()?;
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions { directory, port }).await.map_err(|error| {
        let held = matches!(error, EmbeddedBrokerError::Lock(LockError::Held { .. }));
        Failure::of(if held { exit::NO_PERMISSION } else { exit::UNAVAILABLE }, &error)
    })?;
    let failure = |error: AddressError| Failure::of(exit::IO, &error);
    let state = BrokerState::of_this_process(broker.url.clone());
    state.write(&config.layout).map_err(failure)?;
    let ended = broker.run(shutdown).await.map_err(|error| Failure::of(exit::SOFTWARE, &error));
    state.remove(&config.layout).map_err(failure)?;
    ended
}

/// Runs the stage, and tells of edits of the config file all the while.
async fn beside_edits<T>(
    running: impl Future<Output = T>,
    file: &Path,
    config: Arc<Config>,
    role: &'static str,
) -> T {
    let sign = Sign::new(&config.layout, role, "config");
    let edits = edits::watch(file.to_owned(), config, |name| std::env::var(name).ok(), sign);
    tokio::select! {
        ended = running => ended,
        never = edits => match never {},
    }
}
