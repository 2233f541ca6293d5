//! Sends what the scheduler says, and tells it what became of that.
//!
//! One task. It holds what is on its way to the broker, and nothing else: a bounded number of messages and bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mysimbdp_broker::{
    BrokerError, BrokerLink, ConnectOptions, Incoming, LinkEvent, Publish, Reach, SIGNAL_BYTES_MAX, Session,
};
use mysimbdp_model::message::Receipt;
use mysimbdp_model::source;
use mysimbdp_platform::{failpoint, random};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep_until;

use crate::error::EdgeError;
use crate::outbox::{Found, Outbox};
use crate::resend::{Policy, ResendScheduler};
use crate::settings::Settings;

/// Messages on their way to the broker: as many as a connection takes without an acknowledgement.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes on their way; one message may go beyond.
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// After a failure nothing is sent for a while: it doubles from the first to the last of these.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How far the publisher is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub received_through: u64,
    pub connected: bool,
}

pub struct Publisher {
    settings: Arc<Settings>,
    outbox: Arc<Outbox>,
    /// Newer than what the scheduler was made with, if anything has been accepted since.
    accepted: watch::Receiver<u64>,
    scheduler: ResendScheduler,
    session: Session,
    topic: String,
    in_flight: JoinSet<PublishResult>,
    in_flight_bytes: usize,
    failures: u32,
    paused_until: Option<Instant>,
    /// What has been complained about since it last went well: each once.
    told: Told,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Told {
    refused: bool,
    unheard: bool,
    unreadable: bool,
    receipt: bool,
}

/// A message on its way: one number, or a run of numbers that are gone.
#[derive(Clone, Copy)]
struct Flight {
    first: u64,
    last: u64,
    bytes: usize,
}

type PublishResult = (Flight, Result<Reach, BrokerError>);

/// The session with the broker, wherever that is now. That there is none yet is no error, a wrong address is.
fn session(settings: &Arc<Settings>, epoch: u64) -> Result<Session, BrokerError> {
    let Settings { client, source, topics, keep_alive, .. } = &**settings;
    let options = ConnectOptions {
        keep_alive: *keep_alive,
        message_bytes_max: SIGNAL_BYTES_MAX,
        // The outbox is locked, so nobody else has this epoch.
        ..ConnectOptions::new("", format!("edge-{client}-{source}-{epoch:016x}"))
    };
    let receipts = vec![topics.receipts(client, source)];
    let locate = {
        let settings = Arc::clone(settings);
        move || settings.broker.find().map_err(|error| mysimbdp_model::error_chain(&error))
    };
    let mut session = Session::new(locate, options, receipts);
    session.follow()?;
    Ok(session)
}

impl Publisher {
    /// # Errors
    ///
    /// The broker's address is none.
    pub fn new(settings: Arc<Settings>, outbox: Arc<Outbox>) -> Result<Self, EdgeError> {
        let policy = Policy { window: settings.window_messages, resend_after: settings.resend_after };
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
            paused_until: None,
            told: Told::default(),
            progress: watch::Sender::new(Progress { received_through, connected: false }),
        })
    }

    pub fn watch_progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Publishes until it is told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.publish_due().await;
            let wake_at = self.wake_at();
            tokio::select! {
                // Whoever could stop it has gone.
                changed = stop.changed() => if changed.is_err() { break },
                Ok(()) = self.accepted.changed() => self.scheduler.accept(*self.accepted.borrow_and_update()),
                Some(result) = self.in_flight.join_next() => self.published(result),
                event = self.session.next() => self.event(event).await,
                () = sleep_until(wake_at.unwrap_or_else(Instant::now).into()), if wake_at.is_some() => {}
            }
            while let Some(result) = self.in_flight.try_join_next() {
                self.published(result);
            }
        }
        self.session.close().await;
        self.in_flight.shutdown().await;
    }

    /// When something is to be done although nothing happens. Without a connection there is nothing to do.
    fn wake_at(&self) -> Option<Instant> {
        self.session.link()?;
        match self.paused_until {
            Some(paused_until) => Some(paused_until),
            // There is no room: a result comes first.
            None if self.in_flight.len() >= IN_FLIGHT_MAX || self.in_flight_bytes >= IN_FLIGHT_BYTES_MAX => {
                None
            }
            None => self.scheduler.wake_at(),
        }
    }

    /// Sends as much as there is room for.
    async fn publish_due(&mut self) {
        let Some(link) = self.session.link().cloned() else { return };
        let now = Instant::now();
        if self.paused_until.is_some_and(|paused_until| now < paused_until) {
            return;
        }
        self.paused_until = None;
        while self.paused_until.is_none() && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX {
            let room = IN_FLIGHT_MAX.saturating_sub(self.in_flight.len());
            let Some((first, last)) = self.scheduler.take(now, room) else { break };
            let flying_through = self.load(&link, first, last).await;
            (flying_through + 1..=last).for_each(|number| self.scheduler.failed(number));
        }
    }

    /// Reads a run of numbers and sends what there is of it. Returns the last number that is on its way.
    async fn load(&mut self, link: &BrokerLink, first: u64, last: u64) -> u64 {
        let outbox = Arc::clone(&self.outbox);
        let bytes_max = IN_FLIGHT_BYTES_MAX - self.in_flight_bytes;
        let found = tokio::task::spawn_blocking(move || outbox.read(first, last, bytes_max)).await;
        let reason = match found {
            Ok(Ok(found)) => {
                self.told.unreadable = false;
                return self.fly_all(link, first, found);
            }
            Ok(Err(error)) => mysimbdp_model::error_chain(&error),
            Err(error) => mysimbdp_model::error_chain(&error),
        };
        if !std::mem::replace(&mut self.told.unreadable, true) {
            tracing::warn!(error = reason, "outbox cannot be read, trying again");
        }
        self.rest();
        first - 1
    }

    fn fly_all(&mut self, link: &BrokerLink, first: u64, found: Found) -> u64 {
        match found {
            Found::Entries(entries) => {
                let mut through = first - 1;
                for entry in entries {
                    through = entry.number;
                    let flight = Flight { first: through, last: through, bytes: entry.payload.len() };
                    self.fly(link, flight, entry.payload, (source::SEQUENCE, through.to_string()));
                }
                through
            }
            Found::Gone { last } => {
                tracing::error!(
                    first,
                    last,
                    "outbox no longer has numbers that the platform has not received"
                );
                let gone = (source::GONE, format!("{first}-{last}"));
                self.fly(link, Flight { first, last, bytes: 0 }, Bytes::new(), gone);
                last
            }
        }
    }

    fn fly(&mut self, link: &BrokerLink, flight: Flight, payload: Bytes, what: (&str, String)) {
        let numbered = [
            (source::SOURCE, self.settings.source.to_string()),
            (source::EPOCH, self.outbox.epoch.to_string()),
            what,
        ];
        let user_properties = numbered.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let publish = Publish { user_properties, ..Publish::new(&*self.topic, payload) };
        let link = link.clone();
        self.in_flight_bytes += flight.bytes;
        self.in_flight.spawn(async move { (flight, link.publish_and_see(publish).await) });
    }

    fn published(&mut self, result: Result<PublishResult, JoinError>) {
        let (flight, result) = match result {
            Ok(result) => result,
            // Its number flies for ever; a flight does nothing that could panic.
            Err(error) => return tracing::error!(error = %error, "a flight has failed"),
        };
        self.in_flight_bytes -= flight.bytes;
        let now = Instant::now();
        match result {
            Ok(Reach::Somebody) => {
                failpoint::hit("edge.published");
                self.failures = 0;
                (self.told.refused, self.told.unheard) = (false, false);
                (flight.first..=flight.last).for_each(|number| self.scheduler.sent(number, now));
            }
            // The stream is not there yet, or has not subscribed again: it would be lost, as without a broker.
            Ok(Reach::Nobody) => {
                if !std::mem::replace(&mut self.told.unheard, true) {
                    tracing::warn!(topic = self.topic, "nobody has subscribed to the topic, waiting");
                }
                (flight.first..=flight.last).for_each(|number| self.scheduler.failed(number));
                self.rest();
            }
            // It will not be taken at once either: its next turn comes with its time, as if it had been lost.
            Err(error @ (BrokerError::TooLarge { .. } | BrokerError::Refused { .. })) => {
                if !std::mem::replace(&mut self.told.refused, true) {
                    let error = mysimbdp_model::error_chain(&error);
                    tracing::warn!(
                        error,
                        number = flight.first,
                        "broker does not take a message, trying again"
                    );
                }
                (flight.first..=flight.last).for_each(|number| self.scheduler.sent(number, now));
            }
            Err(_) => {
                (flight.first..=flight.last).for_each(|number| self.scheduler.failed(number));
                self.rest();
            }
        }
    }

    /// Once for all that fails together.
    fn rest(&mut self) {
        if self.paused_until.is_some() {
            return;
        }
        let rest = PAUSE_FIRST * (1 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        self.paused_until = Some(Instant::now() + rest.min(PAUSE_MAX).mul_f64(random::jitter()));
    }

    async fn event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connected => {
                self.failures = 0;
                self.paused_until = None;
                self.scheduler.connected(Instant::now());
                self.progress.send_modify(|progress| progress.connected = true);
            }
            LinkEvent::Disconnected { .. } => {
                self.progress.send_modify(|progress| progress.connected = false)
            }
            LinkEvent::Message(message) => self.receipt(&message).await,
        }
    }

    async fn receipt(&mut self, message: &Incoming) {
        let Settings { client, source, .. } = &*self.settings;
        let fault = match Receipt::parse(&message.payload) {
            // Another epoch is another outbox of the same name: none of our business.
            Ok(receipt) if receipt.epoch != self.outbox.epoch => return,
            Ok(receipt) if (&receipt.client_id, &receipt.source) != (client, source) => {
                Some("it names another client or source".to_owned())
            }
            Ok(receipt) => {
                let never_sent = self.scheduler.receipt(&receipt, Instant::now());
                failpoint::hit("edge.receipt-heard");
                self.release().await;
                never_sent.map(|number| {
                    format!(
                        "it tells of number {number}, which was never sent: somebody else uses this epoch, or the outbox is \
                         an old copy; if so, take its directory away to begin a new epoch"
                    )
                })
            }
            Err(error) => Some(mysimbdp_model::error_chain(&error)),
        };
        match fault {
            None => self.told.receipt = false,
            Some(reason) if !std::mem::replace(&mut self.told.receipt, true) => {
                tracing::error!(topic = message.topic, reason, "receipt is not what the platform should say");
            }
            Some(_) => {}
        }
    }

    /// What is received leaves the outbox.
    async fn release(&mut self) {
        let through = self.scheduler.received_through();
        if through == self.progress.borrow().received_through {
            return;
        }
        let outbox = Arc::clone(&self.outbox);
        let released = tokio::task::spawn_blocking(move || outbox.release(through)).await;
        if let Ok(Err(error)) = released {
            tracing::warn!(error = %mysimbdp_model::error_chain(&error), "outbox keeps what is received until the next start");
        }
        self.progress.send_modify(|progress| progress.received_through = through);
    }
}
