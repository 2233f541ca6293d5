//! Receives reports and requests over MQTT, and finds out whom they are about.
//!
//! All of this comes from outside. A malformed or invalid message is counted, logged once per burst, and changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_broker::{BrokerLink, FollowingLink, Incoming, LinkEvent};
use mysimbdp_config::{Config, address};
use mysimbdp_model::message::{MessageError, Report};
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_telemetry::logging::Bursts;

use crate::control::Request;
use crate::key::StreamKey;

/// Messages handled before the next pass over the streams.
const MESSAGES_AT_ONCE: usize = 256;

/// A burst of invalid messages is logged again after this long.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A valid message.
#[derive(Clone, Debug)]
pub(crate) enum Observed {
    /// `slot` is the slot of the instance that the report names; a report in the array form names none.
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

/// Why a message is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidMessage {
    #[error(transparent)]
    Report(#[from] MessageError),
    #[error("report on the topic of another client")]
    WrongTopic,
    #[error("report of client {client} matches no instance of its streams")]
    NoInstance { client: String },
    #[error("request is retained: it would be run again with each subscription")]
    RetainedRequest,
    #[error("payload is not a request")]
    Request,
    #[error("unknown topic")]
    Topic,
    #[error("invalid response topic {topic:?}: expected at least 1 character, without +, # and NUL")]
    ResponseTopic { topic: String },
    #[error("too many requests wait for an answer")]
    TooManyRequests,
}

/// The manager's subscription, at the broker's present address.
#[derive(Debug)]
pub(crate) struct BrokerSubscription {
    session: FollowingLink,
    /// Since when the connection has been up without interruption.
    connected_since: Option<Instant>,
}

impl BrokerSubscription {
    pub(crate) fn new(config: &Arc<Config>) -> Self {
        let filters = vec![config.topics.all_reports(), config.topics.control()];
        Self {
            session: address::session(config, ProcessKind::StreamManager.name(), filters),
            connected_since: None,
        }
    }

    /// The broker's address; `None` while there is no broker.
    pub(crate) fn url(&self) -> Option<&str> {
        self.session.url()
    }

    /// The connection, if it is up.
    pub(crate) fn link(&self) -> Option<&BrokerLink> {
        self.session.link()
    }

    /// Checks whether the connection is up; with `reset`, the time since when it has been up begins again.
    pub(crate) fn watch_connection(&mut self, reset: bool, now: Instant) {
        let before = self.connected_since.filter(|_| !reset);
        self.connected_since = self.session.link().map(|_| before.unwrap_or(now));
    }

    pub(crate) fn connected_since(&self) -> Option<Instant> {
        self.connected_since
    }

    /// Why the broker is unavailable now.
    pub(crate) fn obstacle(&self) -> Option<String> {
        self.session.unavailable_reason()
    }

    /// Waits for the next messages, at least one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Vec<Incoming> {
        let mut messages = Vec::new();
        loop {
            let mut event = Some(self.session.next().await);
            while let Some(next) = event {
                match next {
                    LinkEvent::Message(incoming) => messages.push(incoming),
                    // The link itself logs outages; instances and slots do not depend on it.
                    LinkEvent::Connected => {}
                    LinkEvent::Disconnected { .. } => self.connected_since = None,
                }
                let has_capacity = messages.len() < MESSAGES_AT_ONCE;
                event = if has_capacity { self.session.try_next() } else { None };
            }
            if !messages.is_empty() {
                return messages;
            }
        }
    }

    pub(crate) async fn close(&mut self) {
        self.session.close().await;
    }
}

/// Parses a message; `known` finds the stream and slot that a report is about.
pub(crate) fn observe(
    incoming: Incoming,
    config: &Config,
    known: impl Fn(&Report) -> Option<(StreamKey, Option<u32>)>,
) -> Result<Observed, InvalidMessage> {
    if incoming.topic == config.topics.control() {
        if incoming.retained {
            return Err(InvalidMessage::RetainedRequest);
        }
        let request = Request::parse(&incoming.payload).ok_or(InvalidMessage::Request)?;
        return Ok(Observed::Request { request, from: incoming });
    }
    let client = config
        .topics
        .client_of(&config.topics.all_reports(), &incoming.topic)
        .ok_or(InvalidMessage::Topic)?;
    let report = Report::parse(&incoming.payload)?;
    if report.client_name != client {
        return Err(InvalidMessage::WrongTopic);
    }
    match known(&report) {
        Some((stream, slot)) => Ok(Observed::Report { report, stream, slot }),
        None => Err(InvalidMessage::NoInstance { client: client.into() }),
    }
}

/// Counts invalid messages, with the reason and topic of the last one. They are all of one kind.
pub(crate) type InvalidBursts = Bursts<(), (InvalidMessage, String)>;

pub(crate) fn invalid_bursts() -> InvalidBursts {
    Bursts::new(LOG_EVERY)
}
