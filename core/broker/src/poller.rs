//! The task that serves a connection, and does nothing else: callers who await a full queue in the place where it is
//! emptied would wait forever.
//!
//! Every connection is served by one future from its beginning to its end. It is dropped at the end, and its queue with
//! it, so nothing of a lost connection can get into the next one.

use std::sync::Arc;
use std::time::Duration;

use mysimbdp_platform::backoff::Backoff;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, DisconnectReasonCode, Filter, Packet, PubAckReason, Publish, RetainForwardRule, Subscribe,
    SubscribeReasonCode, UnsubAckReason, Unsubscribe,
};
use rumqttc::v5::{ConnectionError, Event, Request as Asked, StateError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::options::PROTOCOL_PACKET_BYTES_MAX;
use super::pending::{Answer, Pending, Waiter};
use super::shared::{Live, Phase, Shared};
use super::wire::{Arrived, Request};
use super::{BrokerError, Reach};

/// How long the broker may take to acknowledge the subscriptions of a new connection.
const SETUP_DEADLINE: Duration = Duration::from_secs(10);

/// How long the broker may take to read what has been handed over and to close after a DISCONNECT.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(5);

/// A connection that has lived this long was a good one. Longer than the longest back-off, so that two processes which
/// take one client id from each other both count as short-lived.
const STABLE: Duration = Duration::from_secs(15);

/// So many connections in a row that are made at once and soon closed by the broker mean that another process takes
/// the client id over and over. Some brokers give the reason in a form that the library does not read.
const EVICTIONS_MAX: u32 = 5;

/// Takes in what a connection brings. Called from the task that polls, so all but [`Inbox::room`] return at once.
///
/// [`Inbox::room`] may be dropped at any await.
pub(super) trait Inbox: Send + Sync + 'static {
    /// Connected, and all subscriptions are acknowledged.
    fn connected(&self) {}
    fn disconnected(&self, _reason: &str) {}
    /// Returns when there is room for more. While it does not, nothing is read; what is to be sent is sent.
    fn room(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
    fn messages(&self, messages: impl Iterator<Item = Publish>, generation: u64);
    /// Nothing will arrive any more.
    fn ended(&self) {}
}

/// QoS 1; a subscription that the session already holds does not bring the retained messages again.
pub(super) fn subscription(filter: &str) -> Filter {
    Filter { retain_forward_rule: RetainForwardRule::OnNewSubscribe, ..Filter::new(filter, QoS::AtLeastOnce) }
}

pub(super) struct Poller<I> {
    shared: Arc<Shared>,
    inbox: I,
    gives_way: bool,
}

/// How a connection ended.
struct Lost {
    reason: String,
    /// How long it was up; `None` if it never was.
    lived: Option<Duration>,
    cause: Cause,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cause {
    /// The other side closed it, without a reason that could be read.
    Closed,
    /// The broker says that another process has connected with our client id.
    TakenOver,
    Other,
}

impl<I: Inbox> Poller<I> {
    pub(super) fn new(shared: Arc<Shared>, inbox: I, gives_way: bool) -> Self {
        Self { shared, inbox, gives_way }
    }

    /// Connects, again and again, until it is stopped or gives way.
    pub(super) async fn run(self) {
        let end = self.reconnect().await;
        if let BrokerError::TakenOver { client_id, .. } = &end {
            tracing::error!(client_id, "another process uses this client id, giving way");
        }
        self.shared.phase.send_replace(Phase::Ended(end));
        self.inbox.ended();
    }

    async fn reconnect(&self) -> BrokerError {
        let address = self.shared.dialer.address.to_string();
        let shared = Arc::clone(&self.shared);
        let mut backoff = Backoff::default();
        let mut outage = Outage::new(&address);
        let mut evictions = 0;
        loop {
            let lost = tokio::select! {
                lost = self.connection(&mut outage) => Some(lost),
                () = farewell(&shared) => None,
            };
            self.hang_up(lost.as_ref());
            let (Some(lost), false) = (lost, *shared.stop.borrow()) else {
                return BrokerError::Closed { address };
            };
            outage.begins(&lost.reason);
            match lost.lived {
                Some(lived) if lived < STABLE && lost.cause == Cause::Closed => evictions += 1,
                // Not reachable, or connected for long: nobody takes our place.
                _ => evictions = 0,
            }
            if self.gives_way && (lost.cause == Cause::TakenOver || evictions >= EVICTIONS_MAX) {
                return BrokerError::TakenOver { address, client_id: shared.dialer.client_id.clone() };
            }
            if lost.lived.is_some_and(|lived| lived >= STABLE) {
                backoff.reset();
            }
            tokio::select! {
                () = sleep(backoff.wait()) => {}
                () = stopped(&shared) => return BrokerError::Closed { address },
            }
        }
    }

    /// Makes one connection and polls it to its end.
    async fn connection(&self, outage: &mut Outage<'_>) -> Lost {
        let (requests, mut wire, accepted) = match self.shared.dialer.dial().await {
            Ok(dialed) => dialed,
            Err(error) => {
                let (reason, cause) = why(&error);
                return Lost { reason, lived: None, cause };
            }
        };
        self.begin(requests, &accepted);
        let since = Instant::now();
        let silence_max = self.shared.dialer.silence_max();
        let mut arrived = Arrived::default();
        let mut ready = false;
        let (reason, cause) = loop {
            if !ready && self.is_set_up() {
                ready = true;
                self.shared.phase.send_replace(Phase::Connected);
                outage.ends();
                self.inbox.connected();
            }
            if !ready && since.elapsed() > SETUP_DEADLINE {
                break ("the broker does not acknowledge the subscriptions".to_owned(), Cause::Other);
            }
            match timeout(silence_max, wire.step(&mut arrived, self.inbox.room())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => break why(&error),
                Err(_) => break ("the broker takes no more data".to_owned(), Cause::Other),
            }
            self.take_in(&mut arrived.messages);
            if let Err(reason) = arrived.events.drain(..).try_for_each(|event| self.handle(event)) {
                break (reason, Cause::Other);
            }
        };
        Lost { reason, lived: Some(since.elapsed()), cause }
    }

    /// The broker has accepted us: subscribes, always. It may have lost the session, and to subscribe again is harmless.
    fn begin(&self, requests: mpsc::Sender<Request>, accepted: &ConnAck) {
        let packet_bytes_max = accepted.properties.as_ref().and_then(|properties| properties.max_packet_size);
        let mut live = Live {
            requests,
            packet_bytes_max: packet_bytes_max.unwrap_or(PROTOCOL_PACKET_BYTES_MAX) as usize,
            publishes: Pending::default(),
            subscribes: Pending::default(),
            unsubscribes: Pending::default(),
            setup: 0,
            unacknowledged: 0,
        };
        let mut state = self.shared.state();
        state.generation += 1;
        // Requests fit in: the queue is empty. One that did not would show as a connection that never gets ready.
        if !state.wanted.is_empty() {
            live.setup += 1;
            let filters = state.wanted.iter().map(|filter| subscription(filter));
            if live.request(Asked::Subscribe(Subscribe::new_many(filters, None))) {
                live.subscribes.handed_over(Waiter::Setup);
            }
        }
        for filter in &state.unwanted {
            live.setup += 1;
            if live.request(Asked::Unsubscribe(Unsubscribe::new(filter, None))) {
                live.unsubscribes.handed_over(Waiter::Setup);
            }
        }
        state.live = Some(live);
    }

    fn is_set_up(&self) -> bool {
        self.shared.state().live.as_ref().is_some_and(|live| live.setup == 0)
    }

    fn take_in(&self, messages: &mut Vec<Publish>) {
        if messages.is_empty() {
            return;
        }
        let to_acknowledge = messages.iter().filter(|message| message.qos == QoS::AtLeastOnce).count();
        let generation = {
            let mut state = self.shared.state();
            if let Some(live) = &mut state.live {
                live.unacknowledged += to_acknowledge;
            }
            state.generation
        };
        self.inbox.messages(messages.drain(..), generation);
    }

    /// An error ends the connection.
    fn handle(&self, event: Event) -> Result<(), String> {
        let mut state = self.shared.state();
        let Some(live) = &mut state.live else { return Ok(()) };
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => live.publishes.written(id),
            Event::Outgoing(Outgoing::Subscribe(id)) => live.subscribes.written(id),
            Event::Outgoing(Outgoing::Unsubscribe(id)) => live.unsubscribes.written(id),
            Event::Incoming(Packet::PubAck(ack)) => {
                let given = match ack.reason {
                    PubAckReason::Success => Ok(Reach::Somebody),
                    PubAckReason::NoMatchingSubscribers => Ok(Reach::Nobody),
                    reason => Err(format!("{reason:?}")),
                };
                let waiter = live.publishes.answered(ack.pkid);
                return answer(live, waiter, given);
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                let mut codes = ack.return_codes.iter();
                let refused = codes.find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                let waiter = live.subscribes.answered(ack.pkid);
                let given = refused.map_or(Ok(Reach::Somebody), |reason| Err(format!("{reason:?}")));
                return answer(live, waiter, given);
            }
            Event::Incoming(Packet::UnsubAck(ack)) => {
                let mut reasons = ack.reasons.iter();
                let refused = reasons.find(|reason| {
                    !matches!(reason, UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted)
                });
                let waiter = live.unsubscribes.answered(ack.pkid);
                let given = refused.map_or(Ok(Reach::Somebody), |reason| Err(format!("{reason:?}")));
                return answer(live, waiter, given);
            }
            _ => {}
        }
        Ok(())
    }

    /// Forgets the connection, which tells everybody who waits on it.
    fn hang_up(&self, lost: Option<&Lost>) {
        self.shared.state().live = None;
        let was_ready = self.shared.phase.send_if_modified(|phase| {
            let was_ready = matches!(phase, Phase::Connected);
            *phase = Phase::Connecting;
            was_ready
        });
        if was_ready {
            self.inbox.disconnected(lost.map_or("closed by this side", |lost| &lost.reason));
        }
    }
}

fn answer(live: &mut Live, waiter: Option<Waiter>, given: Answer) -> Result<(), String> {
    match (waiter, given) {
        (Some(Waiter::Caller { answer, .. }), given) => {
            // The caller may have given up waiting.
            let _ = answer.send(given);
        }
        (Some(Waiter::Setup), Ok(_)) => live.setup -= 1,
        (Some(Waiter::Setup), Err(reason)) => {
            return Err(format!("the broker refuses the subscription: {reason}"));
        }
        (None, _) => {}
    }
    Ok(())
}

pub(super) fn why(error: &ConnectionError) -> (String, Cause) {
    match error {
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => ("another process has connected with this client id".to_owned(), Cause::TakenOver),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            ("the broker closed the connection".to_owned(), Cause::Closed)
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            ("the broker no longer answers".to_owned(), Cause::Other)
        }
        // A reset: it closed while something of ours was on its way.
        ConnectionError::MqttState(StateError::Io(_)) => (mysimbdp_model::error_chain(error), Cause::Closed),
        error => (mysimbdp_model::error_chain(error), Cause::Other),
    }
}

