//! The loop of a stream instance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use mysimbdp_broker::consumer::{Consumer, Deliveries, Delivery};
use mysimbdp_broker::{BrokerError, ConnectOptions, Publish};
use mysimbdp_model::app::Ids;
use mysimbdp_model::error_chain;
use mysimbdp_platform::failpoint;
use mysimbdp_store::Coredms;
use mysimbdp_store::sequences::Sequences;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, interval_at, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use super::message::{Converter, Item};
use super::receipts::Receipts;
use super::report::{self, Interval, Meter};
use super::signals::{Signals, Wish};
use super::status::{self, State};
use super::wait::at;
use super::window::WindowWatch;
use super::write::{Settled, Target};
use crate::failure::Failure;

/// The broker keeps the session of an instance that is away this long.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A batch is closed early when it holds this much, which is far below the 48 MB of a message to MongoDB.
const BATCH_BYTES_MAX: usize = 8_000_000;

/// Batches that are written at a time, where they fill so fast.
const WRITES_MAX: usize = 2;

/// How long a stop waits for a store that is away. What is not stored by then is not acknowledged either, and comes
/// again. Shorter than the manager's own patience, so that the session is left in order.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether the status has to be said anew, or whether this is the end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the last report and status may take on their way out.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);

/// Wait before the end of the subscription is asked for again.
const UNSUBSCRIBE_AGAIN: Duration = Duration::from_millis(500);

/// What the instance is about.
enum Course {
    Run,
    /// Until the broker has acknowledged the end of the subscription.
    Unsubscribe,
    /// What the session still holds arrives, until there was silence for long enough on one connection.
    Drain {
        quiet_since: Instant,
        generation: u64,
    },
    Stop {
        until: Instant,
    },
}

pub(crate) struct Instance<'a> {
    settings: &'a Settings,
    converter: Converter<'a>,
    target: Target,
    consumer: Arc<Consumer>,
    deliveries: Deliveries,
    course: Course,
    batch: Batch,
    /// The batches that are being written, in the order in which MQTT wants their messages acknowledged: as they came.
    writing: FuturesOrdered<AbortOnDropHandle<Result<Settled, Failure>>>,
    receipts: Receipts,
    /// Reports and status: few, and none of them waited for.
    messages: JoinSet<(Message, Result<(), BrokerError>)>,
    /// The connection on which the status was said last, and what it was.
    announced: Option<(u64, State)>,
    /// At most one: the end of the subscription.
    unsubscribing: JoinSet<()>,
    meter: Meter,
    window: WindowWatch,
}

/// A message of the instance's own.
enum Message {
    Report(Interval),
    Status { generation: u64, state: State },
}

/// Messages that will be written together.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    bytes: usize,
    opened_at: Option<Instant>,
}

impl<'a> Instance<'a> {
    /// Starts connecting. Must be called within a tokio runtime.
    pub(crate) fn connect(
        settings: &'a Settings,
        converter: Converter<'a>,
        coredms: Arc<dyn Coredms>,
    ) -> Result<Self, Failure> {
        // While some are written the next one collects.
        let window = (writes_max(settings) + 1) * settings.batch_messages_max;
        let options = ConnectOptions {
            keep_alive: settings.keep_alive,
            session_expiry: Some(SESSION_EXPIRY),
            receive_maximum: u16::try_from(window).unwrap_or(u16::MAX),
            will: settings.instance_topic.as_deref().map(status::will),
            ..ConnectOptions::new(&settings.broker, &settings.instance)
        };
        let (consumer, deliveries) = Consumer::connect(options, vec![settings.topic_filter.clone()])
            .map_err(|error| Failure::Config(error_chain(&error)))?;
        let consumer = Arc::new(consumer);
        let sequences = Sequences::new(Arc::clone(&coredms), settings.client.clone(), &settings.collection);
        Ok(Self {
            settings,
            converter,
            target: Target {
                client: settings.client.clone(),
                coredms,
                collection: settings.collection.clone(),
                rejected: settings.rejected_collection.clone(),
                is_away: Arc::default(),
            },
            receipts: Receipts::new(settings, sequences, Arc::clone(&consumer)),
            consumer,
            deliveries,
            course: Course::Run,
            batch: Batch::default(),
            writing: FuturesOrdered::new(),
            messages: JoinSet::new(),
            announced: None,
            unsubscribing: JoinSet::new(),
            meter: Meter::new(Instant::now()),
            window: WindowWatch::default(),
        })
    }

