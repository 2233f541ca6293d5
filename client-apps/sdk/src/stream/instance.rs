//! The main loop of a stream instance.

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

use super::StreamAppSettings;
use super::announcer::Announcer;
use super::message::{Converter, Item};
use super::receipts::Receipts;
use super::report::{self, Interval, Meter};
use super::signals::{ShutdownMode, Signals};
use super::status::{self, State};
use super::wait::wait_until;
use super::window::WindowWatch;
use super::write::{DurableBatch, Target};
use crate::failure::Failure;

/// How long the broker keeps the session of an instance that is not connected.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A batch is closed early at this size, which is far below the 48 MB of a message to MongoDB.
const BATCH_BYTES_MAX: usize = 8_000_000;

/// Batches that are written at a time, if they fill up that fast.
const WRITES_MAX: usize = 2;

/// How long a stop waits for an unavailable store. What is not stored by then is not acknowledged either, and the broker
/// delivers it again. Shorter than the manager's own deadline, so that the session is closed properly.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the loop checks whether the status must be published again and whether the instance is finished.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// How long the instance waits until its last report and status are sent.
const LAST_MESSAGES_TIMEOUT: Duration = Duration::from_secs(2);

/// The wait before the unsubscription is tried again.
const UNSUBSCRIBE_RETRY_AFTER: Duration = Duration::from_millis(500);

/// What the instance is doing.
enum Mode {
    Run,
    /// Waits until the broker has acknowledged the end of the subscription.
    Unsubscribe,
    /// Receives what the session still holds, until one connection has been quiet for long enough.
    Drain {
        quiet_since: Instant,
        generation: u64,
    },
    Stop {
        until: Instant,
    },
}

pub(crate) struct Instance<'a> {
    settings: &'a StreamAppSettings,
    converter: Converter<'a>,
    target: Target,
    consumer: Arc<Consumer>,
    deliveries: Deliveries,
    mode: Mode,
    batch: Batch,
    /// The batches that are being written, in the order of arrival, in which MQTT requires the acknowledgements.
    writing: FuturesOrdered<AbortOnDropHandle<Result<DurableBatch, Failure>>>,
    receipts: Receipts,
    announcer: Option<Announcer>,
    /// Reports and status that are being published: few, and the loop does not wait for them.
    publishing: JoinSet<PublishEnd>,
    /// The status that was published last, and its connection.
    published_status: Option<(u64, State)>,
    /// At most one task, which ends the subscription.
    unsubscribing: JoinSet<()>,
    meter: Meter,
    window: WindowWatch,
}

/// A message that the instance itself publishes.
enum OwnMessage {
    Report(Interval),
    Status { generation: u64, state: State },
}

/// An own message that has been acknowledged, or not, because of the error.
struct PublishEnd {
    message: OwnMessage,
    error: Option<BrokerError>,
}

fn writer_failed(error: JoinError) -> Failure {
    Failure::Internal(format!("writer failed: {error}"))
}

/// Messages that are written together.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    bytes: usize,
    opened_at: Option<Instant>,
}

