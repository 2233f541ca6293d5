//! How a connection is made.

use std::fmt;
use std::time::Duration;

use rumqttc::v5::ConnectionError;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Connect, ConnectProperties, LastWill, Login};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::BrokerError;
use super::address::{Address, without_credentials};
use super::wire::{Handshake, Request, Wire};

/// The largest packet that the protocol allows.
pub(super) const PROTOCOL_PACKET_BYTES_MAX: u32 = 268_435_455;

/// The largest packet that the managers and the embedded broker accept: no document of more than 16 MiB can be stored.
///
/// A consumer accepts what the protocol allows. A broker does not send a packet that is larger than its receiver allows,
/// and acknowledges it all the same: what cannot be stored has to arrive, so that it is rejected and kept.
pub(crate) const PACKET_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Enough for any report, staged notification or request: it bounds the queue of a manager to 64 MiB, whatever is
/// published.
pub const SIGNAL_BYTES_MAX: usize = 64 * 1024;

/// The most of our own messages that may be unacknowledged at a time. The broker may allow fewer.
pub(super) const PUBLISHES_MAX: u16 = 64;

/// The most requests that may wait for the connection: an acknowledgement for every packet identifier, all of our own
/// messages and as many subscriptions. So submitting a request never has to wait. It takes no memory until it is used.
const REQUESTS_MAX: usize = u16::MAX as usize + 2 * PUBLISHES_MAX as usize;

/// A shorter keep-alive would cause more pings than messages.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
/// The protocol does not allow a longer keep-alive.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(u16::MAX as u64);

/// Published by the broker if the connection is lost without a DISCONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
}

/// How a connection is made.
#[derive(Clone)]
pub struct ConnectOptions {
    pub url: String,
    pub client_id: String,
    /// A dead connection is noticed within twice this time. Less than 5 s counts as 5 s.
    pub keep_alive: Duration,
    /// `None`: the session ends with the connection. Otherwise it is resumed, and kept this long.
    pub session_expiry: Option<Duration>,
    /// The most messages that may be unacknowledged at a time.
    pub receive_maximum: u16,
    /// For a [`BrokerLink`](super::BrokerLink): larger messages are dropped and counted.
    pub message_bytes_max: usize,
    pub will: Option<Will>,
}

impl ConnectOptions {
    /// Options for a connection without session and will, for a few messages at a time.
    pub fn new(url: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            client_id: client_id.into(),
            keep_alive: Duration::from_secs(15),
            session_expiry: None,
            receive_maximum: 100,
            message_bytes_max: PACKET_BYTES_MAX as usize,
            will: None,
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, client_id, keep_alive, session_expiry, receive_maximum, message_bytes_max, will } =
            self;
        f.debug_struct("ConnectOptions")
            .field("url", &without_credentials(url))
            .field("client_id", client_id)
            .field("keep_alive", keep_alive)
            .field("session_expiry", session_expiry)
            .field("receive_maximum", receive_maximum)
            .field("message_bytes_max", message_bytes_max)
            .field("will", will)
            .finish()
    }
}

/// Checked options, from which every new connection is made.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) address: Address,
    pub(super) client_id: String,
    tls: Option<TlsConnector>,
    handshake: Handshake,
}

impl Dialer {
    /// `acknowledges`: whether messages are acknowledged as they arrive.
    pub(super) fn new(options: &ConnectOptions, acknowledges: bool) -> Result<Self, BrokerError> {
        let address: Address = options.url.parse()?;
        let packet_bytes_max = if acknowledges { PACKET_BYTES_MAX } else { PROTOCOL_PACKET_BYTES_MAX };
        let properties = ConnectProperties {
            session_expiry_interval: options.session_expiry.map(seconds),
            // MQTT does not allow a window of 0.
            receive_maximum: Some(options.receive_maximum.max(1)),
            max_packet_size: (packet_bytes_max < PROTOCOL_PACKET_BYTES_MAX).then_some(packet_bytes_max),
            ..ConnectProperties::new()
        };
        let keep_alive = options.keep_alive.clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX);
        let handshake = Handshake {
            connect: Connect {
                keep_alive: u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX),
                client_id: options.client_id.clone(),
                clean_start: options.session_expiry.is_none(),
                properties: Some(properties),
            },
            will: options.will.as_ref().map(|will| {
                LastWill::new(&will.topic, will.payload.clone(), QoS::AtLeastOnce, will.retain, None)
            }),
            login: address.credentials.as_ref().map(|(user, password)| Login::new(user, password)),
            publishes_max: PUBLISHES_MAX,
            packet_bytes_max,
            acknowledges,
        };
        Ok(Self { tls: address.tls()?, address, client_id: options.client_id.clone(), handshake })
    }

    /// Returns a dialer whose connection ends the session that `self` keeps.
    pub(super) fn without_session(&self) -> Self {
        let mut dialer = self.clone();
        let connect = &mut dialer.handshake.connect;
        connect.clean_start = true;
        if let Some(properties) = &mut connect.properties {
            properties.session_expiry_interval = None;
        }
        dialer
    }

    /// Connects, and waits for the broker to accept it. Also returns the sender of requests for the connection.
    pub(super) async fn dial(&self) -> Result<(mpsc::Sender<Request>, Wire, ConnAck), ConnectionError> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let (wire, accepted) =
            Wire::connect(&self.address, self.tls.as_ref(), self.handshake.clone(), receiver).await?;
        Ok((requests, wire, accepted))
    }

    /// A healthy connection has some event within each keep-alive interval; one that is silent longer hangs in a write.
    pub(super) fn silence_max(&self) -> Duration {
        self.keep_alive() * 2 + Duration::from_secs(1)
    }

    fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.handshake.connect.keep_alive.into())
    }
}

/// Omits the handshake, which contains the password.
impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, client_id, .. } = self;
        f.debug_struct("Dialer")
            .field("address", address)
            .field("client_id", client_id)
            .finish_non_exhaustive()
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let options = ConnectOptions::new("mqtt://user:secret@host", "me");
        let dialer = Dialer::new(&options, true).expect("a good address");
        let shown = format!("{options:?} {dialer:?}");
        assert!(shown.contains("host") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn extreme_settings_are_limited_to_what_the_protocol_allows() {
        for (keep_alive, receive_maximum) in [(Duration::ZERO, 0), (Duration::MAX, u16::MAX)] {
            let options = ConnectOptions {
                keep_alive,
                receive_maximum,
                session_expiry: Some(keep_alive),
                ..ConnectOptions::new("mqtt://host", "me")
            };
            let dialer = Dialer::new(&options, false).expect("a good address");
            assert!((KEEP_ALIVE_MIN..=KEEP_ALIVE_MAX).contains(&dialer.keep_alive()));
            let properties = dialer.handshake.connect.properties.expect("properties");
            assert!(properties.receive_maximum.is_some_and(|window| window > 0));
        }
    }
}
