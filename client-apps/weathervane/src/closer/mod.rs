//! Requests batches that do not arrive, and closes complete hours.
//!
//! Level-triggered: each cycle reads the open batches from the store, and [`plan()`] decides. The notifications are the
//! platform's receipts, which say that something has been stored.

mod plan;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bson::Document;
use mysimbdp_broker::Publish;
use mysimbdp_broker::consumer::Consumer;
use mysimbdp_model::error_chain;
use mysimbdp_model::units::Period;
use mysimbdp_platform::clock;
use mysimbdp_sdk::Failure;
use mysimbdp_sdk::stream::StreamAppSettings;

use crate::batch::{Batch, Hour, ResendRequest};
use crate::instance::{self, Cycle};
use crate::stored::{ByHour, Closed, WeatherStore};
use plan::{CloserAction, Open, RequestMemory, plan};

#[derive(Clone, Debug, clap::Parser)]
pub struct CloserArguments {
    /// Topic for requests for batches.
    #[arg(long, default_value = "mysimbdp/weathervane/requests")]
    requests: String,
    /// Topic on which closed hours are announced.
    #[arg(long, default_value = "mysimbdp/weathervane/closed")]
    closed: String,
    /// Time without a new batch of an hour until its missing batches are requested.
    #[arg(long, default_value = "5s", value_parser = instance::period)]
    delay: Period,
}

#[derive(Debug)]
struct Closer {
    store: WeatherStore,
    arguments: CloserArguments,
    memory: RequestMemory,
    is_prepared: bool,
}

/// # Errors
///
/// The environment is wrong, or another process has taken over the session. An unavailable broker or store is not an error.
pub async fn run(settings: &StreamAppSettings, arguments: CloserArguments) -> Result<(), Failure> {
    let store = WeatherStore::new(mysimbdp_store::open(&settings.coredms, &settings.database).await?);
    let closer =
        Closer { store: store.clone(), arguments, memory: RequestMemory::default(), is_prepared: false };
    let ended = instance::serve(settings, closer).await;
    store.close_connection().await;
    ended
}

impl Cycle for Closer {
    async fn run(&mut self, consumer: &Consumer) -> Result<(), Failure> {
        if !self.is_prepared {
            self.store.prepare().await?;
            self.is_prepared = true;
        }
        let batches = self.store.open_batches().await?;
        let open = open_hours(&batches);
        let previous = open.values().filter_map(|open| open.previous.as_ref());
        let closed = self.store.closed(open.keys().chain(previous)).await?;
        let delay: Duration = self.arguments.delay.duration();
        for action in plan(&open, &closed, &mut self.memory, delay, Instant::now()) {
            match action {
                CloserAction::Close(hour) => self.close(&hour, &open, &batches, consumer).await?,
                CloserAction::Request(request) => self.request(&request, consumer).await,
            }
        }
        Ok(())
    }
}

impl Closer {
    async fn close(
        &self,
        hour: &Hour,
        open: &BTreeMap<Hour, Open>,
        batches: &ByHour,
        consumer: &Consumer,
    ) -> Result<(), Failure> {
        let Some((open, batches)) = open.get(hour).zip(batches.get(hour)) else { return Ok(()) };
        let closed = Closed {
            hour: hour.clone(),
            day: hour.day().to_owned(),
            previous: open.previous.clone(),
            batches: open.batches,
            closed_at: bson::DateTime::from_millis(clock::now().as_millisecond()),
            reported: false,
        };
        let documents: Vec<Document> = batches.values().map(|(_, document)| document.clone()).collect();
        if self.store.close(&closed, documents).await? {
            tracing::info!(%hour, batches = open.batches, "closed");
        }
        // Announced at least once or, while the broker is unavailable, not at all: the reporter has its own timer too.
        if let Err(error) =
            consumer.publish(Publish::new(&self.arguments.closed, hour.as_str().to_owned())).await
        {
            tracing::debug!(%hour, error = error_chain(&error), "closed hour not announced");
        }
        Ok(())
    }

    /// Publishes a request. A failure does no harm: the request is repeated later in any case.
    async fn request(&self, request: &ResendRequest, consumer: &Consumer) {
        let missing =
            request.missing.as_ref().map_or_else(|| "all".to_owned(), |missing| format!("{missing:?}"));
        tracing::info!(hour = %request.hour, missing, "missing batches requested");
        // Serialization of this type cannot fail.
        let payload = serde_json::to_vec(request).unwrap_or_default();
        if let Err(error) = consumer.publish(Publish::new(&self.arguments.requests, payload)).await {
            tracing::debug!(hour = %request.hour, error = error_chain(&error), "request not sent");
        }
    }
}

/// Returns the open hours. If batches of an hour disagree about the number of batches, they cannot come from one file: the
/// largest number counts, and the hour waits.
fn open_hours(batches: &ByHour) -> BTreeMap<Hour, Open> {
    let open = |batches: &BTreeMap<u32, (Batch, Document)>| {
        let previous = batches.values().find_map(|(batch, _)| batch.previous.clone());
        let count = batches.values().map(|(batch, _)| batch.batches).max().unwrap_or_default();
        Open { previous, batches: count, present: batches.keys().copied().collect() }
    };
    batches.iter().map(|(hour, batches)| (hour.clone(), open(batches))).collect()
}
