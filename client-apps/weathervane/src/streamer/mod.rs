//! Publishes the weather file hour by hour, on a clock that may be faster than real time, and sends requested batches again.
//!
//! The outbox holds the progress: it keeps each batch together with its position in the file, so a restart continues after
//! the last batch that was accepted. Requested batches are made again from the file.

mod cursor;
mod requests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_config::Config;
use mysimbdp_edge::{BrokerAddress, Edge, EdgeError, Position, SourceMessage};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::source::SourceName;
use mysimbdp_model::units::Period;
use mysimbdp_sdk::Failure;
use tokio::signal::unix::{SignalKind, signal};

use crate::batch::{Batch, Hour, ResendRequest};
use crate::file::Hours;
use crate::instance;
use cursor::Cursor;
use requests::{Repeats, Requests};

#[derive(Clone, Debug, clap::Parser)]
pub struct StreamerArguments {
    /// The weather file: CSV with origin, time_hour and what was measured.
    file: PathBuf,
    /// The platform's configuration: broker and topics.
    #[arg(long, default_value = "config.json")]
    config: PathBuf,
    #[arg(long, default_value = "weathervane")]
    client: ClientId,
    /// Name of this source; a second streamer needs another one.
    #[arg(long, default_value = "streamer")]
    source: SourceName,
    /// Where batches wait until the platform has stored them; the default is below the data root.
    #[arg(long)]
    outbox: Option<PathBuf>,
    /// How long an hour of the file lasts.
    #[arg(long, default_value = "1h", value_parser = instance::period)]
    hour: Period,
    /// The first hour to send; default: the file's first. Earlier hours are sent if they are requested.
    #[arg(long)]
    from: Option<Hour>,
    /// How many hours to send; default: all. After that it continues to answer requests.
    #[arg(long)]
    hours: Option<usize>,
    #[arg(long, default_value_t = 1)]
    readings_per_batch: usize,
    /// If the platform reports nothing new for this long, its progress is requested.
    #[arg(long, default_value = "10s", value_parser = instance::period)]
    resend_after: Period,
    /// Topic on which batches are requested.
    #[arg(long, default_value = "mysimbdp/weathervane/requests")]
    requests: String,
}

/// The file, the progress of sending it, and the edge that sends it.
struct Streamer {
    hours: Hours,
    cursor: Cursor,
    hour: Duration,
    edge: Edge,
    repeats: Repeats,
}

/// # Errors
///
/// File, configuration or outbox cannot be used. An unavailable broker is not an error.
pub async fn run(arguments: StreamerArguments) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let get = |name: &str| std::env::var(name).ok();
    let config =
        Config::load(&arguments.config, get).map_err(|faults| Failure::Config(faults.to_string()))?;
    let config = Arc::new(config);
    let hours = Hours::read(&arguments.file, arguments.readings_per_batch)?;
    let edge = open(&arguments, &config).await?;
    let mut requests = Requests::new(&config, arguments.requests.clone());
    let cursor = Cursor::new(&hours, arguments.from.as_ref(), arguments.hours, &edge.position())
        .map_err(Failure::Config)?;
    let (hour, repeats) = (arguments.hour.duration(), Repeats::default());
    let mut streamer = Streamer { hours, cursor, hour, edge, repeats };
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = streamer.stream(&mut requests) => ended.map_err(|error| match &error {
            EdgeError::Setting { .. } | EdgeError::TooLarge { .. } => Failure::Config(error_chain(&error)),
            _ => Failure::Internal(error_chain(&error)),
        }),
    };
    streamer.edge.close().await;
    ended
}

async fn open(arguments: &StreamerArguments, config: &Arc<Config>) -> Result<Edge, Failure> {
    let StreamerArguments { client, source, outbox, .. } = arguments.clone();
    let outbox = outbox.unwrap_or_else(|| config.layout.edge_outbox(&client, &source));
    let broker = BrokerAddress::FromConfig(Arc::clone(config));
    let mut settings = mysimbdp_edge::EdgeSettings::new(client, source, outbox, broker);
    settings.topics = config.topics.clone();
    settings.keep_alive = config.broker_keep_alive;
    settings.resend_after = arguments.resend_after.duration();
    Edge::open(settings).await.map_err(|error| Failure::Config(error_chain(&error)))
}

impl Streamer {
    /// Sends due and requested batches, forever.
    async fn stream(&mut self, requests: &mut Requests) -> Result<(), EdgeError> {
        let mut due = Instant::now();
        loop {
            let next = self.cursor.batch(&self.hours);
            let is_due = tokio::time::sleep_until(due.into());
            tokio::select! {
                () = is_due, if next.is_some() => {
                    let Some(batch) = next else { continue };
                    due = due.max(Instant::now()) + self.hour / batch.batches;
                    self.send(&batch, self.cursor.position(&batch)).await?;
                    self.cursor.advance(&batch);
                    if self.cursor.batch(&self.hours).is_none() {
                        tracing::info!(last = %batch.hour, "all hours are sent");
                    }
                }
                request = requests.next() => self.answer(&request).await?,
            }
        }
    }

    /// Returns when the batch is in the outbox; waits while the outbox is full.
    async fn send(&self, batch: &Batch, position: Position) -> Result<u64, EdgeError> {
        // Serialization cannot fail: the numbers of a file are finite, because others are not read.
        let payload = serde_json::to_vec(batch).unwrap_or_default().into();
        let numbers = self.edge.send_batch(vec![SourceMessage { payload, position }]).await?;
        Ok(*numbers.end())
    }

    /// Sends requested batches again, except those that are being sent already: a request is repeated until they arrive.
    async fn answer(&mut self, request: &ResendRequest) -> Result<(), EdgeError> {
        let Some(position) = self.hours.position(&request.hour) else {
            tracing::warn!(hour = %request.hour, "requested hour is not in the file");
            return Ok(());
        };
        let received_through = self.edge.received_through();
        for batch in self.hours.batches(position) {
            let is_requested = request.missing.as_ref().is_none_or(|missing| missing.contains(&batch.batch));
            let key = (batch.hour.clone(), batch.batch);
            if is_requested && self.repeats.may_send(&key, received_through) {
                let number = self.send(&batch, self.edge.position()).await?;
                self.repeats.sent(key, number);
                tracing::info!(hour = %batch.hour, batch = batch.batch, number, "sent again as requested");
            }
        }
        Ok(())
    }
}
