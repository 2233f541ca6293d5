//! `mysimbdp edge`: publishes lines of JSON as a numbered source.

mod metrics;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_config::{BROKER_PASSWORD_VARIABLE, BROKER_VARIABLE, Config, address};
use mysimbdp_edge::input::{InputError, LineInput};
use mysimbdp_edge::{BrokerAddress, Edge, EdgeError, EdgeSettings, Status};
use mysimbdp_model::exit;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::topic::Topics;
use mysimbdp_platform::files;
use mysimbdp_telemetry::logging::{self, LogLevel};
use mysimbdp_telemetry::metrics::Endpoint;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::process;
use crate::error::{CommandError, exit_code};
use crate::{args, loading, signals};

const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Publishes the input until it ends or a signal arrives. At the end of the input it waits until the platform has
/// received all messages, unless `--no-wait` is given; after a signal it does not wait.
pub async fn run(file: &Path, args: &args::EdgeArguments) -> Result<(), CommandError> {
    let config = match loading::in_use_with_same_root(file) {
        // An edge on another machine needs no config file.
        Err(_) if !files::exists(file) => None,
        config => Some(Arc::new(config?)),
    };
    if let Some(config) = config.as_ref().filter(|_| args.broker.is_none()) {
        loading::check_broker(config)?;
    }
    logging::init_stderr("edge", config.as_ref().map_or(LogLevel::Info, |config| config.settings.logs.level));
    let _metrics = process::serve_metrics(&args.metrics).await?;
    let layout = config.as_ref().map(|config| config.layout.clone());
    let settings = settings(file, config, args)?;
    let bytes_max = settings.message_bytes_max;
    // Its socket is found by its name, which only the owner of the usual outbox may use.
    let layout = layout.filter(|layout| settings.outbox == layout.edge_outbox(&args.client, &args.source));
    let mut run = Run { shutdown: signals::shutdown()?, reports: Reports::new() };
    let edge = Edge::open(settings).await.map_err(of_edge)?;
    let _endpoint =
        layout.map(|layout| Endpoint::start(&layout, &Layout::edge_process(&args.client, &args.source)));
    let ended = tokio::select! {
        ended = publish(&mut run, &edge, args, bytes_max) => ended,
        never = metrics::keep(&edge, [args.client.as_str(), args.source.as_str()]) => match never {},
    };
    run.reports.log(edge.status(), "edge is closing");
    edge.close().await;
    ended
}

async fn publish(
    run: &mut Run,
    edge: &Edge,
    args: &args::EdgeArguments,
    bytes_max: usize,
) -> Result<(), CommandError> {
    let mut input = match &args.follow {
        Some(path) => LineInput::follow(path, &edge.position(), bytes_max),
        None => LineInput::stdin(bytes_max),
    }
    .map_err(of_input)?;
    let ended = run.feed(edge, &mut input).await?;
    if ended && !args.no_wait { run.wait(edge, args.timeout.unwrap_or(Duration::MAX)).await } else { Ok(()) }
}

fn settings(
    file: &Path,
    config: Option<Arc<Config>>,
    args: &args::EdgeArguments,
) -> Result<EdgeSettings, CommandError> {
    if let Some(config) = &config {
        let client = config.clients.get(&args.client);
        if client.is_none_or(|client| client.streams.is_empty()) {
            let message = format!("{} has no client {} with a stream", file.display(), args.client);
            return Err(CommandError::new(exit::NO_INPUT, message));
        }
    }
    let outbox = match (&args.outbox, &config) {
        (Some(directory), _) => directory.clone(),
        (None, Some(config)) => config.layout.edge_outbox(&args.client, &args.source),
        (None, None) => return Err(no_config(file, "--outbox must name the directory of the outbox")),
    };
    let broker = find_broker(file, config.as_ref(), args)?;
    let mut settings = EdgeSettings::new(args.client.clone(), args.source.clone(), outbox, broker);
    if let Some(config) = config {
        settings.topics = config.topics.clone();
        settings.keep_alive = config.broker_keep_alive;
    }
    if let Some(prefix) = &args.topic_prefix {
        settings.topics = Topics::new(prefix);
    }
    settings.topic = args.topic.clone();
    settings.capacity_bytes = args.capacity;
    settings.message_bytes_max = usize::try_from(args.message_max).unwrap_or(usize::MAX);
    settings.resend_after = args.resend_after;
    Ok(settings)
}

