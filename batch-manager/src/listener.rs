//! Receives staged notifications from the broker. Losing one costs latency, never data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use mysimbdp_broker::{BrokerLink, FollowingLink, Incoming, LinkEvent};
use mysimbdp_config::{Config, address};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::message::Staged;
use mysimbdp_telemetry::logging::{Bursts, Unreported};

/// One notification stands for at most this many messages: otherwise a steady stream of them would delay the scan for
/// ever.
const BURST_MAX: usize = 1000;

/// The subscription to staged notifications.
#[derive(Debug)]
pub(crate) struct Listener {
    config: Arc<Config>,
    session: FollowingLink,
    /// Messages that were refused, with the topic and the reason of each.
    invalid: Bursts<(), (String, String)>,
}

/// What to do after one or more messages from the broker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notification {
    /// Scan these clients now.
    Clients(BTreeMap<ClientId, ToScan>),
    /// The broker is connected, perhaps again: scan everything, as messages may have been lost.
    Connected,
}

/// The ingestions of a client to scan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToScan {
    /// Those that messages have named; they need not exist.
    Only(BTreeSet<IngestionId>),
    All,
}

impl Default for ToScan {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl ToScan {
    fn add(&mut self, ingestion: Option<IngestionId>) {
        match (ingestion, self) {
            (None, to_scan) => *to_scan = Self::All,
            (Some(ingestion), Self::Only(only)) => {
                only.insert(ingestion);
            }
            (Some(_), Self::All) => {}
        }
    }
}

impl Listener {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        // A burst lasts as long as the time between two scheduled calls of `log_invalid`.
        let invalid = Bursts::new(config.settings.batch_manager.scan_every.duration());
        let session = address::session(&config, crate::PROCESS_NAME, vec![config.topics.all_staged()]);
        Self { config, session, invalid }
    }

    /// Uses the clients of another config, whose broker must be the same.
    pub(crate) fn take_over(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// The connection, if it is up.
    pub(crate) fn link(&self) -> Option<&BrokerLink> {
        self.session.link()
    }

    /// Logs how many more messages were refused since each burst began.
    pub(crate) fn log_invalid(&mut self) {
        for ((), Unreported { count, last: (topic, reason) }) in self.invalid.due(Instant::now()) {
            tracing::warn!(count, topic, reason, "refused more messages");
        }
    }

    /// Waits for the next notification. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Notification {
        loop {
            let mut clients: BTreeMap<ClientId, ToScan> = BTreeMap::new();
            let mut event = Some(self.session.next().await);
            let mut left = BURST_MAX;
            // One notification stands for a whole burst of messages.
            while let Some(next) = event {
                match next {
                    LinkEvent::Connected => return Notification::Connected,
                    LinkEvent::Disconnected { .. } => {}
                    LinkEvent::Message(message) => match parse(&self.config, &message) {
                        Ok((client, ingestion)) => clients.entry(client).or_default().add(ingestion),
                        Err(reason) => {
                            let refused = (message.topic, reason);
                            if let Some((topic, reason)) = self.invalid.count((), refused, Instant::now()) {
                                tracing::warn!(topic, reason, "refused a message");
                            }
                        }
                    },
                }
                left -= 1;
                event = if left > 0 { self.session.try_next() } else { None };
            }
            if !clients.is_empty() {
                return Notification::Clients(clients);
            }
        }
    }

    pub(crate) async fn close(&mut self) {
        self.session.close().await;
    }
}

/// Returns the client that a message is about, if the config has it, and the ingestion that the message names.
fn parse(config: &Config, message: &Incoming) -> Result<(ClientId, Option<IngestionId>), String> {
    let (client, ingestion) =
        Staged::parse(&message.payload).map_err(|error| mysimbdp_model::error_chain(&error))?;
    if config.topics.client_of(&config.topics.all_staged(), &message.topic).as_ref() != Some(&client) {
        return Err(format!("it names client {client}, but its topic does not"));
    }
    if config.client(&client).is_none() {
        return Err(format!("the config has no client {client}"));
    }
    Ok((client, ingestion))
}
