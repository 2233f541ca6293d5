//! How a connection is made.

use std::time::Duration;

/// Published by the broker when the connection is lost without a DISCONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
}

/// How a connection is made.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub url: String,
    pub client_id: String,
    pub keep_alive: Duration,
    /// `None`: the session ends with the connection; else it is resumed, and kept this long.
    pub session_expiry: Option<Duration>,
    /// Messages that may be unacknowledged at a time.
    pub receive_maximum: u16,
    pub will: Option<Will>,
}
