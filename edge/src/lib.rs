//! Publishes messages of a numbered source: none is lost, and none is stored twice.
//!
//! 1. [`Edge::send`] gives a message its number and puts it into the [`outbox`], on disk before it returns; a full outbox
//!    makes it wait;
//! 2. the [`resend`] decides, purely, which numbers are sent now: new ones within a window, and those again that the
//!    platform asks for;
//! 3. the [`publisher`] sends them with QoS 1, listens for the platform's receipts, and answers for numbers that are gone;
//! 4. what is received leaves the outbox. A broker's acknowledgement does not count: it may forget what it acknowledged.
//!
//! [`input`] reads lines from stdin or from a file that grows, each with the place where reading goes on after it.

mod edge;
mod error;
pub mod input;
mod message;
mod outbox;
mod publisher;
mod resend;
mod settings;

pub use edge::{Edge, Status};
pub use error::EdgeError;
pub use message::{Message, Position, PositionError};
pub use outbox::OutboxError;
pub use settings::{Broker, Settings};
