//! The keys that identify a stream and a slot of it.

use std::fmt;

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use serde::{Deserialize, Serialize};

/// A stream of a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    pub client: ClientId,
    pub stream: String,
}

/// A slot of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotKey {
    #[serde(flatten)]
    pub stream: StreamKey,
    pub slot: u32,
}

impl StreamKey {
    pub fn slot(&self, slot: u32) -> SlotKey {
        SlotKey { stream: self.clone(), slot }
    }
}

impl SlotKey {
    /// Parses the name that [`Display`](fmt::Display) writes.
    pub fn from_name(name: &str) -> Option<Self> {
        let (stream, slot) = name.rsplit_once('.')?;
        let (client, stream) = stream.split_once('.')?;
        Some(StreamKey { client: client.parse().ok()?, stream: stream.to_owned() }.slot(slot.parse().ok()?))
    }

    /// Returns the slot's fixed MQTT client id, which is also the name that its instance uses in reports.
    pub fn instance_name(&self, config: &Config) -> String {
        format!("{}-{self}", config.settings.broker.topic_prefix.replace('/', "-"))
    }
}

/// `<client>.<stream>`: neither part can contain a dot, so no two streams have the same name.
impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.client, self.stream)
    }
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stream, self.slot)
    }
}
