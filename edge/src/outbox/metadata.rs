//! The owner of an outbox, and the epoch of its numbers: `outbox.json`.

use std::path::Path;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::source::SourceName;
use mysimbdp_platform::{files, random};
use serde::{Deserialize, Serialize};

use super::{OutboxError, segment};

const FILE: &str = "outbox.json";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct OutboxMetadata {
    version: u32,
    client_id: ClientId,
    source: SourceName,
    /// Decimal digits, as in the messages.
    epoch: String,
}

/// Returns the epoch of the outbox in `directory`; a new outbox gets a new one. The file is complete as soon as it has its
/// name; the caller must sync the name.
pub fn epoch(directory: &Path, client: &ClientId, source: &SourceName) -> Result<u64, OutboxError> {
    let path = directory.join(FILE);
    let text = match files::read(&path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return create(directory, client, source),
        Err(error) => return Err(error.into()),
    };
    let unreadable = || OutboxError::InvalidMetadata { path: path.clone() };
    let metadata: OutboxMetadata = serde_json::from_slice(&text).map_err(|_| unreadable())?;
    if metadata.version != VERSION {
        return Err(unreadable());
    }
    if (&metadata.client_id, &metadata.source) != (client, source) {
        return Err(OutboxError::OtherSource {
            directory: directory.to_owned(),
            client: metadata.client_id,
            source_name: metadata.source,
        });
    }
    metadata.epoch.parse().map_err(|_| unreadable())
}

fn create(directory: &Path, client: &ClientId, source: &SourceName) -> Result<u64, OutboxError> {
    // These entries have lost their epoch. Under another epoch they would be stored a second time.
    if !segment::list(directory)?.is_empty() {
        return Err(OutboxError::InvalidMetadata { path: directory.join(FILE) });
    }
    let epoch = random::number();
    let metadata = OutboxMetadata {
        version: VERSION,
        client_id: client.clone(),
        source: source.clone(),
        epoch: epoch.to_string(),
    };
    let text = serde_json::to_vec(&metadata)
        .map_err(|_| OutboxError::InvalidMetadata { path: directory.join(FILE) })?;
    files::write_durable(&directory.join(FILE), &text)?;
    Ok(epoch)
}
