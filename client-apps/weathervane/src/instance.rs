//! Keeps the contract of a stream app, for apps whose messages are notifications that there is something new in the store.
//!
//! A notification is acknowledged after a successful cycle, so the broker delivers it again if the store was unavailable. A
//! timer starts cycles too.

use std::time::{Duration, Instant};

use mysimbdp_broker::consumer::{AckToken, Consumer, Deliveries};
use mysimbdp_broker::{ConnectOptions, Publish};
use mysimbdp_model::error_chain;
use mysimbdp_model::units::Period;
use mysimbdp_sdk::Failure;
use mysimbdp_sdk::stream::{ShutdownMode, Signals, StreamAppSettings};
use tokio::time::{MissedTickBehavior, interval, interval_at};

/// What an app does at each notification. It may be interrupted anywhere, and is repeated until it succeeds.
pub trait Cycle {
    async fn run(&mut self, consumer: &Consumer) -> Result<(), Failure>;
}

/// The interval of cycles without a notification, and so the latency that a lost message costs.
const CYCLE_EVERY: Duration = Duration::from_secs(1);
/// A dead connection is detected after twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the broker keeps notifications for an instance that is not connected.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most notifications that wait for the same cycle.
const NOTIFICATIONS_MAX: u16 = 100;

/// Runs cycles until a signal.
///
/// # Errors
///
/// The environment is wrong, another process has connected as this instance, or a cycle fails permanently.
pub async fn serve(settings: &StreamAppSettings, mut cycle: impl Cycle) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let options = ConnectOptions {
        keep_alive: KEEP_ALIVE,
        session_expiry: Some(SESSION_EXPIRY),
        receive_maximum: NOTIFICATIONS_MAX,
        ..ConnectOptions::new(&settings.broker, &settings.instance)
    };
    let (consumer, deliveries) = Consumer::connect(options, vec![settings.topic_filter.clone()])
        .map_err(|error| Failure::Config(error_chain(&error)))?;
    let shutdown = tokio::select! {
        shutdown = signals.next() => shutdown,
        ended = run_cycles(settings, &consumer, deliveries, &mut cycle) => return ended,
    };
    let ended = match shutdown {
        ShutdownMode::Stop => consumer.disconnect(false).await,
        // Notifications that the session still holds are not needed: the store has everything that they announce.
        ShutdownMode::Drain => consumer.unsubscribe().await.and(consumer.disconnect(true).await),
    };
    ended.map_err(|error| Failure::Temporary(error_chain(&error)))
}

/// Runs cycles forever, or until one fails permanently.
async fn run_cycles(
    settings: &StreamAppSettings,
    consumer: &Consumer,
    mut deliveries: Deliveries,
    cycle: &mut impl Cycle,
) -> Result<(), Failure> {
    let mut clock = interval(CYCLE_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reports = interval_at(tokio::time::Instant::now() + settings.report_every, settings.report_every);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut meter = Meter::default();
    let mut notifications: Vec<AckToken> = Vec::new();
    loop {
        tokio::select! {
            delivery = deliveries.recv() => match delivery {
                Some(delivery) => notifications.push(delivery.ack),
                None => return Err(ended_by_broker(consumer)),
            },
            _ = clock.tick() => {}
            _ = reports.tick() => {
                meter.report(settings, consumer).await;
                continue;
            }
        }
        while let Some(delivery) = deliveries.try_recv() {
            notifications.push(delivery.ack);
        }
        let began = Instant::now();
        match cycle.run(consumer).await {
            Ok(()) => {
                meter.succeeded(notifications.len(), began.elapsed());
                consumer.acknowledge(notifications.drain(..));
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

/// Counts for the report, and the number of failures in a row.
#[derive(Debug, Default)]
struct Meter {
    notifications: usize,
    cycles: u32,
    busy: Duration,
    failures: u32,
}

impl Meter {
    fn succeeded(&mut self, notifications: usize, took: Duration) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("cycles succeed again");
        }
        self.notifications += notifications;
        self.cycles += 1;
        self.busy += took;
    }

    /// Counts a failure. Logs only the first one of an outage.
    fn failed(&mut self, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(reason, "cycle failed, trying again");
        }
    }

    /// Publishes the report of the interval that ends now; the next one has its own numbers.
    async fn report(&mut self, settings: &StreamAppSettings, consumer: &Consumer) {
        let Some(topic) = &settings.report_topic else { return };
        let interval = settings.report_every.as_secs_f64();
        let report = serde_json::json!({
            "client_name": settings.client,
            "average_processing_time": self.busy.checked_div(self.cycles).unwrap_or_default().as_secs_f64(),
            "total_number_of_messages_ingested": self.notifications,
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

/// Parses a period of time on the command line.
pub fn period(text: &str) -> Result<Period, String> {
    Period::try_from(text.to_owned()).map_err(|error| error.to_string())
}