fn find_broker(
    file: &Path,
    config: Option<&Arc<Config>>,
    args: &args::EdgeArguments,
) -> Result<BrokerAddress, CommandError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if args.broker.as_deref().is_some_and(mysimbdp_broker::has_password) {
        tracing::warn!(
            "password of the broker is on the command line, where every user of this machine can see it: give it with \
             --password-file, or in {BROKER_PASSWORD_VARIABLE}"
        );
    }
    let url = match (&args.broker, config) {
        (Some(url), _) => url.clone(),
        // The config already includes the password from the environment.
        (None, Some(config)) if args.password_file.is_none() => {
            return Ok(BrokerAddress::FromConfig(Arc::clone(config)));
        }
        (None, Some(config)) => config.broker_url.clone().ok_or_else(|| {
            CommandError::new(
                exit::USAGE,
                "--password-file needs a broker address with a user: expected mqtt://user@host:port",
            )
        })?,
        (None, None) => variable(BROKER_VARIABLE)
            .ok_or_else(|| no_config(file, &format!("--broker or {BROKER_VARIABLE} must name a broker")))?,
    };
    let password = match &args.password_file {
        Some(path) => Some(read_password(path)?),
        None => variable(BROKER_PASSWORD_VARIABLE),
    };
    let Some(password) = password else { return Ok(BrokerAddress::Url(url)) };
    mysimbdp_broker::with_password(&url, &password).map(BrokerAddress::Url).ok_or_else(|| {
        let shown = address::without_credentials(&url);
        let message = format!("{shown} names no user for the password: expected mqtt://user@host:port");
        CommandError::new(exit::USAGE, message)
    })
}

fn read_password(path: &Path) -> Result<String, CommandError> {
    let text = files::read_to_string(path)?;
    // Editors end the last line with a line feed.
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(CommandError::new(exit::CONFIG, format!("{} contains no password", path.display()))),
        password => Ok(password.to_owned()),
    }
}

fn no_config(file: &Path, so: &str) -> CommandError {
    CommandError::new(exit::CONFIG, format!("{} does not exist, so {so}", file.display()))
}

struct Run {
    shutdown: watch::Receiver<bool>,
    reports: Reports,
}

impl Run {
    /// Sends all lines of the input. Returns true at its end, and false if it was asked to stop before.
    async fn feed(&mut self, edge: &Edge, input: &mut LineInput) -> Result<bool, CommandError> {
        loop {
            let lines = tokio::select! {
                () = stopped(&mut self.shutdown) => return Ok(false),
                () = self.reports.due() => {
                    self.reports.log_progress(edge.status());
                    continue;
                }
                lines = input.next() => lines.map_err(of_input)?,
            };
            let Some(lines) = lines else { return Ok(true) };
            let count = lines.len();
            tokio::select! {
                () = stopped(&mut self.shutdown) => {
                    tracing::warn!(lines = count, "stopped while the outbox was full, some lines that were read are not in it");
                    return Ok(false);
                }
                sent = edge.send_batch(lines) => sent.map_err(of_edge)?,
            };
        }
    }

    async fn wait(&mut self, edge: &Edge, timeout: Duration) -> Result<(), CommandError> {
        let received = edge.flush(timeout);
        tokio::pin!(received);
        loop {
            tokio::select! {
                received = &mut received => return received.map_err(of_edge),
                () = self.reports.due() => self.reports.log_progress(edge.status()),
                () = stopped(&mut self.shutdown) => {
                    let Status { accepted, received_through, .. } = edge.status();
                    let count = accepted.saturating_sub(received_through);
                    let message = format!("{count} messages are not received yet; they stay in the outbox");
                    return Err(CommandError::new(exit::TEMPORARY, message));
                }
            }
        }
    }
}

/// Logs a line of progress at intervals, if there is progress.
struct Reports {
    clock: Interval,
    last: Option<Status>,
}

impl Reports {
    fn new() -> Self {
        let mut clock = interval(REPORT_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { clock, last: None }
    }

    async fn due(&mut self) {
        self.clock.tick().await;
    }

    fn log_progress(&mut self, status: Status) {
        if self.last != Some(status) {
            self.log(status, "edge progress");
        }
    }

    fn log(&mut self, status: Status, what: &'static str) {
        let Status { accepted, received_through: received, outbox_bytes, full, connected } = status;
        tracing::info!(accepted, received, outbox_bytes, full, connected, "{what}");
        self.last = Some(status);
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // If the sender was dropped, that is a request to stop, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn of_edge(error: EdgeError) -> CommandError {
    CommandError::of(exit_code(error.kind()), &error)
}

fn of_input(error: InputError) -> CommandError {
    CommandError::of(exit_code(error.kind()), &error)
}
