//! What the callers of a connection and the task that serves it share.

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

/// Where a connection stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Connecting,
    /// Connected, and all subscriptions are acknowledged.
    Connected,
    Ended(BrokerError),
}

/// What callers and task share.
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
    /// Counts connections: packet identifiers mean something on their own connection only.
    pub(super) generation: u64,
    /// The connection that is up; `None` while there is none.
    pub(super) live: Option<Live>,
    /// What each new connection subscribes to.
    pub(super) wanted: Vec<String>,
    /// What a kept session may still hold and each new connection unsubscribes from.
    pub(super) unwanted: Vec<String>,
}

/// The connection that is up.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) packet_bytes_max: usize,
    pub(super) publishes: Pending,
    pub(super) subscribes: Pending,
    pub(super) unsubscribes: Pending,
    /// Subscriptions that have to be acknowledged before the connection counts as such.
    pub(super) setup: usize,
    /// Messages that have arrived on this connection and await [`super::connection::Connection::acknowledge`].
    pub(super) unacknowledged: usize,
}

/// Entitles to acknowledge one message, on the connection on which it arrived.
#[derive(Debug)]
pub struct AckToken {
    pub(super) generation: u64,
    /// 0: the message needs no acknowledgement.
    pub(super) packet_id: u16,
}

impl Live {
    /// False where the queue is full, or the connection at its end.
    pub(super) fn request(&self, packet: Outgoing) -> bool {
        self.requests.try_send(Request::Send(packet)).is_ok()
    }
}

impl Shared {
    /// Of a connection that is to have these subscriptions.
    pub(super) fn new(dialer: Dialer, filters: Vec<String>) -> Self {
        Self {
            dialer,
            phase: watch::Sender::new(Phase::Connecting),
            stop: watch::Sender::new(false),
            state: Mutex::new(State { wanted: filters, ..State::default() }),
            permits: Arc::new(Semaphore::new(usize::from(PUBLISHES_MAX))),
        }
    }

    /// The lock is held for moments only, never across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no connection.
    pub(super) fn down(&self) -> BrokerError {
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