    pub(crate) async fn run(mut self, mut signals: Signals) -> Result<(), Failure> {
        let every = self.settings.report_every;
        let mut reports = interval_at(tokio::time::Instant::now() + every, every);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.watch_connection();
            if self.is_at_end() {
                return self.end().await;
            }
            let may_take = !matches!(self.course, Course::Stop { .. }) && !self.batch.is_full(self.settings);
            let closes_at = self.closes_at();
            tokio::select! {
                wish = signals.next() => self.obey(wish),
                Some(written) = self.writing.next() => self.book(written)?,
                () = self.receipts.step() => {}
                Some(sent) = self.messages.join_next() => self.note_sent(sent),
                Some(_) = self.unsubscribing.join_next() => self.drain(),
                delivery = self.deliveries.recv(), if may_take => match delivery {
                    Some(delivery) => self.take(delivery),
                    None => return Err(self.ended_by_broker()),
                },
                _ = reports.tick() => self.report(),
                _ = looks.tick() => self.announce(),
                () = at(closes_at), if closes_at.is_some() => self.close_batch(),
            }
            if self.batch.is_full(self.settings) {
                self.close_batch();
            }
        }
    }

    fn obey(&mut self, wish: Wish) {
        match (wish, &self.course) {
            (Wish::Stop, Course::Run | Course::Unsubscribe | Course::Drain { .. }) => {
                tracing::info!("stopping");
                self.course = Course::Stop { until: Instant::now() + STOP_PATIENCE };
                self.close_batch();
            }
            (Wish::Drain, Course::Run) => {
                tracing::info!("draining");
                self.course = Course::Unsubscribe;
                self.unsubscribing.spawn(unsubscribe(Arc::clone(&self.consumer)));
            }
            (Wish::Stop, Course::Stop { .. }) | (Wish::Drain, _) => {}
        }
    }

    /// The subscription has ended.
    fn drain(&mut self) {
        failpoint::hit("stream-app.unsubscribed");
        if matches!(self.course, Course::Unsubscribe) {
            let generation = self.consumer.stats().generation;
            self.course = Course::Drain { quiet_since: Instant::now(), generation };
        }
    }

    /// Takes a message, and with it all that wait.
    fn take(&mut self, delivery: Delivery) {
        let now = Instant::now();
        if let Course::Drain { quiet_since, .. } = &mut self.course {
            *quiet_since = now;
        }
        self.batch.push(self.converter.item(delivery), now);
        while !self.batch.is_full(self.settings) {
            let Some(delivery) = self.deliveries.try_recv() else { break };
            self.batch.push(self.converter.item(delivery), now);
        }
    }

    /// Sends the batch on its way. While another one is being written it waits for that one's return, but for a full
    /// one, which waits only where as many are written as may be.
    fn close_batch(&mut self) {
        let is_full = self.batch.is_full(self.settings);
        let at_once = if is_full { writes_max(self.settings) } else { 1 };
        if self.batch.items.is_empty() || self.writing.len() >= at_once {
            return;
        }
        if !is_full && let Some(size) = self.window.note(self.batch.items.len()) {
            tracing::warn!(
                size,
                "batches stop at the same size: the broker's limit of unacknowledged messages is lower than a batch \
                 (mosquitto: max_inflight_messages)"
            );
        }
        let batch = std::mem::take(&mut self.batch);
        self.meter.write_began(Instant::now());
        let write = tokio::spawn(self.target.clone().write(batch.items));
        self.writing.push_back(AbortOnDropHandle::new(write));
    }

    /// Acknowledges a batch that is durable.
    fn book(&mut self, written: Result<Result<Settled, Failure>, JoinError>) -> Result<(), Failure> {
        let mut settled = written.map_err(|error| Failure::Fault(format!("writer failed: {error}")))??;
        self.consumer.acknowledge(std::mem::take(&mut settled.acks));
        failpoint::hit("stream-app.acknowledged");
        self.meter.write_ended(&settled, self.writing.is_empty(), Instant::now());
        self.receipts.take(settled.durable);
        self.close_batch();
        Ok(())
    }

    fn report(&mut self) {
        let stats = self.consumer.stats();
        if stats.lost > 0 {
            tracing::warn!(
                messages = stats.lost,
                "QoS 0 messages were lost since the start: too many were waiting"
            );
        }
        // While the broker is away the interval goes on: what would be said now nobody would hear.
        if let Some(topic) = self.settings.report_topic.as_deref().filter(|_| stats.connected) {
            let now = Instant::now();
            let interval = self.meter.end(now);
            let report = report::report(&interval, self.settings, stats.unacknowledged as u64, now);
            self.send(Publish::new(topic, report::to_json(&report)), Message::Report(interval));
        }
    }

    /// Says the status where it is not what was said last on this connection: the will has taken its place if the
    /// connection was lost in between.
    fn announce(&mut self) {
        let state = match self.course {
            Course::Run | Course::Stop { .. } => State::Running,
            Course::Unsubscribe | Course::Drain { .. } => State::Draining,
        };
        let stats = self.consumer.stats();
        if stats.connected && self.announced != Some((stats.generation, state)) && self.messages.is_empty() {
            self.say_status(state);
        }
    }

    fn say_status(&mut self, state: State) {
        if let Some(topic) = &self.settings.instance_topic {
            let generation = self.consumer.stats().generation;
            self.send(status::publish(topic, state), Message::Status { generation, state });
        }
    }

    /// Publishes in the background. Each publish ends within its own deadline, so there are never many.
    fn send(&mut self, publish: Publish, message: Message) {
        let consumer = Arc::clone(&self.consumer);
        self.messages.spawn(async move { (message, consumer.publish(publish).await) });
    }

    fn note_sent(&mut self, sent: Result<(Message, Result<(), BrokerError>), JoinError>) {
        match sent {
            Ok((Message::Status { generation, state }, Ok(()))) => {
                self.announced = Some((generation, state));
            }
            Ok((Message::Report(_), Ok(()))) => {}
            Ok((message, Err(error))) => {
                tracing::debug!(error = %error_chain(&error), "not sent");
                // The status is said again anyway.
                if let Message::Report(interval) = message {
                    self.meter.carry_on(&interval);
                }
            }
            Err(error) => tracing::debug!(%error, "not sent"),
        }
    }

    /// When the batch closes by its age. While another one is being written it has time.
    fn closes_at(&self) -> Option<Instant> {
        let opened_at = self.batch.opened_at.filter(|_| self.writing.is_empty())?;
        Some(opened_at + self.settings.batch_wait_max)
    }

    fn is_at_end(&self) -> bool {
        let is_idle = self.batch.items.is_empty() && self.writing.is_empty();
        match &self.course {
            Course::Run | Course::Unsubscribe => false,
            Course::Stop { until } => is_idle || Instant::now() >= *until,
            Course::Drain { quiet_since, .. } => {
                let stats = self.consumer.stats();
                let is_quiet = quiet_since.elapsed() >= self.settings.drain_quiet;
                is_idle && is_quiet && stats.connected && stats.unacknowledged == 0 && stats.waiting == 0
            }
        }
    }

    /// Quiet counts only on one connection: the silence of a lost one says nothing, and the next one begins with what
    /// was not acknowledged.
    fn watch_connection(&mut self) {
        let stats = self.consumer.stats();
        if let Course::Drain { quiet_since, generation } = &mut self.course
            && (!stats.connected || stats.generation != *generation)
        {
            *quiet_since = Instant::now();
            *generation = stats.generation;
        }
    }

    async fn end(mut self) -> Result<(), Failure> {
        let is_drained = matches!(self.course, Course::Drain { .. });
        if !self.writing.is_empty() || !self.batch.items.is_empty() {
            tracing::warn!("the store is away: what was taken last is not acknowledged and will come again");
        }
        self.writing.clear();
        let patience = match self.course {
            Course::Stop { until } => until.saturating_duration_since(Instant::now()),
            Course::Run | Course::Unsubscribe | Course::Drain { .. } => STOP_PATIENCE,
        };
        self.receipts.finish(patience).await;
        self.report();
        self.say_status(if is_drained { State::Drained } else { State::Stopped });
        let sent = timeout(FAREWELL_PATIENCE, async {
            while let Some(sent) = self.messages.join_next().await {
                self.note_sent(sent);
            }
        });
        if sent.await.is_err() {
            tracing::warn!("the broker does not answer, last report and status may not have arrived");
        }
        let untold = self.meter.untold();
        if untold.messages() > 0 && self.settings.report_topic.is_some() {
            let Interval { stored, duplicates, rejected, .. } = untold;
            tracing::warn!(
                stored,
                duplicates,
                rejected,
                "these messages are in no report, as the broker is away"
            );
        }
        failpoint::hit("stream-app.taken-leave");
        match self.consumer.disconnect(is_drained).await {
            Ok(()) => tracing::info!(session_ended = is_drained, "ended"),
            // The subscription has ended and the session is empty: the broker will let it expire.
            Err(error) => tracing::warn!(error = %error_chain(&error), "the session could not be ended"),
        }
        Ok(())
    }

    fn ended_by_broker(&self) -> Failure {
        match self.consumer.ended() {
            Some(error) => Failure::Temporary(error_chain(&error)),
            None => Failure::Fault("the connection has ended without a reason".to_owned()),
        }
    }
}

impl Batch {
    fn push(&mut self, item: Item, now: Instant) {
        self.bytes += item.message.payload.len();
        self.items.push(item);
        self.opened_at.get_or_insert(now);
    }

    fn is_full(&self, settings: &Settings) -> bool {
        self.items.len() >= settings.batch_messages_max || self.bytes >= BATCH_BYTES_MAX
    }
}

/// Where the first message of a key is the one that stays, no batch may overtake another.
fn writes_max(settings: &Settings) -> usize {
    if settings.ids == Ids::Key { 1 } else { WRITES_MAX }
}

/// Ends the subscription, however long the broker is away.
async fn unsubscribe(consumer: Arc<Consumer>) {
    while let Err(error) = consumer.unsubscribe().await {
        tracing::debug!(error = %error_chain(&error), "not unsubscribed yet");
        tokio::time::sleep(UNSUBSCRIBE_AGAIN).await;
    }
}
