//! A connection that follows the broker to its current address.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::address::without_credentials;
use super::{BrokerError, BrokerLink, ConnectOptions, LinkEvent};

/// How often the address is looked up while there is no connection: an embedded broker may come back on another port.
const LOOKUP_EVERY: Duration = Duration::from_secs(1);

/// Returns the broker's address, or why there is none.
type Locate = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// A [`BrokerLink`] to wherever the broker is now.
///
/// Each [`LinkEvent::Connected`] means that all subscriptions are acknowledged, again or for the first time. Messages that
/// were published before that may be lost: a caller that depends on them scans again.
pub struct FollowingLink {
    locate: Locate,
    /// The address in it is replaced by the located one.
    options: ConnectOptions,
    subscriptions: Vec<String>,
    connection: Option<Connection>,
    lookup_at: Instant,
    /// Why there is no connection; each reason is logged once.
    unavailable_reason: Option<String>,
}

struct Connection {
    url: String,
    link: BrokerLink,
    events: mpsc::Receiver<LinkEvent>,
}

impl FollowingLink {
    /// Does not connect yet; [`FollowingLink::next`] and [`FollowingLink::follow`] do.
    pub fn new(
        locate: impl Fn() -> Result<String, String> + Send + Sync + 'static,
        options: ConnectOptions,
        subscriptions: Vec<String>,
    ) -> Self {
        let (locate, lookup_at) = (Box::new(locate), Instant::now());
        Self { locate, options, subscriptions, connection: None, lookup_at, unavailable_reason: None }
    }

    /// Looks up the address unless there is a connection. If the address has changed, starts to connect and returns the new
    /// link, without waiting for it.
    ///
    /// # Errors
    ///
    /// The address is invalid. An unknown address and a broker that does not answer are not errors.
    pub fn follow(&mut self) -> Result<Option<&BrokerLink>, BrokerError> {
        self.lookup_at = Instant::now() + LOOKUP_EVERY;
        if self.link().is_some() {
            return Ok(None);
        }
        let url = match (self.locate)() {
            Ok(url) => url,
            Err(reason) => {
                // If it were kept, it would wait for its back-off when the broker comes back to the same address.
                self.connection = None;
                self.set_unavailable_reason(reason);
                return Ok(None);
            }
        };
        if self.connection.as_ref().is_some_and(|connection| connection.url == url) {
            return Ok(None);
        }
        self.connection = None;
        let options = ConnectOptions { url: url.clone(), ..self.options.clone() };
        let (link, events) = BrokerLink::connect(options, self.subscriptions.clone())?;
        Ok(Some(&self.connection.insert(Connection { url, link, events }).link))
    }

    /// Returns the next event, and follows the broker while it waits. May be dropped and called again.
    pub async fn next(&mut self) -> LinkEvent {
        loop {
            let lookup_at = self.lookup_at.into();
            let event = match &mut self.connection {
                Some(connection) if connection.link.is_connected() => connection.events.recv().await,
                Some(connection) => tokio::select! {
                    event = connection.events.recv() => event,
                    () = sleep_until(lookup_at) => None,
                },
                None => {
                    sleep_until(lookup_at).await;
                    None
                }
            };
            match event {
                Some(event) => {
                    self.update_unavailable_reason(&event);
                    return event;
                }
                None => {
                    if let Err(error) = self.follow() {
                        self.set_unavailable_reason(mysimbdp_model::error_chain(&error));
                    }
                }
            }
        }
    }

    /// Returns an event if one has already happened.
    pub fn try_next(&mut self) -> Option<LinkEvent> {
        let event = self.connection.as_mut()?.events.try_recv().ok()?;
        self.update_unavailable_reason(&event);
        Some(event)
    }

    /// Returns the link if it is connected.
    pub fn link(&self) -> Option<&BrokerLink> {
        self.connection.as_ref().map(|connection| &connection.link).filter(|link| link.is_connected())
    }

    /// Returns the address that is connected to, or being tried.
    pub fn url(&self) -> Option<&str> {
        self.connection.as_ref().map(|connection| &*connection.url)
    }

    /// Returns why there is no connection now.
    pub fn unavailable_reason(&self) -> Option<String> {
        if self.link().is_some() {
            return None;
        }
        let reason = self.unavailable_reason.as_deref().unwrap_or("it does not answer");
        Some(match self.url() {
            Some(url) => format!("the broker at {} is unavailable: {reason}", without_credentials(url)),
            None => reason.to_owned(),
        })
    }

    /// Disconnects and waits for the end, at most 5 s.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.link.close().await;
        }
    }

    fn update_unavailable_reason(&mut self, event: &LinkEvent) {
        match event {
            LinkEvent::Connected => self.unavailable_reason = None,
            // The link logs it.
            LinkEvent::Disconnected { reason } => self.unavailable_reason = Some(reason.clone()),
            LinkEvent::Message(_) => {}
        }
    }

    fn set_unavailable_reason(&mut self, reason: String) {
        if self.unavailable_reason.as_ref() != Some(&reason) {
            tracing::warn!(error = reason, "no broker address, trying again every second");
            self.unavailable_reason = Some(reason);
        }
    }
}

impl fmt::Debug for FollowingLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowingLink")
            .field("options", &self.options)
            .field("subscriptions", &self.subscriptions)
            .field("unavailable_reason", &self.unavailable_reason())
            .finish_non_exhaustive()
    }
}
