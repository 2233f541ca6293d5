//! The door to the MQTT broker: MQTT 5, QoS 1.
//!
//! - [`BrokerLink`] is for the managers: a few messages, each handled at once, subscriptions renewed on reconnect.
//! - [`consumer`] is for stream apps: manual acknowledgement, a window as large as a batch.
//!
//! Each connection is polled by a task of its own which does nothing else, as the client deadlocks when its full
//! channel is awaited from where it is polled. Reconnects forever, with back-off and jitter.

pub mod consumer;
mod link;
mod options;

pub use link::{BrokerLink, Incoming, LinkEvent};
pub use options::{ConnectOptions, Will};

/// What went wrong at the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("{0:?} is no address of a broker: allowed are mqtt://host:port and mqtts://host:port")]
    Address(String),
    #[error("broker at {address} is not connected")]
    NotConnected { address: String },
    #[error("broker at {address} did not acknowledge within {seconds} s")]
    NotAcknowledged { address: String, seconds: u64 },
    #[error("connection to the broker at {address} has been closed by this side")]
    Closed { address: String },
}
