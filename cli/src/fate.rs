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
use crate::output::Foreign;
use crate::state_files::Damaged;

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
            Self::Held(reasons) => write!(f, "held: {}", Foreign(&reasons.join("; "))),
            Self::Discarded(reasons) => write!(f, "discarded: {}", Foreign(&reasons.join("; "))),
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
    match reason_in(&layout.held(client, ingestion))? {
        Explained::By(reason) => return Ok(Some(Fate::Held(reason.reasons))),
        Explained::Damaged(damaged) => return Ok(Some(Fate::Held(vec![damaged.to_string()]))),
        Explained::Nowhere => {}
    }
    for directory in files::list(&layout.discarded_root().join(client.as_str()))? {
        match reason_in(&directory)? {
            Explained::By(reason)
                if reason.decided_at >= since && reason.dropped_at == target.to_string() =>
            {
                return Ok(Some(Fate::Discarded(reason.reasons)));
            }
            // Which file it is about cannot be read; one of this name lies there.
            Explained::Damaged(damaged) if files::exists(&directory.join(target.name())) => {
                return Ok(Some(Fate::Discarded(vec![damaged.to_string()])));
            }
            Explained::By(_) | Explained::Damaged(_) | Explained::Nowhere => {}
        }
    }
    Ok(last_run(config, ingestion, since).await?.map(|run| Fate::Ingested { run: Box::new(run) }))
}

/// What the directory of a held or discarded file says.
#[derive(Debug)]
pub enum Explained {
    By(Reason),
    /// The file is there, but its reason cannot be read.
    Damaged(Damaged),
    /// The file has moved on.
    Nowhere,
}

/// The reason beside a held or discarded file.
pub fn reason_in(directory: &Path) -> Result<Explained, Failure> {
    let path = directory.join(Reason::FILE);
    let fault = match files::read(&path) {
        Ok(json) => match serde_json::from_slice(&json) {
            Ok(reason) => return Ok(Explained::By(reason)),
            Err(error) => error.to_string(),
        },
        // A file moves with its directory, so it is still here.
        Err(error) if error.is_not_found() && files::exists(directory) => "it is missing".to_owned(),
        Err(error) if error.is_not_found() => return Ok(Explained::Nowhere),
        Err(error) => return Err(error.into()),
    };
    Ok(Explained::Damaged(Damaged { path, reason: fault }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_held_or_discarded_file_whose_reason_is_damaged_is_not_ingested() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let file = folder.path().join("config.json");
        let text = r#"{"clients": [{"id": "a", "apps": [{"name": "app", "command": ["x"]}]}]}"#;
        files::write_atomic(&file, text.as_bytes()).expect("config can be written");
        let config = Config::load(&file, |_| None).expect("a valid config");
        let client: ClientId = "a".parse().expect("client id");
        let ingestion = IngestionId::new(&client, &mysimbdp_core::ingestion::Hasher::new().finalize());
        let target = DropPath::parse("client-input-directory/a/data.csv").expect("a path");
        let held = config.layout.held(&client, ingestion);
        let discarded = config.layout.discarded(Some(&client), Timestamp::UNIX_EPOCH, 1);
        for (directory, state) in [(held, "held"), (discarded, "discarded")] {
            files::create_dir_all(&directory).expect("directory");
            files::write_atomic(&directory.join("data.csv"), b"a\n1\n").expect("content");
            for content in [&b""[..], b"{\"file\":"] {
                files::write_atomic(&directory.join(Reason::FILE), content).expect("damaged reason");
                let fate = look(&config, &client, ingestion, &target, Timestamp::UNIX_EPOCH).await;
                let fate = fate.expect("looked").expect("it has ended").to_string();
                assert!(fate.starts_with(state) && fate.contains("reason.json is damaged"), "{fate}");
            }
            files::remove_dir_all(&directory).expect("remove");
        }
    }
}
