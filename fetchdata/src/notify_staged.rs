//! Notifies batch-manager over MQTT that something is staged.
//!
//! Nothing depends on it. Without a broker, batch-manager finds the file at its next scan, so a lost message is not
//! sent again and an outage is worth one warning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_broker::{BrokerLink, FollowingLink};
use mysimbdp_config::{Config, address};
use mysimbdp_model::error_chain;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::message::Staged;
use mysimbdp_telemetry::logging::Outage;
use tokio::sync::Mutex;

/// A new connection gets this long, once.
const CONNECT_WAIT: Duration = Duration::from_millis(500);

/// A file waits at most this long for its notification.
const NOTIFY_MAX: Duration = Duration::from_secs(2);

/// The connection to the broker, made when it is first needed.
#[derive(Debug)]
pub(crate) struct StagedNotifier {
    config: Arc<Config>,
    session: Mutex<FollowingLink>,
    outage: Mutex<Outage>,
}

impl StagedNotifier {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let session = Mutex::new(address::session(&config, "fetchdata", Vec::new()));
        Self { config, session, outage: Mutex::default() }
    }

    pub(crate) async fn notify(&self, manifest: &Manifest) {
        let staged = Staged::of(&self.config.layout, manifest);
        let payload = serde_json::to_vec(&staged).expect("the message has no map");
        let topic = self.config.topics.staged(&manifest.client);
        let published = match tokio::time::timeout(NOTIFY_MAX, self.publish(topic, payload)).await {
            Ok(published) => published,
            Err(_) => Err(format!("the broker did not acknowledge within {} s", NOTIFY_MAX.as_secs())),
        };
        let (mut outage, now) = (self.outage.lock().await, Instant::now());
        match published {
            Ok(()) => {
                if let Some(lasted) = outage.end(now) {
                    let seconds = lasted.as_secs();
                    tracing::info!(seconds, "batch-manager is notified again");
                }
            }
            Err(error) => {
                if outage.begin(now) {
                    tracing::warn!(
                        error,
                        "batch-manager cannot be notified, it finds the files by its own scans"
                    );
                }
            }
        }
    }

    pub(crate) async fn close(&self) {
        self.session.lock().await.close().await;
    }

    async fn publish(&self, topic: String, payload: Vec<u8>) -> Result<(), String> {
        let link = self.link().await?;
        link.publish_to(topic, payload).await.map_err(|error| error_chain(&error))
    }

    async fn link(&self) -> Result<BrokerLink, String> {
        let mut session = self.session.lock().await;
        if let Some(begun) = session.follow().map_err(|error| error_chain(&error))? {
            // A failure shows below.
            let _ = begun.wait_connected(CONNECT_WAIT).await;
        }
        session.link().cloned().ok_or_else(|| session.unavailable_reason().unwrap_or_default())
    }
}
