//! Whose an outbox is, and the epoch of its numbers: `outbox.json`.

use std::path::Path;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::source::SourceName;
use mysimbdp_platform::{files, random};
use serde::{Deserialize, Serialize};

use super::{OutboxError, segment};

const FILE: &str = "outbox.json";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Label {
    version: u32,
    client_id: ClientId,
    source: SourceName,
    /// In decimal digits, as in the messages.
    epoch: String,
}

/// The epoch of the outbox in `directory`; a new outbox gets a new one. The file is whole whenever it has its name; the
/// name itself is for the caller to sync.
pub fn epoch(directory: &Path, client: &ClientId, source: &SourceName) -> Result<u64, OutboxError> {
    let path = directory.join(FILE);
    let text = match files::read(&path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return new(directory, client, source),
        Err(error) => return Err(error.into()),
    };
    let unreadable = || OutboxError::Label { path: path.clone() };
    let label: Label = serde_json::from_slice(&text).map_err(|_| unreadable())?;
    if label.version != VERSION {
        return Err(unreadable());
    }
    if (&label.client_id, &label.source) != (client, source) {
        return Err(OutboxError::OfAnother {
            directory: directory.to_owned(),
            client: label.client_id,
            source_name: label.source,
        });
    }
    label.epoch.parse().map_err(|_| unreadable())
}

fn new(directory: &Path, client: &ClientId, source: &SourceName) -> Result<u64, OutboxError> {
    // Entries without their epoch: with another one they would be stored a second time.
    if !segment::list(directory)?.is_empty() {
        return Err(OutboxError::Label { path: directory.join(FILE) });
    }
    let epoch = random::number();
    let label = Label {
        version: VERSION,
        client_id: client.clone(),
        source: source.clone(),
        epoch: epoch.to_string(),
    };
    let text = serde_json::to_vec(&label).map_err(|_| OutboxError::Label { path: directory.join(FILE) })?;
    files::write_durable(&directory.join(FILE), &text)?;
    Ok(epoch)
}
