//! Messages that an ingestion has ended, until the broker has taken them: `state/outbox/`.
//!
//! An ingestion does not wait for the broker to be finished, so what it would say is written down first. Each is
//! published at least once.

use std::path::{Path, PathBuf};

use mysimbdp_core::failpoint;
use mysimbdp_core::io::broker::{BrokerError, BrokerLink};
use mysimbdp_core::io::files::{self, FileError};
use mysimbdp_core::layout::Layout;
use mysimbdp_core::message::Finished;
use mysimbdp_core::topic::Topics;

use crate::blocking::blocking;

/// Why messages are still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// The directory of messages to be published.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    directory: PathBuf,
    topics: Topics,
}

impl Outbox {
    pub(crate) fn new(layout: &Layout, topics: Topics) -> Self {
        Self { directory: layout.state().join("outbox"), topics }
    }

    /// Writes a message down; again for the same run replaces it. Blocks.
    pub(crate) fn put(&self, run: &str, message: &Finished) -> Result<(), FileError> {
        files::create_dir_all(&self.directory)?;
        let json = serde_json::to_vec(message).expect("a message has no map");
        files::write_atomic(&self.directory.join(format!("{run}.json")), &json)
    }

    /// Publishes all messages, until one is not taken.
    pub(crate) async fn publish(&self, link: &BrokerLink) -> Result<(), OutboxError> {
        let directory = self.directory.clone();
        for path in blocking(move || files::list(&directory)).await? {
            if path.extension().is_some_and(|extension| extension == "json") {
                self.publish_one(link, &path).await?;
            }
        }
        Ok(())
    }

    async fn publish_one(&self, link: &BrokerLink, path: &Path) -> Result<(), OutboxError> {
        let from = path.to_owned();
        let json = blocking(move || files::read(&from)).await?;
        match serde_json::from_slice::<Finished>(&json) {
            Ok(message) => link.publish_to(self.topics.finished(&message.client_id), json).await?,
            // Torn by a power cut: the history in coredms has what it would have said.
            Err(error) => tracing::warn!(path = %path.display(), %error, "removed a torn message"),
        }
        failpoint::hit("batch-manager.finished-published");
        let path = path.to_owned();
        Ok(blocking(move || files::remove_file_if_there(&path)).await?)
    }
}
