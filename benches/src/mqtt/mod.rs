//! As little MQTT 5 as publishing and consuming take, so that the broker is what is measured and not a library.
//!
//! - [`packet`]: bytes to packets and back;
//! - [`publisher`]: as fast as the broker takes it, or at a steady rate;
//! - [`consumer`]: counts what arrives, with a library as others have it, or leaner;
//! - [`tap`]: stands between the broker and a consumer, and sees when each message is acknowledged.

pub mod consumer;
pub mod packet;
pub mod publisher;
pub mod tap;
