//! What rings: messages that something has been staged. Losing one costs latency, never data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_core::io::address;
use mysimbdp_core::io::broker::{BrokerLink, ConnectOptions, Incoming, LinkEvent, SIGNAL_BYTES_MAX};
use mysimbdp_core::io::random;
use mysimbdp_core::logging::{Bursts, Untold};
use mysimbdp_core::message::Staged;
use tokio::sync::mpsc;

/// Messages that are one look at most: what is named by then waits no longer for those behind it.
const BURST_MAX: usize = 1000;

/// The connection to the broker, if there is one.
#[derive(Debug)]
pub(crate) struct Bell {
    config: Arc<Config>,
    rope: Option<Rope>,
    /// That there is no address has been said.
    said_so: bool,
    /// Messages that were none, with the topic and the reason of each.
    forged: Bursts<(), (String, String)>,
}

#[derive(Debug)]
struct Rope {
    url: String,
    link: BrokerLink,
    events: mpsc::Receiver<LinkEvent>,
}

/// What the bell says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// Look at these clients now.
    Clients(BTreeMap<ClientId, Sought>),
    /// The broker is there, or there again: look everywhere, as messages may have been lost.
    Connected,
}

/// What to look at of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// What messages have named; it need not be there.
    These(BTreeSet<IngestionId>),
    All,
}

impl Default for Sought {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Sought {
    fn add(&mut self, ingestion: Option<IngestionId>) {
        match (ingestion, self) {
            (None, sought) => *sought = Self::All,
            (Some(ingestion), Self::These(these)) => {
                these.insert(ingestion);
            }
            (Some(_), Self::All) => {}
        }
    }
}

impl Bell {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        // As often as it is asked for, by `renew`.
        let forged = Bursts::new(config.settings.batch_manager.scan_every.duration());
        Self { config, rope: None, said_so: false, forged }
    }

    /// Has the clients of another config; its broker is the same.
    pub(crate) fn take_over(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    pub(crate) fn link(&self) -> Option<&BrokerLink> {
        self.rope.as_ref().map(|rope| &rope.link)
    }

    /// Connects where there is no connection, or the broker has another address now.
    pub(crate) async fn renew(&mut self) {
        for ((), Untold { count, last: (topic, reason) }) in self.forged.due(Instant::now()) {
            tracing::warn!(count, topic, reason, "refused more messages");
        }
        let url = match address::broker(&self.config) {
            Ok(url) => url,
            Err(error) => {
                // One that cannot be found any more may still be connected.
                if self.rope.is_none() && !std::mem::replace(&mut self.said_so, true) {
                    let error = mysimbdp_core::chain(&error);
                    tracing::warn!(error, "no broker, staging is scanned on the clock only");
                }
                return;
            }
        };
        if self.rope.as_ref().is_some_and(|rope| rope.url == url) {
            return;
        }
        self.close().await;
        let name = self.config.settings.broker.topic_prefix.replace('/', "-");
        let mut options =
            ConnectOptions::new(url.clone(), format!("{name}-batch-manager-{:08x}", random::number() as u32));
        options.keep_alive = self.config.broker_keep_alive;
        options.message_bytes_max = SIGNAL_BYTES_MAX;
        match BrokerLink::connect(options, vec![self.config.topics.all_staged()]) {
            Ok((link, events)) => {
                self.said_so = false;
                self.rope = Some(Rope { url, link, events });
            }
            Err(error) => {
                let error = mysimbdp_core::chain(&error);
                tracing::error!(error, "cannot connect to the broker, staging is scanned on the clock only");
            }
        }
    }

    /// Waits for the next ring; for ever without a connection. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Ring {
        loop {
            let Some(rope) = &mut self.rope else { return std::future::pending().await };
            let Some(event) = rope.events.recv().await else {
                self.rope = None;
                continue;
            };
            let mut clients: BTreeMap<ClientId, Sought> = BTreeMap::new();
            let mut event = Some(event);
            let mut left = BURST_MAX;
            // A burst of messages is one look.
            while let Some(next) = event {
                match next {
                    LinkEvent::Connected => return Ring::Connected,
                    LinkEvent::Disconnected { .. } => {}
                    LinkEvent::Message(message) => match parse(&self.config, &message) {
                        Ok((client, ingestion)) => clients.entry(client).or_default().add(ingestion),
                        Err(reason) => {
                            let refused = (message.topic, reason);
                            if let Some((topic, reason)) = self.forged.count((), refused, Instant::now()) {
                                tracing::warn!(topic, reason, "refused a message");
                            }
                        }
                    },
                }
                left -= 1;
                event = if left > 0 { rope.events.try_recv().ok() } else { None };
            }
            if !clients.is_empty() {
                return Ring::Clients(clients);
            }
        }
    }

    pub(crate) async fn close(&mut self) {
        if let Some(rope) = self.rope.take() {
            rope.link.close().await;
        }
    }
}

/// The client that a message is about, where it is one of ours, and the ingestion that it names.
fn parse(config: &Config, message: &Incoming) -> Result<(ClientId, Option<IngestionId>), String> {
    let (client, ingestion) =
        Staged::parse(&message.payload).map_err(|error| mysimbdp_core::chain(&error))?;
    if config.topics.client_of(&config.topics.all_staged(), &message.topic).as_ref() != Some(&client) {
        return Err(format!("it names client {client}, which its topic does not"));
    }
    if config.client(&client).is_none() {
        return Err(format!("the config has no client {client}"));
    }
    Ok((client, ingestion))
}
