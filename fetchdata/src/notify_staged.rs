//! Rings the bell: tells batch-manager over MQTT that something is staged.
//!
//! Nobody depends on it. Without a broker batch-manager finds the file at its next scan, so a lost message is not sent
//! again and an outage is worth one warning.

use std::sync::Arc;
use std::time::Duration;

use mysimbdp_core::config::Config;
use mysimbdp_core::io::address;
use mysimbdp_core::io::broker::{BrokerLink, ConnectOptions};
use mysimbdp_core::io::random;
use mysimbdp_core::layout::Layout;
use mysimbdp_core::manifest::Manifest;
use mysimbdp_core::message::{self, Staged};
use tokio::sync::Mutex;

/// A connection that has just been begun gets this long, once.
const CONNECT_WAIT: Duration = Duration::from_millis(500);

/// A file waits no longer than this for its bell.
const RING_MAX: Duration = Duration::from_secs(2);

/// The connection to the broker, made when it is first needed.
#[derive(Debug)]
pub(crate) struct Bell {
    config: Arc<Config>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    /// The outage has been warned of.
    warned: bool,
}

#[derive(Clone, Debug)]
struct Link {
    url: String,
    link: BrokerLink,
}

impl Bell {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, state: Mutex::new(State::default()) }
    }

    pub(crate) async fn ring(&self, manifest: &Manifest) {
        let staged = staged(&self.config.layout, manifest);
        let payload = serde_json::to_vec(&staged).expect("the message has no map");
        let topic = self.config.topics.staged(&manifest.client);
        let published = match tokio::time::timeout(RING_MAX, self.publish(topic, payload)).await {
            Ok(published) => published,
            Err(_) => Err(format!("the broker did not acknowledge within {} s", RING_MAX.as_secs())),
        };
        let mut state = self.state.lock().await;
        match published {
            Ok(()) if state.warned => {
                state.warned = false;
                tracing::info!("batch-manager is notified again");
            }
            Ok(()) => {}
            Err(error) if !state.warned => {
                state.warned = true;
                tracing::warn!(
                    error,
                    "batch-manager cannot be notified, it finds the files by its own scans"
                );
            }
            Err(_) => {}
        }
    }

    pub(crate) async fn close(&self) {
        if let Some(link) = self.state.lock().await.link.take() {
            link.link.close().await;
        }
    }

    async fn publish(&self, topic: String, payload: Vec<u8>) -> Result<(), String> {
        let link = self.link().await?;
        link.publish_to(topic, payload).await.map_err(|error| mysimbdp_core::chain(&error))
    }

    /// The link to where the broker is now: the embedded one may come back at another port.
    async fn link(&self) -> Result<BrokerLink, String> {
        let url = address::broker(&self.config).map_err(|error| mysimbdp_core::chain(&error))?;
        let mut state = self.state.lock().await;
        if let Some(link) = state.link.as_ref().filter(|link| link.url == url) {
            return Ok(link.link.clone());
        }
        if let Some(old) = state.link.take() {
            old.link.close().await;
        }
        let mut options = ConnectOptions::new(&url, format!("mysimbdp-fetchdata-{:016x}", random::number()));
        options.keep_alive = self.config.broker_keep_alive;
        let (link, _) =
            BrokerLink::connect(options, Vec::new()).map_err(|error| mysimbdp_core::chain(&error))?;
        // Its failure shows when publishing.
        let _ = link.wait_connected(CONNECT_WAIT).await;
        state.link = Some(Link { url, link: link.clone() });
        Ok(link)
    }
}

fn staged(layout: &Layout, manifest: &Manifest) -> Staged {
    let path = layout.staged(&manifest.client, manifest.ingestion).join(Layout::MANIFEST);
    Staged {
        version: message::VERSION,
        client_id: manifest.client.clone(),
        ingestion: manifest.ingestion,
        manifest: path.strip_prefix(layout.root()).unwrap_or(&path).display().to_string(),
        micro_batches: manifest.micro_batches.len() as u32,
        bytes: manifest.bytes,
        lane: manifest.lane,
    }
}
