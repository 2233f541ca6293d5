//! The connection to the broker, wherever that is now.

use std::sync::Arc;
use std::time::Duration;

use mysimbdp_core::io::broker::{BrokerError, BrokerLink, ConnectOptions, LinkEvent, SIGNAL_BYTES_MAX};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::settings::Settings;

/// While there is no connection, so often is looked whether the broker has moved: an embedded one may have another port.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub struct Door {
    settings: Arc<Settings>,
    client_id: String,
    open: Option<Open>,
}

struct Open {
    url: String,
    link: BrokerLink,
    events: mpsc::Receiver<LinkEvent>,
}

impl Door {
    /// Starts connecting. That there is no broker yet is no error, a wrong address is.
    pub fn open(settings: Arc<Settings>, epoch: u64) -> Result<Self, BrokerError> {
        // The outbox is locked, so nobody else has this epoch.
        let client_id = format!("edge-{}-{}-{epoch:016x}", settings.client, settings.source);
        let mut door = Self { settings, client_id, open: None };
        match door.settings.broker.find() {
            Ok(url) => door.connect(url)?,
            Err(error) => {
                tracing::warn!(error = %mysimbdp_core::chain(&error), "no broker yet, looking again")
            }
        }
        Ok(door)
    }

    /// The connection, if it is up.
    pub fn link(&self) -> Option<&BrokerLink> {
        self.open.as_ref().map(|open| &open.link).filter(|link| link.is_connected())
    }

    /// What happens next. May be dropped at any await.
    pub async fn next(&mut self) -> LinkEvent {
        loop {
            let event = match &mut self.open {
                Some(open) if open.link.is_connected() => open.events.recv().await,
                Some(open) => tokio::select! {
                    event = open.events.recv() => event,
                    () = sleep(LOOK_EVERY) => None,
                },
                None => {
                    sleep(LOOK_EVERY).await;
                    None
                }
            };
            match event {
                Some(event) => return event,
                None => self.look_again(),
            }
        }
    }

    /// Waits for the end of the connection.
    pub async fn close(&self) {
        if let Some(open) = &self.open {
            open.link.close().await;
        }
    }

    fn look_again(&mut self) {
        let Ok(url) = self.settings.broker.find() else { return };
        if self.open.as_ref().is_some_and(|open| open.url == url) {
            return;
        }
        if let Err(error) = self.connect(url) {
            tracing::warn!(error = %mysimbdp_core::chain(&error), "no broker at the address that is named now");
        }
    }

    /// A connection to the former address ends with its last owner.
    fn connect(&mut self, url: String) -> Result<(), BrokerError> {
        let Settings { client, source, topics, keep_alive, .. } = &*self.settings;
        let options = ConnectOptions {
            keep_alive: *keep_alive,
            message_bytes_max: SIGNAL_BYTES_MAX,
            ..ConnectOptions::new(url.clone(), &*self.client_id)
        };
        let (link, events) = BrokerLink::connect(options, vec![topics.receipts(client, source)])?;
        self.open = Some(Open { url, link, events });
        Ok(())
    }
}