impl<'a> Instance<'a> {
    /// Starts connecting. Must be called within a tokio runtime.
    pub(crate) fn connect(
        settings: &'a StreamAppSettings,
        converter: Converter<'a>,
        coredms: Arc<dyn Coredms>,
    ) -> Result<Self, Failure> {
        // While some batches are written, the next one collects messages.
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
                is_announced: settings.stored_topic.is_some(),
                is_unavailable: Arc::default(),
            },
            announcer: settings.stored_topic.clone().map(Announcer::new),
            receipts: Receipts::new(settings, sequences, Arc::clone(&consumer)),
            consumer,
            deliveries,
            mode: Mode::Run,
            batch: Batch::default(),
            writing: FuturesOrdered::new(),
            publishing: JoinSet::new(),
            published_status: None,
            unsubscribing: JoinSet::new(),
            meter: Meter::new(Instant::now()),
            window: WindowWatch::default(),
        })
    }

    pub(crate) async fn run(mut self, mut signals: Signals) -> Result<(), Failure> {
        let every = self.settings.report_every;
        let mut reports = interval_at(tokio::time::Instant::now() + every, every);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checks = interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.watch_connection();
            if self.is_finished() {
                return self.shut_down().await;
            }
            let may_receive = !matches!(self.mode, Mode::Stop { .. }) && !self.batch.is_full(self.settings);
            let closes_at = self.closes_at();
            tokio::select! {
                requested = signals.next() => self.begin_shutdown(requested),
                Some(written) = self.writing.next() => self.acknowledge_batch(written.map_err(writer_failed)??),
                () = self.receipts.step() => {}
                () = sent(&mut self.announcer) => self.announce(),
                Some(sent) = self.publishing.join_next() => self.note_publish(sent),
                Some(_) = self.unsubscribing.join_next() => self.drain(),
                delivery = self.deliveries.recv(), if may_receive => match delivery {
                    Some(delivery) => self.collect(delivery),
                    None => return Err(self.ended_by_broker()),
                },
                _ = reports.tick() => self.report(),
                _ = checks.tick() => {
                    self.renew_status();
                    self.announce();
                }
                () = wait_until(closes_at), if closes_at.is_some() => self.close_batch(),
            }
            if self.batch.is_full(self.settings) {
                self.close_batch();
            }
        }
    }

    fn begin_shutdown(&mut self, requested: ShutdownMode) {
        match (requested, &self.mode) {
            (ShutdownMode::Stop, Mode::Run | Mode::Unsubscribe | Mode::Drain { .. }) => {
                tracing::info!("stopping");
                self.mode = Mode::Stop { until: Instant::now() + STOP_TIMEOUT };
                self.close_batch();
            }
            (ShutdownMode::Drain, Mode::Run) => {
                tracing::info!("draining");
                self.mode = Mode::Unsubscribe;
                self.unsubscribing.spawn(unsubscribe(Arc::clone(&self.consumer)));
            }
            (ShutdownMode::Stop, Mode::Stop { .. }) | (ShutdownMode::Drain, _) => {}
        }
    }

    /// Starts to drain, after the subscription has ended.
    fn drain(&mut self) {
        failpoint::hit("stream-app.unsubscribed");
        if matches!(self.mode, Mode::Unsubscribe) {
            let generation = self.consumer.stats().generation;
            self.mode = Mode::Drain { quiet_since: Instant::now(), generation };
        }
    }

    /// Adds a message to the batch, and with it the others that wait, until the batch is full.
    fn collect(&mut self, delivery: Delivery) {
        let now = Instant::now();
        if let Mode::Drain { quiet_since, .. } = &mut self.mode {
            *quiet_since = now;
        }
        self.batch.push(self.converter.item(delivery), now);
        while !self.batch.is_full(self.settings) {
            let Some(delivery) = self.deliveries.try_recv() else { break };
            self.batch.push(self.converter.item(delivery), now);
        }
    }

    /// Starts writing the batch, unless it has to wait. A batch that is not full waits until no write is running; a
    /// full one until fewer than `writes_max` are.
    fn close_batch(&mut self) {
        let is_full = self.batch.is_full(self.settings);
        let limit = if is_full { writes_max(self.settings) } else { 1 };
        if self.batch.items.is_empty() || self.writing.len() >= limit {
            return;
        }
        if !is_full && let Some(size) = self.window.record(self.batch.items.len()) {
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

    /// Acknowledges the messages of a durable batch.
    fn acknowledge_batch(&mut self, mut batch: DurableBatch) {
        self.consumer.acknowledge(std::mem::take(&mut batch.acks));
        failpoint::hit("stream-app.acknowledged");
        self.meter.write_ended(&batch, self.writing.is_empty(), Instant::now());
        self.receipts.add(batch.durable);
        if let Some(announcer) = &mut self.announcer {
            announcer.add(batch.new_documents);
            announcer.send(&self.consumer);
        }
        self.close_batch();
    }

    fn announce(&mut self) {
        if let Some(announcer) = &mut self.announcer {
            announcer.send(&self.consumer);
        }
    }

    fn report(&mut self) {
        let stats = self.consumer.stats();
        if stats.lost > 0 {
            tracing::warn!(
                messages = stats.lost,
                "QoS 0 messages were lost since the start: too many were waiting"
            );
        }
        // While the broker is unavailable, the interval continues: a report sent now would be lost.
        if let Some(topic) = self.settings.report_topic.as_deref().filter(|_| stats.connected) {
            let now = Instant::now();
            let interval = self.meter.end(now);
            let report = report::report(&interval, self.settings, stats.unacknowledged as u64, now);
            self.send(Publish::new(topic, report::to_json(&report)), OwnMessage::Report(interval));
        }
    }

    /// Publishes the status if it is not the last one published on this connection. If the connection was lost since then,
    /// the will has replaced the status.
    fn renew_status(&mut self) {
        let state = match self.mode {
            Mode::Run | Mode::Stop { .. } => State::Running,
            Mode::Unsubscribe | Mode::Drain { .. } => State::Draining,
        };
        let stats = self.consumer.stats();
        if stats.connected
            && self.published_status != Some((stats.generation, state))
            && self.publishing.is_empty()
        {
            self.publish_status(state);
        }
    }

    fn publish_status(&mut self, state: State) {
        if let Some(topic) = &self.settings.instance_topic {
            let generation = self.consumer.stats().generation;
            self.send(status::publish(topic, state), OwnMessage::Status { generation, state });
        }
    }

    /// Publishes in the background. Each publish ends within its own deadline, so there are never many.
    fn send(&mut self, publish: Publish, message: OwnMessage) {
        let consumer = Arc::clone(&self.consumer);
        self.publishing.spawn(async move {
            let error = consumer.publish(publish).await.err();
            PublishEnd { message, error }
        });
    }

    fn note_publish(&mut self, ended: Result<PublishEnd, JoinError>) {
        let PublishEnd { message, error } = match ended {
            Ok(end) => end,
            Err(error) => return tracing::debug!(%error, "not sent"),
        };
        if let Some(error) = &error {
            tracing::debug!(error = %error_chain(error), "not sent");
        }
        match (message, error) {
            (OwnMessage::Status { generation, state }, None) => {
                self.published_status = Some((generation, state));
            }
            (OwnMessage::Report(interval), Some(_)) => self.meter.carry_over(&interval),
            // The status is published again anyway.
            (OwnMessage::Status { .. }, Some(_)) | (OwnMessage::Report(_), None) => {}
        }
    }

    /// When the batch must be closed because of its age. While another one is being written, it need not be.
    fn closes_at(&self) -> Option<Instant> {
        let opened_at = self.batch.opened_at.filter(|_| self.writing.is_empty())?;
        Some(opened_at + self.settings.batch_wait_max)
    }

    fn is_finished(&self) -> bool {
        let is_idle = self.batch.items.is_empty() && self.writing.is_empty();
        match &self.mode {
            Mode::Run | Mode::Unsubscribe => false,
            Mode::Stop { until } => is_idle || Instant::now() >= *until,
            Mode::Drain { quiet_since, .. } => {
                let stats = self.consumer.stats();
                let is_quiet = quiet_since.elapsed() >= self.settings.drain_quiet;
                is_idle && is_quiet && stats.connected && stats.unacknowledged == 0 && stats.waiting == 0
            }
        }
    }

    /// Quiet time counts only on one connection: the silence of a lost connection means nothing, and the next one starts by
    /// delivering what was not acknowledged.
    fn watch_connection(&mut self) {
        let stats = self.consumer.stats();
        if let Mode::Drain { quiet_since, generation } = &mut self.mode
            && (!stats.connected || stats.generation != *generation)
        {
            *quiet_since = Instant::now();
            *generation = stats.generation;
        }
    }

    async fn shut_down(mut self) -> Result<(), Failure> {
        let is_drained = matches!(self.mode, Mode::Drain { .. });
        if !self.writing.is_empty() || !self.batch.items.is_empty() {
            tracing::warn!(
                "the store is unavailable: the last messages are not acknowledged and will be delivered again"
            );
        }
        self.writing.clear();
        let remaining = match self.mode {
            Mode::Stop { until } => until.saturating_duration_since(Instant::now()),
            Mode::Run | Mode::Unsubscribe | Mode::Drain { .. } => STOP_TIMEOUT,
        };
        self.receipts.finish(remaining).await;
        self.report();
        self.publish_status(if is_drained { State::Drained } else { State::Stopped });
        let sent = timeout(LAST_MESSAGES_TIMEOUT, async {
            while let Some(sent) = self.publishing.join_next().await {
                self.note_publish(sent);
            }
            if let Some(announcer) = &mut self.announcer {
                announcer.finish(&self.consumer).await;
            }
        });
        if sent.await.is_err() {
            tracing::warn!("the broker does not answer, the last report and status may be lost");
        }
        let unreported = self.meter.unreported();
        if unreported.messages() > 0 && self.settings.report_topic.is_some() {
            let Interval { stored, duplicates, rejected, .. } = unreported;
            tracing::warn!(
                stored,
                duplicates,
                rejected,
                "messages are missing from the reports, because the broker is unavailable"
            );
        }
        failpoint::hit("stream-app.disconnected");
        match self.consumer.disconnect(is_drained).await {
            Ok(()) => tracing::info!(session_ended = is_drained, "ended"),
            // If it was a drain, the session is empty and expires. If another process has taken the session over, it is
            // no longer ours.
            Err(error) => tracing::warn!(error = %error_chain(&error), "the session could not be ended"),
        }
        Ok(())
    }

    fn ended_by_broker(&self) -> Failure {
        match self.consumer.ended() {
            Some(error) => Failure::Temporary(error_chain(&error)),
            None => Failure::Internal("the connection has ended without a reason".to_owned()),
        }
    }
}

impl Batch {
    fn push(&mut self, item: Item, now: Instant) {
        self.bytes += item.message.payload.len();
        self.items.push(item);
        self.opened_at.get_or_insert(now);
    }

    fn is_full(&self, settings: &StreamAppSettings) -> bool {
        self.items.len() >= settings.batch_messages_max || self.bytes >= BATCH_BYTES_MAX
    }
}

/// Waits until an announcement has been sent.
async fn sent(announcer: &mut Option<Announcer>) {
    match announcer {
        Some(announcer) => announcer.sent().await,
        None => std::future::pending().await,
    }
}

/// With key ids the first message of a key stays, so no batch may overtake another.
fn writes_max(settings: &StreamAppSettings) -> usize {
    if settings.ids == Ids::Key { 1 } else { WRITES_MAX }
}

/// Ends the subscription, however long the broker is unavailable.
async fn unsubscribe(consumer: Arc<Consumer>) {
    while let Err(error) = consumer.unsubscribe().await {
        tracing::debug!(error = %error_chain(&error), "not unsubscribed yet");
        tokio::time::sleep(UNSUBSCRIBE_RETRY_AFTER).await;
    }
}
