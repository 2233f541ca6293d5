//! Access to the MQTT broker: MQTT 5, QoS 1.
//!
//! - [`BrokerLink`] is for a few messages, each handled at once; it subscribes again after a reconnect. A [`FollowingLink`]
//!   keeps a link to wherever the broker is now.
//! - [`consumer`] is for stream apps: manual acknowledgement, with a window as large as a batch.
//!
//! Both use a connection that has its own task. When it is lost, the task connects again, with back-off and jitter. QoS 2
//! is not used: duplicate messages are harmless, as everything that is stored has an identity.

#![allow(clippy::disallowed_methods)]

mod address;
mod connection;
pub mod consumer;
mod deliveries;
#[cfg(feature = "embedded")]
pub mod embedded;
mod following_link;
mod link;
mod options;
mod pending;
mod poller;
mod shared;
mod wire;

use std::time::Duration;

use bytes::Bytes;

pub use address::{Address, has_password, with_password};
pub use following_link::FollowingLink;
pub use link::{BrokerLink, Incoming, LinkEvent};
pub(crate) use options::PACKET_BYTES_MAX;
pub use options::{ConnectOptions, SIGNAL_BYTES_MAX, Will};

/// A message to publish.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    pub topic: String,
    pub payload: Bytes,
    pub retain: bool,
    /// MQTT 5 request/response.
    pub response_topic: Option<String>,
    pub correlation: Option<Bytes>,
    pub user_properties: Vec<(String, String)>,
    /// The broker drops the message if it cannot deliver it within this time; counted in whole seconds, at least one.
    pub expires: Option<Duration>,
}

impl Publish {
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), payload: payload.into(), ..Self::default() }
    }
}

/// Who gets a message that the broker has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Somebody has subscribed to its topic, but may be offline; or the broker does not tell.
    Subscribers,
    /// Nobody has subscribed: the message is lost.
    NoSubscribers,
}

/// Connects once and disconnects, to find out whether the broker is up and accepts this client. Has no timeout of its own.
///
/// # Errors
///
/// The broker cannot be reached or does not accept this client; the error says why.
pub async fn probe(options: &ConnectOptions) -> Result<(), BrokerError> {
    let dialer = options::Dialer::new(options, true)?;
    let unreachable = |error| BrokerError::Unreachable {
        address: dialer.address.to_string(),
        reason: poller::explain(&error).0,
    };
    dialer.dial().await.map(drop).map_err(unreachable)
}

/// What went wrong with the broker.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("invalid broker address {0:?}: expected mqtt://host:port or mqtts://host:port")]
    Address(String),
    #[error("cannot speak TLS with the broker at {address}: {reason}")]
    Tls { address: String, reason: String },
    #[error("invalid topic {0:?}: expected 1 to 65,535 bytes without +, # and NUL")]
    Topic(String),
    #[error("invalid topic filter {0:?}: expected + alone in its level, and # alone in the last one")]
    Filter(String),
    #[error("message to {topic:?} has {bytes} bytes: the limit of the broker is {bytes_max}")]
    TooLarge { topic: String, bytes: usize, bytes_max: usize },
    #[error("broker at {address} is not connected")]
    NotConnected { address: String },
    #[error("broker at {address} cannot be reached: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("broker at {address} did not acknowledge within {seconds} s")]
    NotAcknowledged { address: String, seconds: u64 },
    #[error("broker at {address} refuses the {object}: {reason}")]
    Refused { address: String, object: String, reason: String },
    #[error("another process has connected to the broker at {address} with the client id {client_id:?}")]
    TakenOver { address: String, client_id: String },
    #[error("connection to the broker at {address} has been closed by this side")]
    Closed { address: String },
}
