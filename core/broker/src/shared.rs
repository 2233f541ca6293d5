//! The state that the callers of a connection share with the task that serves it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::v5::Request as Outgoing;
use tokio::sync::{Semaphore, mpsc, watch};

use super::BrokerError;
use super::options::{Dialer, PUBLISHES_MAX};
use super::pending::Pending;
use super::wire::Request;

/// How long the broker may take to acknowledge something.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// The phase of a connection.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Connecting,
    /// Connected, and all subscriptions are acknowledged.
    Connected,
    Ended(BrokerError),
}

/// The state that callers and task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dialer: Dialer,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) stop: watch::Sender<bool>,
    state: Mutex<State>,
    pub(super) permits: Arc<Semaphore>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Counts connections: a packet identifier is only valid on its own connection.
    pub(super) generation: u64,
    /// The current connection; `None` while there is none.
    pub(super) live: Option<Live>,
    /// The filters that each new connection subscribes to.
    pub(super) desired: Vec<String>,
    /// The filters that a kept session may still hold, and each new connection unsubscribes from.
    pub(super) revoked: Vec<String>,
}

/// The current connection.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) packet_bytes_max: usize,
    pub(super) publishes: Pending,
    pub(super) subscribes: Pending,
    pub(super) unsubscribes: Pending,
    /// How many subscriptions must still be acknowledged before the connection counts as connected.
    pub(super) setup: usize,
    /// How many messages have arrived on this connection and await [`super::connection::Connection::acknowledge`].
    pub(super) unacknowledged: usize,
}

/// The right to acknowledge one message, on the connection on which it arrived.
#[derive(Debug)]
pub struct AckToken {
    pub(super) generation: u64,
    /// 0 if the message needs no acknowledgement.
    pub(super) packet_id: u16,
}

impl Live {
    /// Queues a packet; returns false if the queue is full or the connection is ending.
    pub(super) fn request(&self, packet: Outgoing) -> bool {
        self.requests.try_send(Request::Send(packet)).is_ok()
    }
}

impl Shared {
    /// Creates the state of a connection that is to have these subscriptions.
    pub(super) fn new(dialer: Dialer, filters: Vec<String>) -> Self {
        Self {
            dialer,
            phase: watch::Sender::new(Phase::Connecting),
            stop: watch::Sender::new(false),
            state: Mutex::new(State { desired: filters, ..State::default() }),
            permits: Arc::new(Semaphore::new(usize::from(PUBLISHES_MAX))),
        }
    }

    /// Locks the state. The lock is only held briefly, never across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why there is no connection.
    pub(super) fn not_connected(&self) -> BrokerError {
        match &*self.phase.borrow() {
            Phase::Ended(error) => error.clone(),
            Phase::Connecting | Phase::Connected => {
                BrokerError::NotConnected { address: self.dialer.address.to_string() }
            }
        }
    }

    pub(super) fn not_acknowledged(&self) -> BrokerError {
        BrokerError::NotAcknowledged {
            address: self.dialer.address.to_string(),
            seconds: ANSWER_DEADLINE.as_secs(),
        }
    }
}
