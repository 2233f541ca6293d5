//! Sends the numbers that the scheduler selects, and reports the results to it.
//!
//! A single task. It holds only the messages that are in flight to the broker: a bounded number of messages and bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mysimbdp_broker::{
    BrokerError, BrokerLink, ConnectOptions, FollowingLink, Incoming, LinkEvent, Publish, Reach,
    SIGNAL_BYTES_MAX,
};
use mysimbdp_model::message::Receipt;
use mysimbdp_model::source;
use mysimbdp_platform::{failpoint, random};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep_until;

use crate::error::EdgeError;
use crate::outbox::{Outbox, ReadResult};
use crate::resend::{ResendPolicy, ResendScheduler};
use crate::settings::EdgeSettings;
use crate::statistics::PublishCounts;

/// How many messages may be in flight to the broker: as many as a connection takes without an acknowledgement.
const IN_FLIGHT_MAX: usize = 64;
/// How many bytes may be in flight; one message may exceed this.
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// After a failure nothing is sent for a while. The cooldown doubles with each failure, from this to [`COOLDOWN_MAX`].
const COOLDOWN_FIRST: Duration = Duration::from_millis(100);
const COOLDOWN_MAX: Duration = Duration::from_secs(5);

/// The publisher's progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishProgress {
    pub received_through: u64,
    pub connected: bool,
}

pub struct Publisher {
    settings: Arc<EdgeSettings>,
    outbox: Arc<Outbox>,
    /// Has changed if anything was accepted since the scheduler was created.
    accepted: watch::Receiver<u64>,
    scheduler: ResendScheduler,
    session: FollowingLink,
    topic: String,
    in_flight: JoinSet<PublishResult>,
    in_flight_bytes: usize,
    failures: u32,
    cooldown_until: Option<Instant>,
    /// Which problems have been logged since the last success, so that each is logged once.
    logged: Logged,
    progress: watch::Sender<PublishProgress>,
    counts: Arc<PublishCounts>,
}

#[derive(Default)]
struct Logged {
    refused: bool,
    no_subscriber: bool,
    unreadable: bool,
    receipt: bool,
}

/// A message in flight: one number, or a run of numbers that are lost.
#[derive(Clone, Copy)]
struct InFlight {
    first: u64,
    last: u64,
    bytes: usize,
}

type PublishResult = (InFlight, Result<Reach, BrokerError>);

/// Returns a session with the broker at its current address. An invalid address is an error, a missing broker is not.
fn session(settings: &Arc<EdgeSettings>, epoch: u64) -> Result<FollowingLink, BrokerError> {
    let EdgeSettings { client, source, topics, keep_alive, .. } = &**settings;
    let options = ConnectOptions {
        keep_alive: *keep_alive,
        message_bytes_max: SIGNAL_BYTES_MAX,
        // The outbox is locked, so no other process uses this epoch.
        ..ConnectOptions::new("", format!("edge-{client}-{source}-{epoch:016x}"))
    };
    let receipts = vec![topics.receipts(client, source)];
    let locate = {
        let settings = Arc::clone(settings);
        move || settings.broker.find().map_err(|error| mysimbdp_model::error_chain(&error))
    };
    let mut session = FollowingLink::new(locate, options, receipts);
    session.follow()?;
    Ok(session)
}

impl Publisher {
    /// # Errors
    ///
    /// The broker's address is invalid.
    pub fn new(settings: Arc<EdgeSettings>, outbox: Arc<Outbox>) -> Result<Self, EdgeError> {
        let policy = ResendPolicy { window: settings.window_messages, resend_after: settings.resend_after };
        let mut accepted = outbox.watch_accepted();
        let scheduler =
            ResendScheduler::new(policy, outbox.oldest(), *accepted.borrow_and_update(), Instant::now());
        let received_through = scheduler.received_through();
        Ok(Self {
            session: session(&settings, outbox.epoch)?,
            topic: settings.data_topic(),
            settings,
            outbox,
            accepted,
            scheduler,
            in_flight: JoinSet::new(),
            in_flight_bytes: 0,
            failures: 0,
            cooldown_until: None,
            logged: Logged::default(),
            progress: watch::Sender::new(PublishProgress { received_through, connected: false }),
            counts: Arc::default(),
        })
    }

    pub fn counts(&self) -> Arc<PublishCounts> {
        Arc::clone(&self.counts)
    }

    pub fn watch_progress(&self) -> watch::Receiver<PublishProgress> {
        self.progress.subscribe()
    }