async fn stopped(shared: &Shared) {
    // The sender is in `shared`, so it cannot be gone.
    let _ = shared.stop.subscribe().wait_for(|stop| *stop).await;
}

/// Once stopped, sends DISCONNECT behind all that has been handed over. The broker answers by closing, which ends the
/// connection; this is the end of the patience with it.
async fn farewell(shared: &Shared) {
    stopped(shared).await;
    let disconnecting = shared.state().live.as_ref().is_some_and(|live| live.request(Asked::Disconnect));
    if disconnecting {
        sleep(FAREWELL_DEADLINE).await;
    }
}

/// Says once that the broker is away, and once that it is back.
struct Outage<'a> {
    address: &'a str,
    since: Option<Instant>,
}

impl<'a> Outage<'a> {
    fn new(address: &'a str) -> Self {
        Self { address, since: None }
    }

    fn begins(&mut self, reason: &str) {
        if self.since.is_none() {
            tracing::warn!(address = self.address, reason, "no connection to the broker, trying again");
            self.since = Some(Instant::now());
        }
    }

    fn ends(&mut self) {
        match self.since.take() {
            Some(since) => {
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!(address = self.address, seconds, "connected to the broker again");
            }
            None => tracing::info!(address = self.address, "connected to the broker"),
        }
    }
}
