//! The contract of a stream app, for apps whose messages are bells: each says that it is worth looking at the store.
//!
//! A bell is acknowledged after a round that has succeeded, so one that was rung while the store was away is rung again
//! by the broker. The clock rings too.

use std::time::{Duration, Instant};

use mysimbdp_broker::consumer::{AckToken, Consumer, Deliveries};
use mysimbdp_broker::{ConnectOptions, Publish};
use mysimbdp_model::error_chain;
use mysimbdp_model::units::Period;
use mysimbdp_sdk::Failure;
use mysimbdp_sdk::stream::{Settings, Signals, Wish};
use tokio::time::{MissedTickBehavior, interval, interval_at};

/// What an app does at each bell. It may be cut off anywhere, and is repeated until it succeeds.
pub trait Rounds {
    async fn round(&mut self, consumer: &Consumer) -> Result<(), Failure>;
}

/// A round without a bell: what a lost message costs.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// A dead connection is noticed after twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The broker keeps bells for an instance that is away this long.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bells that may wait for the same round.
const BELLS_MAX: u16 = 100;

/// Does rounds until a signal.
///
/// # Errors
///
/// The environment is wrong, another process has connected as this instance, or a round fails for good.
pub async fn serve(settings: &Settings, mut rounds: impl Rounds) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let options = ConnectOptions {
        keep_alive: KEEP_ALIVE,
        session_expiry: Some(SESSION_EXPIRY),
        receive_maximum: BELLS_MAX,
        ..ConnectOptions::new(&settings.broker, &settings.instance)
    };
    let (consumer, deliveries) = Consumer::connect(options, vec![settings.topic_filter.clone()])
        .map_err(|error| Failure::Config(error_chain(&error)))?;
    let wish = tokio::select! {
        wish = signals.next() => wish,
        ended = ring(settings, &consumer, deliveries, &mut rounds) => return ended,
    };
    let ended = match wish {
        Wish::Stop => consumer.disconnect(false).await,
        // Bells that the session still holds are for nobody: the store has what they are about.
        Wish::Drain => consumer.unsubscribe().await.and(consumer.disconnect(true).await),
    };
    ended.map_err(|error| Failure::Temporary(error_chain(&error)))
}

/// Rounds for ever, or until one fails for good.
async fn ring(
    settings: &Settings,
    consumer: &Consumer,
    mut deliveries: Deliveries,
    rounds: &mut impl Rounds,
) -> Result<(), Failure> {
    let mut clock = interval(ROUND_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reports = interval_at(tokio::time::Instant::now() + settings.report_every, settings.report_every);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut meter = Meter::default();
    let mut bells: Vec<AckToken> = Vec::new();
    loop {
        tokio::select! {
            delivery = deliveries.recv() => match delivery {
                Some(delivery) => bells.push(delivery.ack),
                None => return Err(ended_by_broker(consumer)),
            },
            _ = clock.tick() => {}
            _ = reports.tick() => {
                meter.report(settings, consumer).await;
                continue;
            }
        }
        while let Some(delivery) = deliveries.try_recv() {
            bells.push(delivery.ack);
        }
        let began = Instant::now();
        match rounds.round(consumer).await {
            Ok(()) => {
                meter.succeeded(bells.len(), began.elapsed());
                consumer.acknowledge(bells.drain(..));
            }
            Err(Failure::Temporary(reason)) => meter.failed(&reason),
            Err(failure) => return Err(failure),
        }
    }
}

fn ended_by_broker(consumer: &Consumer) -> Failure {
    let reason =
        consumer.ended().map_or_else(|| "the connection has ended".to_owned(), |error| error_chain(&error));
    Failure::Temporary(reason)
}

/// What is reported, and whether the store is away.
#[derive(Debug, Default)]
struct Meter {
    bells: usize,
    rounds: u32,
    busy: Duration,
    failures: u32,
}

impl Meter {
    fn succeeded(&mut self, bells: usize, took: Duration) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("rounds go on again");
        }
        self.bells += bells;
        self.rounds += 1;
        self.busy += took;
    }

    /// Once for a whole outage.
    fn failed(&mut self, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(reason, "a round failed, it is tried again");
        }
    }

    /// Publishes the report of the interval that ends now; the next one has its own numbers.
    async fn report(&mut self, settings: &Settings, consumer: &Consumer) {
        let Some(topic) = &settings.report_topic else { return };
        let interval = settings.report_every.as_secs_f64();
        let report = serde_json::json!({
            "client_name": settings.client,
            "average_processing_time": self.busy.checked_div(self.rounds).unwrap_or_default().as_secs_f64(),
            "total_number_of_messages_ingested": self.bells,
            "total_size_of_messages_ingested": 0,
            "instance": settings.instance,
            "interval": interval,
            "utilization": (self.busy.as_secs_f64() / interval).min(1.0),
        });
        if consumer.publish(Publish::new(topic, report.to_string())).await.is_ok() {
            *self = Self { failures: self.failures, ..Self::default() };
        }
    }
}

/// A period of time on the command line.
pub fn period(text: &str) -> Result<Period, String> {
    Period::try_from(text.to_owned()).map_err(|error| error.to_string())
}
