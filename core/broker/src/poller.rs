//! The task that serves a connection, and does nothing else: if it waited for a full queue that only it empties, it would
//! wait forever.
//!
//! Each connection is served by one future from beginning to end. The future is dropped at the end, together with its
//! queue, so nothing of a lost connection can get into the next one.

use std::sync::Arc;
use std::time::Duration;

use mysimbdp_platform::backoff::Backoff;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, DisconnectReasonCode, Filter, Packet, PubAckReason, Publish, RetainForwardRule, Subscribe,
    SubscribeReasonCode, UnsubAckReason, Unsubscribe,
};
use rumqttc::v5::{ConnectionError, Event, Request as ClientRequest, StateError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::options::PROTOCOL_PACKET_BYTES_MAX;
use super::pending::{Answer, Pending, Waiter};
use super::shared::{Live, Phase, Shared};
use super::wire::{Arrived, Request};
use super::{BrokerError, Reach};

/// How long the broker may take to acknowledge the subscriptions of a new connection.
const SETUP_DEADLINE: Duration = Duration::from_secs(10);

/// How long the broker may take to read the submitted requests and to close the connection after a DISCONNECT.
const DISCONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A connection that lasts at least this long counts as stable. It is longer than the longest back-off, so that both of
/// two processes that take one client id from each other count as short-lived.
const STABLE_UPTIME: Duration = Duration::from_secs(15);

/// This many successive connections that succeed at once and are soon closed by the broker mean that another process
/// keeps taking over the client id. Some brokers give the reason in a form that the library does not read.
const EVICTIONS_MAX: u32 = 5;

/// Receives what arrives on a connection. Called from the task that serves it, so everything except
/// [`Inbox::wait_for_capacity`] returns at once.
///
/// [`Inbox::wait_for_capacity`] may be dropped at any await.
pub(super) trait Inbox: Send + Sync + 'static {
    /// Connected, and all subscriptions are acknowledged.
    fn connected(&self) {}
    fn disconnected(&self, _reason: &str) {}
    /// Returns when there is capacity for more. Until then nothing is read, but requests are still sent.
    fn wait_for_capacity(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
    fn messages(&self, messages: impl Iterator<Item = Publish>, generation: u64);
    /// Nothing more will arrive.
    fn ended(&self) {}
}

/// Returns a subscription with QoS 1; one that the session already holds does not deliver the retained messages again.
pub(super) fn subscription(filter: &str) -> Filter {
    Filter { retain_forward_rule: RetainForwardRule::OnNewSubscribe, ..Filter::new(filter, QoS::AtLeastOnce) }
}

pub(super) struct Poller<I> {
    shared: Arc<Shared>,
    inbox: I,
    ends_if_taken_over: bool,
}

/// How a connection ended.
struct Lost {
    reason: String,
    /// How long it was up; `None` if it never was.
    uptime: Option<Duration>,
    cause: Cause,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cause {
    /// The broker closed it, without a reason that could be read.
    Closed,
    /// The broker reports that another process has connected with our client id.
    TakenOver,
    Other,
}

impl<I: Inbox> Poller<I> {
    pub(super) fn new(shared: Arc<Shared>, inbox: I, ends_if_taken_over: bool) -> Self {
        Self { shared, inbox, ends_if_taken_over }
    }

    /// Connects, again and again, until it is stopped or gives way.
    pub(super) async fn run(self) {
        let end = self.reconnect().await;
        if let BrokerError::TakenOver { client_id, .. } = &end {
            tracing::error!(client_id, "another process uses this client id, disconnecting for good");
        }
        self.shared.phase.send_replace(Phase::Ended(end));
        self.inbox.ended();
    }

    async fn reconnect(&self) -> BrokerError {
        let address = self.shared.dialer.address.to_string();
        let shared = Arc::clone(&self.shared);
        let mut backoff = Backoff::default();
        let mut outage = ConnectionOutage::new(&address);
        let mut evictions = 0;
        loop {
            let lost = tokio::select! {
                lost = self.connection(&mut outage) => Some(lost),
                () = disconnect_when_stopped(&shared) => None,
            };
            self.drop_connection(lost.as_ref());
            let (Some(lost), false) = (lost, *shared.stop.borrow()) else {
                return BrokerError::Closed { address };
            };
            outage.begins(&lost.reason);
            match lost.uptime {
                Some(uptime) if uptime < STABLE_UPTIME && lost.cause == Cause::Closed => evictions += 1,
                // Not reachable, or connected for long: nobody else uses our client id.
                _ => evictions = 0,
            }
            if self.ends_if_taken_over && (lost.cause == Cause::TakenOver || evictions >= EVICTIONS_MAX) {
                return BrokerError::TakenOver { address, client_id: shared.dialer.client_id.clone() };
            }
            if lost.uptime.is_some_and(|uptime| uptime >= STABLE_UPTIME) {
                backoff.reset();
            }
            tokio::select! {
                () = sleep(backoff.wait()) => {}
                () = stopped(&shared) => return BrokerError::Closed { address },
            }
        }
    }

    /// Makes one connection and serves it until it ends.
    async fn connection(&self, outage: &mut ConnectionOutage<'_>) -> Lost {
        let (requests, mut wire, accepted) = match self.shared.dialer.dial().await {
            Ok(dialed) => dialed,
            Err(error) => {
                let (reason, cause) = explain(&error);
                return Lost { reason, uptime: None, cause };
            }
        };
        self.set_up(requests, &accepted);
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
            match timeout(silence_max, wire.step(&mut arrived, self.inbox.wait_for_capacity())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => break explain(&error),
                Err(_) => break ("the broker accepts no more data".to_owned(), Cause::Other),
            }
            self.deliver(&mut arrived.messages);
            if let Err(reason) = arrived.events.drain(..).try_for_each(|event| self.handle(event)) {
                break (reason, Cause::Other);
            }
        };
        Lost { reason, uptime: Some(since.elapsed()), cause }
    }

    /// Starts on an accepted connection. Always subscribes: the broker may have lost the session, and subscribing again is
    /// harmless.
    fn set_up(&self, requests: mpsc::Sender<Request>, accepted: &ConnAck) {
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
        // The requests fit: the queue is empty. One that did not would show as a connection that never becomes ready.
        if !state.desired.is_empty() {
            live.setup += 1;
            let filters = state.desired.iter().map(|filter| subscription(filter));
            if live.request(ClientRequest::Subscribe(Subscribe::new_many(filters, None))) {
                live.subscribes.submitted(Waiter::Setup);
            }
        }
        for filter in &state.revoked {
            live.setup += 1;
            if live.request(ClientRequest::Unsubscribe(Unsubscribe::new(filter, None))) {
                live.unsubscribes.submitted(Waiter::Setup);
            }
        }
        state.live = Some(live);
    }

    fn is_set_up(&self) -> bool {
        self.shared.state().live.as_ref().is_some_and(|live| live.setup == 0)
    }

    fn deliver(&self, messages: &mut Vec<Publish>) {
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

    /// Handles an event; an error ends the connection.
    fn handle(&self, event: Event) -> Result<(), String> {
        let mut state = self.shared.state();
        let Some(live) = &mut state.live else { return Ok(()) };
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => live.publishes.written(id),
            Event::Outgoing(Outgoing::Subscribe(id)) => live.subscribes.written(id),
            Event::Outgoing(Outgoing::Unsubscribe(id)) => live.unsubscribes.written(id),
            Event::Incoming(Packet::PubAck(ack)) => {
                let result = match ack.reason {
                    PubAckReason::Success => Ok(Reach::Subscribers),
                    PubAckReason::NoMatchingSubscribers => Ok(Reach::NoSubscribers),
                    reason => Err(format!("{reason:?}")),
                };
                let waiter = live.publishes.answered(ack.pkid);
                return answer(live, waiter, result);
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                let mut codes = ack.return_codes.iter();
                let refused = codes.find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                let waiter = live.subscribes.answered(ack.pkid);
                let result = refused.map_or(Ok(Reach::Subscribers), |reason| Err(format!("{reason:?}")));
                return answer(live, waiter, result);
            }
            Event::Incoming(Packet::UnsubAck(ack)) => {
                let mut reasons = ack.reasons.iter();
                let refused = reasons.find(|reason| {
                    !matches!(reason, UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted)
                });
                let waiter = live.unsubscribes.answered(ack.pkid);
                let result = refused.map_or(Ok(Reach::Subscribers), |reason| Err(format!("{reason:?}")));
                return answer(live, waiter, result);
            }
            _ => {}
        }
        Ok(())
    }

    /// Drops the connection, which notifies everybody who waits on it.
    fn drop_connection(&self, lost: Option<&Lost>) {
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

fn answer(live: &mut Live, waiter: Option<Waiter>, result: Answer) -> Result<(), String> {
    match (waiter, result) {
        (Some(Waiter::Caller { answer, .. }), result) => {
            // The caller may have stopped waiting.
            let _ = answer.send(result);
        }
        (Some(Waiter::Setup), Ok(_)) => live.setup -= 1,
        (Some(Waiter::Setup), Err(reason)) => {
            return Err(format!("the broker refuses the subscription: {reason}"));
        }
        (None, _) => {}
    }
    Ok(())
}

pub(super) fn explain(error: &ConnectionError) -> (String, Cause) {
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
        // A reset: the broker closed it while it was being sent something.
        ConnectionError::MqttState(StateError::Io(_)) => (mysimbdp_model::error_chain(error), Cause::Closed),
        error => (mysimbdp_model::error_chain(error), Cause::Other),
    }
}

async fn stopped(shared: &Shared) {
    // The sender is in `shared`, so it cannot be dropped.
    let _ = shared.stop.subscribe().wait_for(|stop| *stop).await;
}

/// Once stopped, sends DISCONNECT after all submitted requests. The broker answers by closing, which ends the connection;
/// this function returns if the broker takes too long.
async fn disconnect_when_stopped(shared: &Shared) {
    stopped(shared).await;
    let disconnecting =
        shared.state().live.as_ref().is_some_and(|live| live.request(ClientRequest::Disconnect));
    if disconnecting {
        sleep(DISCONNECT_DEADLINE).await;
    }
}

/// Logs once that the broker is unavailable, and once that it is back.
struct ConnectionOutage<'a> {
    address: &'a str,
    since: Option<Instant>,
}

impl<'a> ConnectionOutage<'a> {
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