    /// Publishes until `stop` is set.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.publish_due().await;
            let wake_at = self.wake_at();
            tokio::select! {
                // The handle that could stop it was dropped.
                changed = stop.changed() => if changed.is_err() { break },
                Ok(()) = self.accepted.changed() => self.scheduler.accept(*self.accepted.borrow_and_update()),
                Some(result) = self.in_flight.join_next() => self.published(result),
                event = self.session.next() => self.handle_event(event).await,
                () = sleep_until(wake_at.unwrap_or_else(Instant::now).into()), if wake_at.is_some() => {}
            }
            while let Some(result) = self.in_flight.try_join_next() {
                self.published(result);
            }
        }
        self.session.close().await;
        self.in_flight.shutdown().await;
    }

    /// When to continue although no event has arrived. `None` without a connection, because then there is nothing to do.
    fn wake_at(&self) -> Option<Instant> {
        self.session.link()?;
        match self.cooldown_until {
            Some(cooldown_until) => Some(cooldown_until),
            // No capacity is left, so a result must come first.
            None if self.in_flight.len() >= IN_FLIGHT_MAX || self.in_flight_bytes >= IN_FLIGHT_BYTES_MAX => {
                None
            }
            None => self.scheduler.wake_at(),
        }
    }

    /// Sends as many messages as the in-flight limits allow.
    async fn publish_due(&mut self) {
        let Some(link) = self.session.link().cloned() else { return };
        let now = Instant::now();
        if self.cooldown_until.is_some_and(|cooldown_until| now < cooldown_until) {
            return;
        }
        self.cooldown_until = None;
        while self.cooldown_until.is_none() && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX {
            let capacity = IN_FLIGHT_MAX.saturating_sub(self.in_flight.len());
            let Some((first, last)) = self.scheduler.take(now, capacity) else { break };
            let in_flight_through = self.publish_run(&link, first, last).await;
            (in_flight_through + 1..=last).for_each(|number| self.scheduler.failed(number));
        }
    }

    /// Reads a run of numbers and sends the messages that are found. Returns the last number that is in flight.
    async fn publish_run(&mut self, link: &BrokerLink, first: u64, last: u64) -> u64 {
        let outbox = Arc::clone(&self.outbox);
        let bytes_max = IN_FLIGHT_BYTES_MAX - self.in_flight_bytes;
        let found = tokio::task::spawn_blocking(move || outbox.read(first, last, bytes_max)).await;
        let reason = match found {
            Ok(Ok(found)) => {
                self.logged.unreadable = false;
                return self.publish_found(link, first, found);
            }
            Ok(Err(error)) => mysimbdp_model::error_chain(&error),
            Err(error) => mysimbdp_model::error_chain(&error),
        };
        if !std::mem::replace(&mut self.logged.unreadable, true) {
            tracing::warn!(error = reason, "cannot read the outbox, trying again");
        }
        self.start_cooldown();
        first - 1
    }

    fn publish_found(&mut self, link: &BrokerLink, first: u64, found: ReadResult) -> u64 {
        match found {
            ReadResult::Entries(entries) => {
                let mut through = first - 1;
                for entry in entries {
                    through = entry.number;
                    let in_flight = InFlight { first: through, last: through, bytes: entry.payload.len() };
                    self.start(link, in_flight, entry.payload, (source::SEQUENCE, through.to_string()));
                }
                through
            }
            ReadResult::Lost { last } => {
                tracing::error!(
                    first,
                    last,
                    "outbox no longer has numbers that the platform has not received"
                );
                let lost_numbers = (source::GONE, format!("{first}-{last}"));
                self.start(link, InFlight { first, last, bytes: 0 }, Bytes::new(), lost_numbers);
                last
            }
        }
    }

    fn start(
        &mut self,
        link: &BrokerLink,
        in_flight: InFlight,
        payload: Bytes,
        number_property: (&str, String),
    ) {
        let numbered = [
            (source::SOURCE, self.settings.source.to_string()),
            (source::EPOCH, self.outbox.epoch.to_string()),
            number_property,
        ];
        let user_properties = numbered.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let publish = Publish { user_properties, ..Publish::new(&*self.topic, payload) };
        let link = link.clone();
        self.in_flight_bytes += in_flight.bytes;
        self.counts.published.increase();
        self.in_flight.spawn(async move { (in_flight, link.publish_with_reach(publish).await) });
    }

    fn published(&mut self, result: Result<PublishResult, JoinError>) {
        let (in_flight, result) = match result {
            Ok(result) => result,
            // Its number stays in flight forever, but the task contains nothing that could panic.
            Err(error) => return tracing::error!(error = %error, "publish task failed"),
        };
        self.in_flight_bytes -= in_flight.bytes;
        let now = Instant::now();
        match result {
            Ok(Reach::Subscribers) => {
                failpoint::hit("edge.published");
                self.counts.acknowledged.increase();
                self.failures = 0;
                (self.logged.refused, self.logged.no_subscriber) = (false, false);
                (in_flight.first..=in_flight.last).for_each(|number| self.scheduler.sent(number, now));
            }
            // The stream has not started yet, or has not subscribed again, so the message was lost as if there were no broker.
            Ok(Reach::NoSubscribers) => {
                if !std::mem::replace(&mut self.logged.no_subscriber, true) {
                    tracing::warn!(topic = self.topic, "topic has no subscriber, waiting");
                }
                (in_flight.first..=in_flight.last).for_each(|number| self.scheduler.failed(number));
                self.start_cooldown();
            }
            // An immediate retry would be refused as well, so it is sent again later, as if it had been lost.
            Err(error @ (BrokerError::TooLarge { .. } | BrokerError::Refused { .. })) => {
                self.counts.refused.increase();
                if !std::mem::replace(&mut self.logged.refused, true) {
                    let error = mysimbdp_model::error_chain(&error);
                    tracing::warn!(error, number = in_flight.first, "broker refuses a message, trying again");
                }
                (in_flight.first..=in_flight.last).for_each(|number| self.scheduler.sent(number, now));
            }
            Err(_) => {
                (in_flight.first..=in_flight.last).for_each(|number| self.scheduler.failed(number));
                self.start_cooldown();
            }
        }
    }

    /// Sends nothing for a while. Failures during a cooldown do not extend it.
    fn start_cooldown(&mut self) {
        if self.cooldown_until.is_some() {
            return;
        }
        let cooldown = COOLDOWN_FIRST * (1 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        self.cooldown_until = Some(Instant::now() + cooldown.min(COOLDOWN_MAX).mul_f64(random::jitter()));
    }

    async fn handle_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connected => {
                self.counts.connections.increase();
                self.failures = 0;
                self.cooldown_until = None;
                self.scheduler.connected(Instant::now());
                self.progress.send_modify(|progress| progress.connected = true);
            }
            LinkEvent::Disconnected { .. } => {
                self.progress.send_modify(|progress| progress.connected = false)
            }
            LinkEvent::Message(message) => self.handle_receipt(&message).await,
        }
    }

    async fn handle_receipt(&mut self, message: &Incoming) {
        let EdgeSettings { client, source, .. } = &*self.settings;
        let problem = match Receipt::parse(&message.payload) {
            // Another epoch belongs to another outbox with the same source name, so this receipt is not for us.
            Ok(receipt) if receipt.epoch != self.outbox.epoch => return,
            Ok(receipt) if (&receipt.client_id, &receipt.source) != (client, source) => {
                Some("it names another client or source".to_owned())
            }
            Ok(receipt) => {
                let never_sent = self.scheduler.apply_receipt(&receipt, Instant::now());
                failpoint::hit("edge.receipt-handled");
                self.release().await;
                never_sent.map(|number| {
                    format!(
                        "it contains number {number}, which was never sent: another process uses this epoch, or the outbox \
                         is an old copy; if so, move its directory away to begin a new epoch"
                    )
                })
            }
            Err(error) => Some(mysimbdp_model::error_chain(&error)),
        };
        match problem {
            None => self.logged.receipt = false,
            Some(reason) if !std::mem::replace(&mut self.logged.receipt, true) => {
                tracing::error!(topic = message.topic, reason, "invalid receipt");
            }
            Some(_) => {}
        }
    }

    /// Removes received messages from the outbox.
    async fn release(&mut self) {
        let through = self.scheduler.received_through();
        if through == self.progress.borrow().received_through {
            return;
        }
        let outbox = Arc::clone(&self.outbox);
        let released = tokio::task::spawn_blocking(move || outbox.release(through)).await;
        if let Ok(Err(error)) = released {
            tracing::warn!(error = %mysimbdp_model::error_chain(&error), "received messages not removed, they stay in the outbox until the next start");
        }
        self.progress.send_modify(|progress| progress.received_through = through);
    }
}
