//! What has become of a dropped file, from where it lies and from the history.

use std::fmt;
use std::path::Path;

use bson::doc;
use jiff::Timestamp;
use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_core::io::drop_directory::{DropDirectory, DropPath};
use mysimbdp_core::io::{coredms, files};
use mysimbdp_core::outcome::Run;
use mysimbdp_core::reason::Reason;

use crate::error::Failure;

/// How a dropped file ended.
#[derive(Debug)]
pub enum Fate {
    Ingested { run: Box<Run> },
    Held(Vec<String>),
    Discarded(Vec<String>),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingested { run } => write!(
                f,
                "ingested: received {}, stored {}, duplicates {}, rejected {} in {:.2} s",
                run.received, run.stored, run.duplicates, run.rejected, run.seconds
            ),
            Self::Held(reasons) => write!(f, "held: {}", reasons.join("; ")),
            Self::Discarded(reasons) => write!(f, "discarded: {}", reasons.join("; ")),
        }
    }
}

/// Looks once: `None` while the file is still on its way. `target` is where it was dropped.
pub async fn look(
    config: &Config,
    client: &ClientId,
    ingestion: IngestionId,
    target: &DropPath,
    since: Timestamp,
) -> Result<Option<Fate>, Failure> {
    let layout = &config.layout;
    let is_there = DropDirectory::open(layout).is_ok_and(|drop_directory| drop_directory.exists(target));
    if is_there || files::exists(&layout.staged(client, ingestion)) {
        return Ok(None);
    }
    if let Some(reason) = reason_in(&layout.held(client, ingestion))? {
        return Ok(Some(Fate::Held(reason.reasons)));
    }
    for directory in files::list(&layout.discarded_root().join(client.as_str()))? {
        if let Some(reason) = reason_in(&directory)?
            && reason.decided_at >= since
            && reason.dropped_at == target.to_string()
        {
            return Ok(Some(Fate::Discarded(reason.reasons)));
        }
    }
    Ok(last_run(config, ingestion, since).await?.map(|run| Fate::Ingested { run: Box::new(run) }))
}

/// The reason beside a held or discarded file.
pub fn reason_in(directory: &Path) -> Result<Option<Reason>, Failure> {
    match files::read(&directory.join(Reason::FILE)) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn last_run(config: &Config, ingestion: IngestionId, since: Timestamp) -> Result<Option<Run>, Failure> {
    let platform = coredms::open(&config.coredms_url, &config.settings.coredms.database).await?;
    let runs = platform.find(Run::COLLECTION, doc! {"ingestion": ingestion.to_string()}, 1000).await?;
    platform.close().await;
    // Clocks of two hosts may differ a little, a history of days does not matter here.
    let earliest = since.as_millisecond() - 60_000;
    Ok(runs
        .into_iter()
        .filter_map(|run| bson::deserialize_from_document::<Run>(run).ok())
        .filter(|run| run.finished_at.timestamp_millis() >= earliest)
        .max_by_key(|run| run.finished_at))
}
