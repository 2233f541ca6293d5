//! Determines how a dropped file ended, from its location and from the history.

use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::outcome::{Counts, FinalState, Run};
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath, FileStatus};
use mysimbdp_store::CoredmsError;

use crate::error::QueryError;
use crate::reason_file::{ReasonLookup, reason_in};

/// A file that was dropped.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The path it was dropped at.
    pub target: DropPath,
    pub ingestion: IngestionId,
    pub bytes: u64,
    /// The time of the drop; older reasons are not about it.
    pub since: Timestamp,
    /// Runs of the same ingestion that ended by this time are about earlier drops.
    pub earlier_runs: bson::DateTime,
    /// A receipt that already existed at that path, and is about an earlier file.
    pub earlier_receipt: Option<FileStatus>,
}

/// How a dropped file ended.
#[derive(Debug)]
pub enum FileOutcome {
    Ingested {
        run: Box<Run>,
    },
    /// The file is ingested, which is known only from its receipt.
    Receipt {
        counts: Counts,
        seconds: f64,
    },
    Held(Vec<String>),
    Discarded(Vec<String>),
}

impl FileOutcome {
    /// Whether all of the file is in the store.
    pub fn is_good(&self) -> bool {
        match self {
            Self::Ingested { run } => run.rejected == 0,
            Self::Receipt { counts, .. } => counts.rejected == 0,
            Self::Held(_) | Self::Discarded(_) => false,
        }
    }
}

/// Where a dropped file is, or how it ended.
#[derive(Debug)]
pub enum FileProgress {
    Ended(FileOutcome),
    /// It is still where it was dropped.
    Dropped,
    /// fetchdata has taken it, and it is not known to have ended.
    Taken {
        /// Why its end may be hidden from this user.
        hidden_because: Option<String>,
    },
}

/// Finds where a dropped file is, or how it ended.
///
/// A sender may be another user than the platform's, who cannot read the platform's directories. Then the receipt tells
/// how the file ended, or the history, if there is one and this user can read the store.
pub async fn progress(
    config: &Config,
    client: &ClientId,
    dropped: &Dropped,
) -> Result<FileProgress, QueryError> {
    let layout = &config.layout;
    let is_dropped =
        DropDirectory::open(layout).is_ok_and(|drop_directory| drop_directory.exists(&dropped.target));
    if is_dropped {
        return Ok(FileProgress::Dropped);
    }
    let mut hidden_because = None;
    match on_disk(layout, client, dropped) {
        Ok(Some(OnDisk::Taken)) => return Ok(FileProgress::Taken { hidden_because: None }),
        Ok(Some(OnDisk::Held(reasons))) => return Ok(FileProgress::Ended(FileOutcome::Held(reasons))),
        Ok(Some(OnDisk::Discarded(reasons, at))) => {
            // Another drop of this content may have been discarded because this one has been ingested.
            let run = first_run(config, client, dropped).await.ok().flatten();
            let run = run.filter(|run| run.finished_at.timestamp_millis() < at.as_millisecond());
            let outcome = run.map_or(FileOutcome::Discarded(reasons), outcome_of);
            return Ok(FileProgress::Ended(outcome));
        }
        Ok(None) => {}
        Err(error) if error.is_denied() => hidden_because = Some(error_chain(&error)),
        Err(error) => return Err(error.into()),
    }
    if hidden_because.is_some()
        && let Some(outcome) = receipt(layout, dropped)
    {
        return Ok(FileProgress::Ended(outcome));
    }
    match first_run(config, client, dropped).await {
        Ok(Some(run)) => Ok(FileProgress::Ended(outcome_of(run))),
        Ok(None) => Ok(FileProgress::Taken { hidden_because }),
        // The store may be back before the caller gives up.
        Err(error) => Ok(FileProgress::Taken {
            hidden_because: Some(hidden_because.unwrap_or_else(|| error_chain(&error))),
        }),
    }
}

/// The reason of a held file whose own reasons this user cannot read.
const IN_HISTORY: &str = "according to the history; its reasons are in held/, which this user cannot read";

fn outcome_of(run: Run) -> FileOutcome {
    match run.state {
        FinalState::Ingested => FileOutcome::Ingested { run: Box::new(run) },
        FinalState::Purged => {
            FileOutcome::Held(vec!["according to the history; it has been purged since".to_owned()])
        }
        // No run ends as discarded: validation refuses a file before its first run.
        FinalState::Held | FinalState::Discarded => FileOutcome::Held(vec![IN_HISTORY.to_owned()]),
    }
}

