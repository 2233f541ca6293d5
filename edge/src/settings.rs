//! The settings of an edge.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_config::Config;
use mysimbdp_config::address::{self, AddressError};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::source::SourceName;
use mysimbdp_model::topic::Topics;

use crate::error::EdgeError;
use crate::outbox::{OVERHEAD_BYTES_MAX, PAYLOAD_BYTES_MAX};

const RESEND_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The broker's address. `Debug` omits user and password.
#[derive(Clone)]
pub enum BrokerAddress {
    /// `mqtt://[user:password@]host[:port]`, or `mqtts://…`.
    Url(String),
    /// The broker of this configuration. If none is configured, the embedded broker of the data root, whose address may
    /// change.
    FromConfig(Arc<Config>),
}

impl BrokerAddress {
    pub(crate) fn find(&self) -> Result<String, AddressError> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            Self::FromConfig(config) => address::broker(config),
        }
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.debug_tuple("Url").field(&address::without_credentials(url)).finish(),
            Self::FromConfig(config) => f.debug_tuple("FromConfig").field(&config.layout.root()).finish(),
        }
    }
}

/// The settings of an edge. [`EdgeSettings::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    pub client: ClientId,
    pub source: SourceName,
    /// The directory of the outbox, created if it is missing. One process at a time can use it.
    pub outbox: PathBuf,
    pub broker: BrokerAddress,
    pub topics: Topics,
    /// The topic to publish to; `None` is `<prefix>/ingest/<client>/<source>`.
    pub topic: Option<String>,
    /// The most disk space that the outbox may use. While it is full, messages wait.
    pub capacity_bytes: u64,
    /// The largest payload that is accepted.
    pub message_bytes_max: usize,
    /// How many messages may be sent and not yet received.
    pub window_messages: usize,
    /// If the platform reports nothing new for this long, its progress is requested.
    pub resend_after: Duration,
    /// A dead connection is noticed after at most twice this time. Less than 5 s counts as 5 s.
    pub keep_alive: Duration,
}

impl EdgeSettings {
    pub const CAPACITY_BYTES: u64 = 256 << 20;
    /// The embedded broker accepts packets of up to 16 MiB.
    pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
    /// With a receipt every half second, this allows 20,000 messages a second.
    pub const WINDOW_MESSAGES: usize = 10_000;
    /// Several times the interval between the receipts of a working platform, and short enough to recover from a loss within
    /// 30 s.
    pub const RESEND_AFTER: Duration = Duration::from_secs(10);

    pub fn new(
        client: ClientId,
        source: SourceName,
        outbox: impl Into<PathBuf>,
        broker: BrokerAddress,
    ) -> Self {
        Self {
            client,
            source,
            outbox: outbox.into(),
            broker,
            topics: Topics::new("mysimbdp"),
            topic: None,
            capacity_bytes: Self::CAPACITY_BYTES,
            message_bytes_max: Self::MESSAGE_BYTES_MAX,
            window_messages: Self::WINDOW_MESSAGES,
            resend_after: Self::RESEND_AFTER,
            keep_alive: Duration::from_secs(15),
        }
    }

    /// The topic to publish to.
    pub fn data_topic(&self) -> String {
        self.topic.clone().unwrap_or_else(|| self.topics.ingest(&self.client, &self.source))
    }

    pub(crate) fn check(&self) -> Result<(), EdgeError> {
        let setting =
            |name, value: String, expected: String| Err(EdgeError::Setting { name, value, expected });
        let topic = self.data_topic();
        if topic.is_empty() || topic.len() > usize::from(u16::MAX) || topic.contains(['+', '#', '\0']) {
            return setting(
                "topic",
                format!("{topic:?}"),
                "1 to 65,535 bytes without +, # and NUL".to_owned(),
            );
        }
        if !(1..=PAYLOAD_BYTES_MAX).contains(&self.message_bytes_max) {
            let expected = format!("1 to {PAYLOAD_BYTES_MAX}");
            return setting("message_bytes_max", self.message_bytes_max.to_string(), expected);
        }
        // Otherwise the last message, which the outbox keeps for its number, could leave no space for the next one.
        let capacity_min = 2 * (self.message_bytes_max + OVERHEAD_BYTES_MAX) as u64;
        if self.capacity_bytes < capacity_min {
            let expected = format!("at least {capacity_min}, twice the largest message");
            return setting("capacity_bytes", self.capacity_bytes.to_string(), expected);
        }
        if self.window_messages == 0 {
            return setting("window_messages", "0".to_owned(), "at least 1".to_owned());
        }
        if self.resend_after.is_zero() || self.resend_after > RESEND_AFTER_MAX {
            let value = format!("{:?}", self.resend_after);
            return setting("resend_after", value, "more than 0 and at most 1h".to_owned());
        }
        Ok(())
    }
}
