//! Keeps each message [`Finished`] on disk until the broker has acknowledged it: `state/outbox/`.
//!
//! The end of an ingestion does not wait for the broker, so its message is written to disk first. Each message is
//! published at least once. None is synced: if a power cut has torn one, it is derived again from the history.

use std::path::{Path, PathBuf};

use mysimbdp_broker::{BrokerError, BrokerLink};
use mysimbdp_model::layout::Layout;
use mysimbdp_model::message::Finished;
use mysimbdp_model::topic::Topics;
use mysimbdp_platform::failpoint;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_store::CoredmsError;

use crate::blocking::blocking;
use crate::history;
use crate::stores::Stores;

/// Why messages stay in the outbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] CoredmsError),
}

/// The directory of messages to publish.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    directory: PathBuf,
    topics: Topics,
}

impl Outbox {
    pub(crate) fn new(layout: &Layout, topics: Topics) -> Self {
        Self { directory: layout.outbox(), topics }
    }

    /// Writes a message to disk, and replaces an earlier one of the same run. Blocks.
    pub(crate) fn put(&self, run: &str, message: &Finished) -> Result<(), FileError> {
        files::create_dir_all(&self.directory)?;
        files::write_atomic(&self.directory.join(format!("{run}.json")), &json_of(message))
    }

    /// Publishes all messages, until one cannot be published.
    pub(crate) async fn publish(&self, link: &BrokerLink, stores: &Stores) -> Result<(), OutboxError> {
        let directory = self.directory.clone();
        for path in blocking(move || files::list(&directory)).await? {
            if path.extension().is_some_and(|extension| extension == "json") {
                self.publish_one(link, stores, &path).await?;
            }
        }
        Ok(())
    }

    async fn publish_one(&self, link: &BrokerLink, stores: &Stores, path: &Path) -> Result<(), OutboxError> {
        let from = path.to_owned();
        let json = blocking(move || files::read(&from)).await?;
        let message = match serde_json::from_slice::<Finished>(&json) {
            Ok(message) => Some(message),
            Err(error) => {
                let run = path.file_stem().unwrap_or_default().to_string_lossy();
                let message = history::message(stores, &run).await?;
                let derived = message.is_some();
                tracing::warn!(path = %path.display(), %error, derived, "a message was torn by a power cut");
                message
            }
        };
        if let Some(message) = message {
            let topic = self.topics.finished(&message.client_id);
            link.publish_to(topic, json_of(&message)).await?;
        }
        failpoint::hit("batch-manager.finished-published");
        let path = path.to_owned();
        Ok(blocking(move || files::remove_file_if_exists(&path)).await?)
    }
}

fn json_of(message: &Finished) -> Vec<u8> {
    serde_json::to_vec(message).expect("a message has no map")
}
