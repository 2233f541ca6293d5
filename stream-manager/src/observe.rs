//! What arrives over MQTT: reports and requests, and from whom.
//!
//! All of it comes from outside. What is malformed or forged is counted, told once per burst, and changes nothing.

use std::time::{Duration, Instant};

use mysimbdp_core::chain;
use mysimbdp_core::config::Config;
use mysimbdp_core::io::address;
use mysimbdp_core::io::broker::{BrokerLink, ConnectOptions, Incoming, LinkEvent, SIGNAL_BYTES_MAX};
use mysimbdp_core::io::random;
use mysimbdp_core::logging::Bursts;
use mysimbdp_core::message::{MessageError, Report};
use tokio::sync::mpsc;

use crate::control::Request;
use crate::key::StreamKey;

/// Messages handled before the streams are looked at again.
const MESSAGES_AT_ONCE: usize = 256;

/// A burst of forged messages is told again after this long.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A message that means something.
#[derive(Clone, Debug)]
pub(crate) enum Observed {
    /// `slot` is the instance that it names; a report in the array form names none.
    Report {
        report: Report,
        stream: StreamKey,
        slot: Option<u32>,
    },
    Request {
        request: Request,
        from: Incoming,
    },
}

/// Why a message means nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Forged {
    #[error(transparent)]
    Report(#[from] MessageError),
    #[error("report on the topic of another client")]
    WrongTopic,
    #[error("report of client {client} names no instance of its streams")]
    NoInstance { client: String },
    #[error("retained request: it would be run again and again")]
    RetainedRequest,
    #[error("payload is no request")]
    Request,
    #[error("unknown topic")]
    Topic,
    #[error("request whose answer can be published nowhere: {topic:?} is no topic")]
    ResponseTopic { topic: String },
    #[error("more requests at a time than are answered")]
    TooManyRequests,
}

/// The connection to the broker, at the address where it is now.
#[derive(Debug)]
pub(crate) struct Ear {
    url: String,
    link: BrokerLink,
    events: mpsc::Receiver<LinkEvent>,
    /// Since when the broker has been there without a break.
    connected_since: Option<Instant>,
    /// Why the last connection could not be made, or ended.
    disconnected: Option<String>,
}

impl Ear {
    /// Keeps `ear` at the broker's present address; `None` while there is none.
    pub(crate) async fn keep(ear: Option<Self>, config: &Config) -> Option<Self> {
        let url = match address::broker(config) {
            Ok(url) => url,
            Err(error) => {
                if let Some(ear) = ear {
                    tracing::warn!(error = %chain(&error), "broker is gone");
                    ear.link.close().await;
                }
                return None;
            }
        };
        match ear {
            Some(ear) if ear.url == url => return Some(ear),
            Some(ear) => ear.link.close().await,
            None => {}
        }
        Self::connect(config, url)
    }

    fn connect(config: &Config, url: String) -> Option<Self> {
        let prefix = config.settings.broker.topic_prefix.replace('/', "-");
        let client_id = format!("{prefix}-stream-manager-{:08x}", random::number() as u32);
        let options = ConnectOptions {
            keep_alive: config.broker_keep_alive,
            message_bytes_max: SIGNAL_BYTES_MAX,
            ..ConnectOptions::new(&url, client_id)
        };
        let filters = vec![config.topics.all_reports(), config.topics.control()];
        match BrokerLink::connect(options, filters) {
            Ok((link, events)) => Some(Self { url, link, events, connected_since: None, disconnected: None }),
            Err(error) => {
                // The config has checked its own; this one is from an embedded broker of another version.
                tracing::error!(error = %chain(&error), "broker address cannot be used");
                None
            }
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn link(&self) -> BrokerLink {
        self.link.clone()
    }

    /// Looks whether the broker is there; `anew` has the time since when it is begin again.
    pub(crate) fn watch_connection(&mut self, anew: bool, now: Instant) {
        let before = self.connected_since.filter(|_| !anew);
        self.connected_since = self.link.is_connected().then(|| before.unwrap_or(now));
    }

    pub(crate) fn connected_since(&self) -> Option<Instant> {
        self.connected_since
    }

    /// Why the broker cannot be spoken with now.
    pub(crate) fn obstacle(&self) -> Option<String> {
        if self.link.is_connected() {
            return None;
        }
        let reason = self.disconnected.as_deref().unwrap_or("it does not answer");
        Some(format!("the broker at {} is away: {reason}", address::without_password(&self.url)))
    }

    /// The next messages, never none. May be dropped while it waits.
    pub(crate) async fn hear(ear: &mut Option<Self>) -> Vec<Incoming> {
        let Some(ear) = ear else { return std::future::pending().await };
        let mut events = Vec::new();
        loop {
            if ear.events.recv_many(&mut events, MESSAGES_AT_ONCE).await == 0 {
                return std::future::pending().await;
            }
            for event in &events {
                if let LinkEvent::Disconnected { reason } = event {
                    ear.connected_since = None;
                    ear.disconnected = Some(reason.clone());
                }
            }
            let messages: Vec<Incoming> = events.drain(..).filter_map(message).collect();
            if !messages.is_empty() {
                return messages;
            }
        }
    }

    pub(crate) async fn close(ear: Option<Self>) {
        if let Some(ear) = ear {
            ear.link.close().await;
        }
    }
}

fn message(event: LinkEvent) -> Option<Incoming> {
    match event {
        LinkEvent::Message(incoming) => Some(incoming),
        // The link itself tells of outages in the log; instances and slots do not depend on it.
        LinkEvent::Connected | LinkEvent::Disconnected { .. } => None,
    }
}

/// Reads a message; `known` finds the stream and slot that a report is about.
pub(crate) fn observe(
    incoming: Incoming,
    config: &Config,
    known: impl Fn(&Report) -> Option<(StreamKey, Option<u32>)>,
) -> Result<Observed, Forged> {
    if incoming.topic == config.topics.control() {
        if incoming.retained {
            return Err(Forged::RetainedRequest);
        }
        let request = Request::parse(&incoming.payload).ok_or(Forged::Request)?;
        return Ok(Observed::Request { request, from: incoming });
    }
    let client =
        config.topics.client_of(&config.topics.all_reports(), &incoming.topic).ok_or(Forged::Topic)?;
    let report = Report::parse(&incoming.payload)?;
    if report.client_name != client {
        return Err(Forged::WrongTopic);
    }
    match known(&report) {
        Some((stream, slot)) => Ok(Observed::Report { report, stream, slot }),
        None => Err(Forged::NoInstance { client: client.into() }),
    }
}

/// What was forged, and on which topic. All of it is one kind.
pub(crate) type ForgedBursts = Bursts<(), (Forged, String)>;

pub(crate) fn forged_bursts() -> ForgedBursts {
    Bursts::new(TELL_EVERY)
}
