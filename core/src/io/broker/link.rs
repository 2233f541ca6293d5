//! (being written)

use bytes::Bytes;

/// A connection for the managers.
#[derive(Clone, Debug)]
pub struct BrokerLink;

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

/// What happens on a link.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    Connected,
    Disconnected { reason: String },
    Message(Incoming),
}