/// Where a file is among the platform's own directories.
enum OnDisk {
    Taken,
    Held(Vec<String>),
    /// And when.
    Discarded(Vec<String>, Timestamp),
}

/// Finds the file in the platform's own directories; `None` if it is in none of them.
fn on_disk(layout: &Layout, client: &ClientId, dropped: &Dropped) -> Result<Option<OnDisk>, FileError> {
    let Dropped { target, ingestion, since, .. } = dropped;
    let (ingestion, since) = (*ingestion, *since);
    match files::metadata(&layout.staged(client, ingestion)) {
        Ok(_) => return Ok(Some(OnDisk::Taken)),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    match reason_in(&layout.held(client, ingestion))? {
        ReasonLookup::Found(reason) if reason.decided_at >= since => {
            return Ok(Some(OnDisk::Held(reason.reasons)));
        }
        ReasonLookup::Damaged(damaged) => return Ok(Some(OnDisk::Held(vec![damaged.to_string()]))),
        // Either an earlier hold, which is about to be retried, or none.
        ReasonLookup::Found(_) | ReasonLookup::Moved => {}
    }
    let mut discarded: Option<(Vec<String>, Timestamp)> = None;
    for directory in files::list(&layout.discarded_root().join(client.as_str()))? {
        match reason_in(&directory)? {
            ReasonLookup::Found(reason)
                if reason.decided_at >= since
                    && reason.dropped_at == target.to_string()
                    // Not that of a later file at this path.
                    && reason.ingestion.as_ref().is_none_or(|of| *of == ingestion.to_string())
                    && discarded.as_ref().is_none_or(|(_, earlier)| reason.decided_at < *earlier) =>
            {
                discarded = Some((reason.reasons, reason.decided_at));
            }
            // The reason is unreadable, so only the file name can be compared.
            ReasonLookup::Damaged(damaged) if files::exists(&directory.join(target.name())) => {
                discarded.get_or_insert((vec![damaged.to_string()], Timestamp::MAX));
            }
            ReasonLookup::Found(_) | ReasonLookup::Damaged(_) | ReasonLookup::Moved => {}
        }
    }
    Ok(discarded.map(|(reasons, at)| OnDisk::Discarded(reasons, at)))
}

/// The outcome by the receipt. The receipt of a file that was refused unread has no ingestion; its size is compared.
fn receipt(layout: &Layout, dropped: &Dropped) -> Option<FileOutcome> {
    let drop_directory = DropDirectory::open(layout).ok()?;
    let status = drop_directory.receipt_status(&dropped.target)?;
    let receipt = drop_directory.receipt(&dropped.target)?;
    let is_of_it = match receipt.ingestion {
        Some(ingestion) => ingestion == dropped.ingestion,
        None => receipt.bytes == dropped.bytes,
    };
    if dropped.earlier_receipt == Some(status) || !is_of_it {
        return None;
    }
    let reasons = || vec![receipt.reason.clone().unwrap_or_default()];
    Some(match receipt.state {
        FinalState::Ingested => FileOutcome::Receipt { counts: receipt.counts, seconds: receipt.seconds },
        // No receipt has the state `purged`.
        FinalState::Held | FinalState::Purged => FileOutcome::Held(reasons()),
        FinalState::Discarded => FileOutcome::Discarded(reasons()),
    })
}

/// The first run of the content that has ended since the drop; `None` if there is none, or it is one of another client.
async fn first_run(
    config: &Config,
    client: &ClientId,
    dropped: &Dropped,
) -> Result<Option<Run>, CoredmsError> {
    let history = crate::open_history(config).await?;
    let runs = history.runs_of(dropped.ingestion).await;
    history.close().await;
    let is_of_drop = |run: &Run| run.client == client.as_str() && run.finished_at > dropped.earlier_runs;
    Ok(runs?.into_iter().filter(is_of_drop).min_by_key(|run| run.finished_at))
}

/// The run of this ingestion that ended last.
///
/// # Errors
///
/// The store cannot be read.
pub async fn last_run(config: &Config, ingestion: IngestionId) -> Result<Option<Run>, CoredmsError> {
    let history = crate::open_history(config).await?;
    let last = history.last_run_of(ingestion).await;
    history.close().await;
    last
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use mysimbdp_model::reason::ReasonFile;
    use mysimbdp_platform::clock;
    use mysimbdp_store::history::History;

    use super::*;

    fn config() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().expect("temporary directory");
        let file = folder.path().join("config.json");
        let text = r#"{"clients": [{"id": "a", "apps": [{"name": "app", "command": ["x"]}]}]}"#;
        files::write_atomic(&file, text.as_bytes()).expect("config can be written");
        let config = Config::load(&file, |_| None).expect("a valid config");
        (folder, config)
    }

    fn dropped(client: &ClientId, since: Timestamp) -> Dropped {
        Dropped {
            target: DropPath::parse("client-input-directory/a/data.csv").expect("a path"),
            ingestion: IngestionId::new(client, &mysimbdp_model::ingestion::Hasher::new().finalize()),
            bytes: 4,
            since,
            earlier_runs: bson::DateTime::from_millis(since.as_millisecond()),
            earlier_receipt: None,
        }
    }

    /// For a moment the file is in none of the directories: fetchdata has taken it, and has not yet staged the held one
    /// again.
    #[tokio::test]
    async fn a_file_that_is_dropped_again_has_not_ended_with_an_earlier_run() {
        let (_folder, config) = config();
        let client: ClientId = "a".parse().expect("client id");
        let since = clock::now();
        let dropped = dropped(&client, since);
        let platform = mysimbdp_store::open(&config.coredms_url, &config.settings.coredms.database).await;
        let platform = platform.expect("open the store");
        let ended = |millis: i64, state: FinalState| {
            let finished_at = bson::DateTime::from_millis(since.as_millisecond() + millis);
            doc! {
                "_id": format!("{}-1", dropped.ingestion), "ingestion": dropped.ingestion.to_string(),
                "client": "a", "app": "app", "lane": "live", "file": "data.csv", "bytes": 4_i64, "blake3": "",
                "micro_batches": 1, "received": 1_i64, "stored": 0_i64, "duplicates": 0_i64,
                "rejected": 1_i64, "audited": true, "state": state.as_str(), "received_at": finished_at,
                "staged_at": finished_at, "finished_at": finished_at, "seconds": 0.1,
            }
        };
        for state in [FinalState::Held, FinalState::Ingested] {
            platform.put(History::COLLECTION, ended(-1_000, state)).await.expect("write a run");
            let found = progress(&config, &client, &dropped).await;
            assert!(
                matches!(found, Ok(FileProgress::Taken { hidden_because: None })),
                "{state:?}: {found:?}"
            );
        }
        platform.put(History::COLLECTION, ended(1_000, FinalState::Ingested)).await.expect("write a run");
        let found = progress(&config, &client, &dropped).await;
        assert!(matches!(found, Ok(FileProgress::Ended(FileOutcome::Ingested { .. }))), "{found:?}");
        platform.close().await;
    }

    #[tokio::test]
    async fn a_held_or_discarded_file_whose_reason_is_damaged_is_not_ingested() {
        let (_folder, config) = config();
        let client: ClientId = "a".parse().expect("client id");
        let dropped = dropped(&client, Timestamp::UNIX_EPOCH);
        let ingestion = dropped.ingestion;
        let held = config.layout.held(&client, ingestion);
        let discarded = config.layout.discarded(Some(&client), Timestamp::UNIX_EPOCH, 1);
        for (directory, state) in [(held, "held"), (discarded, "discarded")] {
            files::create_dir_all(&directory).expect("directory");
            files::write_atomic(&directory.join("data.csv"), b"a\n1\n").expect("content");
            for content in [&b""[..], b"{\"file\":"] {
                files::write_atomic(&directory.join(ReasonFile::FILE), content).expect("damaged reason");
                let outcome = progress(&config, &client, &dropped).await;
                let Ok(FileProgress::Ended(outcome)) = outcome else { panic!("it has ended: {outcome:?}") };
                let (ended, reasons) = match outcome {
                    FileOutcome::Held(reasons) => ("held", reasons),
                    FileOutcome::Discarded(reasons) => ("discarded", reasons),
                    ingested => panic!("it is not ingested: {ingested:?}"),
                };
                let reasons = reasons.join("; ");
                assert!(ended == state && reasons.contains("reason.json is damaged"), "{ended}: {reasons}");
            }
            files::remove_dir_all(&directory).expect("remove");
        }
    }
}
