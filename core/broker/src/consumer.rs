//! A connection for stream apps: a message is acknowledged only when the app does so, after it has been stored.
//!
//! The broker keeps the session while the app is not connected, and delivers unacknowledged messages again. The Receive
//! Maximum limits how many messages are in flight, and is the only back-pressure: an app that takes no messages gets no
//! more than that. So it should be as large as a batch, and the broker's own limit no smaller.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::{ConnectionError, Request as Outgoing};
use tokio::time::timeout;

use super::connection::Connection;
use super::deliveries::{Queue, deliveries};
use super::options::Dialer;
use super::shared::Phase;
use super::wire::{Arrived, Request};
use super::{BrokerError, ConnectOptions, Publish};

pub use super::deliveries::{Deliveries, Delivery};
pub use super::shared::AckToken;

/// How long [`end_session`] tries to reach the broker.
const END_SESSION_DEADLINE: Duration = Duration::from_secs(10);

/// A connection for stream apps. It ends when it is dropped; [`Consumer::disconnect`] also waits for the end.
///
/// While the broker is unavailable it reconnects with back-off and jitter. If another process connects with the same
/// client id, it gives way: [`Deliveries::recv`] returns `None` and [`Consumer::ended`] returns the reason.
#[derive(Debug)]
pub struct Consumer {
    connection: Connection,
    queue: Arc<Queue>,
    dialer: Dialer,
    session_is_kept: bool,
}

/// The state of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Connected, and all subscriptions are acknowledged.
    pub connected: bool,
    /// Counts connections, from 1.
    pub generation: u64,
    /// QoS 1 messages that arrived on this connection and are not acknowledged yet.
    pub unacknowledged: usize,
    /// Messages that wait in [`Deliveries`].
    pub waiting: usize,
    /// QoS 0 messages that were dropped because too many were waiting.
    pub lost: u64,
}

impl Consumer {
    /// Starts connecting and returns at once. An unreachable broker is not an error; an invalid address or filter is.
    /// Must be called within a tokio runtime.
    pub fn connect(options: ConnectOptions, filters: Vec<String>) -> Result<(Self, Deliveries), BrokerError> {
        let dialer = Dialer::new(&options, false)?;
        let (queue, deliveries) = deliveries(options.receive_maximum);
        let connection = Connection::start(dialer.clone(), filters, true, Arc::clone(&queue))?;
        let session_is_kept = options.session_expiry.is_some();
        Ok((Self { connection, queue, dialer, session_is_kept }, deliveries))
    }

    /// Waits until the consumer is connected and its subscriptions are acknowledged.
    pub async fn wait_connected(&self, deadline: Duration) -> Result<(), BrokerError> {
        self.connection.wait_connected(deadline).await
    }

    /// Acknowledges stored messages, and returns how many of them could be acknowledged. One that arrived on an earlier
    /// connection cannot: the broker delivers it again.
    pub fn acknowledge(&self, tokens: impl IntoIterator<Item = AckToken>) -> usize {
        self.connection.acknowledge(tokens)
    }

    /// Publishes with QoS 1 and waits for the broker's acknowledgement, at most 10 s. Without a connection it fails at
    /// once. After an error the message may still have been delivered.
    pub async fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        self.connection.publish(publish).await.map(drop)
    }

    /// Ends all subscriptions and waits for the broker's acknowledgement; messages that the session already holds still
    /// arrive. After an error it may be called again; the next connection unsubscribes in any case.
    pub async fn unsubscribe(&self) -> Result<(), BrokerError> {
        let filters: Vec<String> = {
            let state = self.connection.shared().state();
            // Includes those that an earlier call has ended without an acknowledgement.
            state.desired.iter().chain(&state.revoked).cloned().collect()
        };
        let mut result = Ok(());
        for filter in filters {
            result = result.and(self.connection.unsubscribe(&filter, self.session_is_kept).await);
        }
        result
    }

    /// Sends the submitted acknowledgements, disconnects, and waits for the end, at most 5 s. With `end_session` the broker
    /// then discards the session, and everything that it still holds for it.
    pub async fn disconnect(&self, end_session: bool) -> Result<(), BrokerError> {
        self.queue.close();
        self.connection.close().await;
        match self.ended() {
            // The session now belongs to another process.
            Some(error @ BrokerError::TakenOver { .. }) => Err(error),
            _ if end_session => end(&self.dialer).await,
            _ => Ok(()),
        }
    }

    pub fn stats(&self) -> ConsumerStats {
        let shared = self.connection.shared();
        let connected = self.connection.is_connected();
        let state = shared.state();
        ConsumerStats {
            connected,
            generation: state.generation,
            unacknowledged: state.live.as_ref().map_or(0, |live| live.unacknowledged),
            waiting: self.queue.len(),
            lost: self.queue.lost(),
        }
    }

    /// Returns why the consumer has ended, if it has.
    pub fn ended(&self) -> Option<BrokerError> {
        match &*self.connection.shared().phase.borrow() {
            Phase::Ended(error) => Some(error.clone()),
            Phase::Connecting | Phase::Connected => None,
        }
    }
}

/// Creates the session of `options` with its subscriptions, so that the broker queues messages from now on. Messages that
/// the session already holds stay in it.
pub async fn create_session(
    options: ConnectOptions,
    filters: Vec<String>,
    deadline: Duration,
) -> Result<(), BrokerError> {
    let (consumer, _deliveries) = Consumer::connect(options, filters)?;
    let connected = consumer.wait_connected(deadline).await;
    consumer.disconnect(false).await?;
    connected
}

/// Ends the session of `options`: the broker discards it, and everything that it still holds for it.
pub async fn end_session(options: &ConnectOptions) -> Result<(), BrokerError> {
    end(&Dialer::new(options, false)?).await
}

/// Ends a session. The library's DISCONNECT cannot carry a session expiry, but a clean start also discards the session,
/// and the new one ends with its connection.
async fn end(dialer: &Dialer) -> Result<(), BrokerError> {
    let dialer = dialer.without_session();
    let ended = async {
        let (requests, mut wire, _) = dialer.dial().await?;
        // An empty queue has capacity.
        let _ = requests.try_send(Request::Send(Outgoing::Disconnect));
        // The broker closes the connection when it has read the DISCONNECT.
        while wire.step(&mut Arrived::default(), std::future::ready(())).await.is_ok() {}
        Ok::<(), ConnectionError>(())
    };
    match timeout(END_SESSION_DEADLINE, ended).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(BrokerError::NotConnected { address: dialer.address.to_string() }),
    }
}
