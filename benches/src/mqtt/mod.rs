//! Publishers and consumers of MQTT 5 that do as little as they can, so that the broker is measured and not they.
//!
//! - [`packet`]: bytes to packets and back, by a library;
//! - [`publisher`]: as fast as the broker takes it, or at a steady rate;
//! - [`consumer`]: counts what arrives, with a library as others have it, or leaner;
//! - [`tap`]: stands between the broker and a consumer, and sees when each message is acknowledged.

pub mod consumer;
pub mod packet;
pub mod publisher;
pub mod tap;
