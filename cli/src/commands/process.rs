//! Runs one of the platform's processes in this process.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use mysimbdp_broker::embedded::{EmbeddedBroker, EmbeddedBrokerError, EmbeddedBrokerOptions};
use mysimbdp_config::Config;
use mysimbdp_config::address::{AddressError, ServerState};
use mysimbdp_config::live::{self, LiveConfig};
use mysimbdp_config::process_status::ProcessStatus;
use mysimbdp_model::exit;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::lock::LockError;
use mysimbdp_platform::modes;
use mysimbdp_platform::notice::NoticeFile;
use mysimbdp_telemetry::logging::{self, LogGuard};
use mysimbdp_telemetry::metrics::Endpoint;

use crate::args::MetricsArguments;
use crate::error::{CommandError, exit_code};
use crate::signals;

/// Opens the process's log, and closes the platform's files to other users.
pub fn begin(process: &'static str, config: &Config) -> Result<LogGuard, CommandError> {
    let log = logging::init(process, &config.layout, &config.settings.logs, true)?;
    modes::close_to_others(&config.layout);
    Ok(log)
}

/// Serves the metrics of this process until the result is dropped, if an address is given.
pub async fn serve_metrics(metrics: &MetricsArguments) -> Result<Option<Endpoint>, CommandError> {
    let Some(address) = metrics.metrics_listen else { return Ok(None) };
    let endpoint = Endpoint::listen(address).await;
    endpoint.map(Some).map_err(|error| CommandError::of(exit::UNAVAILABLE, &error))
}

pub async fn fetchdata(config: Config, file: &Path, metrics: &MetricsArguments) -> Result<(), CommandError> {
    let _log = begin("fetchdata", &config)?;
    let _metrics = serve_metrics(metrics).await?;
    let shutdown = signals::shutdown()?;
    let (config, following) = follow(config, file, ProcessKind::Fetchdata)?;
    let ended = beside(mysimbdp_fetchdata::run(config, shutdown), following).await;
    ended.map_err(|error| CommandError::of(exit_code(error.kind()), &error))
}

pub async fn batch_manager(
    config: Config,
    file: &Path,
    metrics: &MetricsArguments,
) -> Result<(), CommandError> {
    let _log = begin("batch-manager", &config)?;
    let _metrics = serve_metrics(metrics).await?;
    let shutdown = signals::shutdown()?;
    let (config, following) = follow(config, file, ProcessKind::BatchManager)?;
    let ended = beside(mysimbdp_batch_manager::run(config, shutdown), following).await;
    ended.map_err(|error| CommandError::of(exit_code(error.kind()), &error))
}

pub async fn stream_manager(
    config: Config,
    file: &Path,
    metrics: &MetricsArguments,
) -> Result<(), CommandError> {
    let _log = begin("stream-manager", &config)?;
    let _metrics = serve_metrics(metrics).await?;
    let shutdown = signals::shutdown()?;
    let (config, following) = follow(config, file, ProcessKind::StreamManager)?;
    let ended = beside(mysimbdp_stream_manager::run(config, shutdown), following).await;
    ended.map_err(|error| CommandError::of(exit_code(error.kind()), &error))
}

/// Runs the embedded broker. Its address is in `state/broker.json` while it runs.
pub async fn broker(
    config: Config,
    port: Option<u16>,
    metrics: &MetricsArguments,
) -> Result<(), CommandError> {
    let _log = begin("broker", &config)?;
    let _metrics = serve_metrics(metrics).await?;
    let _status = ProcessStatus::new(&config, ProcessKind::Broker.name());
    let directory = config.layout.embedded_broker();
    let shutdown = signals::shutdown()?;
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions { directory, port }).await.map_err(|error| {
        let held = matches!(error, EmbeddedBrokerError::Lock(LockError::Held { .. }));
        CommandError::of(if held { exit::NO_PERMISSION } else { exit::UNAVAILABLE }, &error)
    })?;
    let _endpoint = Endpoint::start(&config.layout, ProcessKind::Broker.name());
    let failure = |error: AddressError| CommandError::of(exit::IO, &error);
    let (state, path) = (ServerState::of_this_process(broker.url.clone()), config.layout.broker_state());
    state.write(&path).map_err(failure)?;
    let ended = broker.run(shutdown).await.map_err(|error| CommandError::of(exit::SOFTWARE, &error));
    state.remove(&path).map_err(failure)?;
    ended
}

/// Runs the HTTP server. Its address is in `state/serving.json` while it runs.
pub async fn serve(config: Config, file: &Path, metrics: &MetricsArguments) -> Result<(), CommandError> {
    let _log = begin(ProcessKind::Serve.name(), &config)?;
    let _metrics = serve_metrics(metrics).await?;
    let shutdown = signals::shutdown()?;
    let (config, following) = follow(config, file, ProcessKind::Serve)?;
    let ended = beside(mysimbdp_serving::run(config, shutdown), following).await;
    ended.map_err(|error| CommandError::of(exit_code(error.kind()), &error))
}

/// Returns the live config of a process, and the future that watches the config file.
fn follow(
    config: Config,
    file: &Path,
    kind: ProcessKind,
) -> Result<(LiveConfig, impl Future<Output = Infallible>), CommandError> {
    let reload = signals::reload()?;
    let status = ProcessStatus::of_follower(&config, file, kind.name());
    let notice = NoticeFile::new(&config.layout, kind.name(), "config");
    let (live, offers) = LiveConfig::new(Arc::new(config));
    let variable = |name: &str| std::env::var(name).ok();
    Ok((live, live::watch(file.to_owned(), offers, variable, reload, status, notice)))
}

/// Runs one of the platform's processes, and watches the config file until that process ends.
async fn beside<T>(running: impl Future<Output = T>, following: impl Future<Output = Infallible>) -> T {
    tokio::select! {
        ended = running => ended,
        never = following => match never {},
    }
}
