//! Publishes messages of a numbered source: none is lost, and none is stored twice.
//!
//! 1. [`Edge::send`] gives a message its number and writes it to the [`outbox`], on disk before it returns; it waits
//!    while the outbox is full;
//! 2. [`resend`] decides, without I/O, which numbers are sent now: new ones within a window, and again those that the
//!    platform requests;
//! 3. the [`publisher`] sends them with QoS 1, listens for the platform's receipts, and reports numbers that are lost;
//! 4. received messages leave the outbox. A broker's acknowledgement does not count: it may lose what it acknowledged.
//!
//! [`input`] reads lines from stdin or from a growing file, each with the position from which reading continues after
//! it.

mod edge;
mod error;
pub mod input;
mod message;
mod outbox;
mod publisher;
mod resend;
mod settings;
mod statistics;

pub use edge::{Edge, Status};
pub use error::EdgeError;
pub use message::{Position, PositionError, SourceMessage};
pub use outbox::OutboxError;
pub use settings::{BrokerAddress, EdgeSettings};
pub use statistics::Statistics;
