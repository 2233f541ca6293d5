//! The events of a server, as they arrive.
//!
//! 1. [`connection`]: listens, and again after an outage, from where it was;
//! 2. [`parser`]: server-sent events out of bytes;
//! 3. [`sentence`]: what an event says, in words.

pub mod connection;
mod parser;
pub mod sentence;

pub use parser::Event;
