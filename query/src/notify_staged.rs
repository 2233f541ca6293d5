//! Notifies batch-manager that a file is staged again, as fetchdata does for new ones.
//!
//! Nothing depends on it: without a broker, batch-manager finds the file at its next scan.

use std::sync::Arc;
use std::time::Duration;

use mysimbdp_broker::{BrokerError, FollowingLink};
use mysimbdp_config::{Config, address};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::message::Staged;
use mysimbdp_spool::staging;
use tokio::time::timeout;

/// The longest that a command waits for the broker.
const WITHIN: Duration = Duration::from_secs(2);

/// The connection for the notifications of one command.
#[derive(Debug)]
pub struct RestagedNotifier<'a> {
    config: &'a Config,
    session: FollowingLink,
    is_unavailable: bool,
}

impl<'a> RestagedNotifier<'a> {
    pub fn new(config: &'a Config) -> Self {
        let session = address::session(&Arc::new(config.clone()), "notify", Vec::new());
        Self { config, session, is_unavailable: false }
    }

    pub async fn notify(&mut self, client: &ClientId, ingestion: IngestionId) {
        // Its run may have begun, or even ended, already.
        let Ok(manifest) = staging::read_manifest(&self.config.layout.staged(client, ingestion)) else {
            return;
        };
        if self.is_unavailable {
            return;
        }
        let staged = Staged::of(&self.config.layout, &manifest);
        let payload = serde_json::to_vec(&staged).expect("the message has no map");
        let topic = self.config.topics.staged(client);
        let published = timeout(WITHIN, publish(&mut self.session, topic, payload)).await;
        // Not worth a message: the next scan finds the file.
        self.is_unavailable = !matches!(published, Ok(Ok(())));
    }

    pub async fn close(mut self) {
        self.session.close().await;
    }
}

async fn publish(session: &mut FollowingLink, topic: String, payload: Vec<u8>) -> Result<(), BrokerError> {
    if let Some(new) = session.follow()? {
        new.wait_connected(WITHIN).await?;
    }
    match session.link() {
        Some(link) => link.publish_to(topic, payload).await,
        None => Ok(()),
    }
}
