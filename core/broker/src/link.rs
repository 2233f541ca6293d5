//! A connection for the managers: staged notifications, reports and control messages, few and small.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5 as packet;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::connection::Connection;
use super::options::Dialer;
use super::poller::Inbox;
use super::{BrokerError, ConnectOptions, Publish, Reach};

/// The most events that may wait for a slow receiver. Further events are dropped, as waiting would cost the connection: a
/// manager also scans at intervals, so a lost message only costs time.
const EVENTS_MAX: usize = 1024;

/// What happens on a link.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    /// Connected, and all subscriptions are acknowledged.
    Connected,
    Disconnected {
        reason: String,
    },
    Message(Incoming),
}

/// A message that has arrived.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub topic: String,
    pub payload: Bytes,
    pub retained: bool,
    /// MQTT 5 request/response.
    pub response_topic: Option<String>,
    pub correlation: Option<Bytes>,
    pub user_properties: Vec<(String, String)>,
}

/// A connection for the managers. Clones share it; it ends when the last one is dropped.
///
/// Messages are acknowledged as they arrive. While the broker is unavailable the link reconnects with back-off and jitter,
/// and then subscribes to everything again.
#[derive(Clone, Debug)]
pub struct BrokerLink {
    connection: Arc<Connection>,
}

impl BrokerLink {
    /// Starts connecting and returns at once. An unreachable broker is not an error; an invalid address is.
    ///
    /// The receiver ends when the link is closed. Must be called within a tokio runtime.
    pub fn connect(
        options: ConnectOptions,
        subscriptions: Vec<String>,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>), BrokerError> {
        let dialer = Dialer::new(&options, true)?;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let message_bytes_max = options.message_bytes_max;
        let inbox = Events { events, dropped: AtomicU64::new(0), message_bytes_max };
        let connection = Arc::new(Connection::start(dialer, subscriptions, false, inbox)?);
        Ok((Self { connection }, receiver))
    }

    /// Publishes with QoS 1 and waits for the broker's acknowledgement, at most 10 s. Without a connection it fails at
    /// once. After an error the message may still have been delivered.
    pub async fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        self.connection.publish(publish).await.map(drop)
    }

    /// Like [`BrokerLink::publish`]; also returns whether anybody has subscribed to the topic.
    pub async fn publish_with_reach(&self, publish: Publish) -> Result<Reach, BrokerError> {
        self.connection.publish(publish).await
    }

    /// Like [`BrokerLink::publish`], with only a topic and a payload.
    pub async fn publish_to(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> Result<(), BrokerError> {
        self.publish(Publish::new(topic, payload)).await
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_connected()
    }

    /// Waits until the link is connected and its subscriptions are acknowledged.
    pub async fn wait_connected(&self, deadline: Duration) -> Result<(), BrokerError> {
        self.connection.wait_connected(deadline).await
    }

    /// Subscribes, and waits for the broker's acknowledgement. After an error the subscription is still made on the
    /// next connection.
    pub async fn subscribe(&self, filter: &str) -> Result<(), BrokerError> {
        self.connection.subscribe(filter).await
    }

    /// Unsubscribes, and waits for the broker's acknowledgement. Even after an error, later connections do not subscribe.
    pub async fn unsubscribe(&self, filter: &str) -> Result<(), BrokerError> {
        self.connection.unsubscribe(filter, false).await
    }

    /// Disconnects and waits for the end, at most 5 s.
    pub async fn close(&self) {
        self.connection.close().await;
    }
}

/// The sender for the receiver that [`BrokerLink::connect`] returns.
struct Events {
    events: mpsc::Sender<LinkEvent>,
    /// How many were dropped since an event was last accepted.
    dropped: AtomicU64,
    message_bytes_max: usize,
}

impl Events {
    fn send(&self, event: LinkEvent) {
        match self.events.try_send(event) {
            Ok(()) => {
                let dropped = self.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!(
                        dropped,
                        "messages from the broker were dropped: too many at once, or too large"
                    );
                }
            }
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            // Nobody receives: a link that only publishes.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn message(&self, message: packet::Publish) {
        let (bytes, bytes_max) = (message.payload.len(), self.message_bytes_max);
        if bytes > bytes_max {
            // The rest of a burst is reported with the next message that fits.
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                let topic = String::from_utf8_lossy(&message.topic);
                tracing::warn!(%topic, bytes, bytes_max, "message from the broker is too large and is dropped");
            }
            return;
        }
        // The protocol requires UTF-8; a broker that lets something else through must not stop valid messages.
        let Ok(topic) = String::from_utf8(message.topic.to_vec()) else { return };
        let properties = message.properties.unwrap_or_default();
        self.send(LinkEvent::Message(Incoming {
            topic,
            payload: message.payload,
            retained: message.retain,
            response_topic: properties.response_topic,
            correlation: properties.correlation_data,
            user_properties: properties.user_properties,
        }));
    }
}

impl Inbox for Events {
    fn connected(&self) {
        self.send(LinkEvent::Connected);
    }

    fn disconnected(&self, reason: &str) {
        self.send(LinkEvent::Disconnected { reason: reason.to_owned() });
    }

    fn messages(&self, messages: impl Iterator<Item = packet::Publish>, _generation: u64) {
        messages.for_each(|message| self.message(message));
    }
}
