//! Everything that is known about one ingestion: its manifest, the progress of its units, and all its runs.

use std::collections::BTreeMap;

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::outcome::{FinalState, Outcome, Run};
use mysimbdp_model::reason::ReasonFile;
use mysimbdp_platform::files;
use mysimbdp_spool::staging::{self, Attempt, StagedIngestion};
use mysimbdp_store::history::History;

use crate::error::QueryError;
use crate::file_list::FileState;
use crate::reason_file::{ReasonLookup, reason_in};

/// An ingestion, wherever it is.
#[derive(Debug)]
pub struct IngestionDetails {
    pub client: String,
    pub ingestion: IngestionId,
    pub state: FileState,
    /// Of a staged or held ingestion, unless it is damaged.
    pub manifest: Option<Manifest>,
    /// The units of a staged or held ingestion that were begun, by index.
    pub attempts: BTreeMap<u32, Attempt>,
    /// The units of a staged or held ingestion that are done, by index.
    pub outcomes: BTreeMap<u32, Outcome>,
    /// Why it is held.
    pub reason: Option<ReasonFile>,
    /// What is damaged on disk.
    pub damage: Option<String>,
    /// All its runs that have ended, the latest first.
    pub runs: Vec<Run>,
}

/// Finds an ingestion in staging, in `held/` or in the history.
///
/// # Errors
///
/// There is no such ingestion, a directory cannot be read, or the store is unavailable.
pub async fn find(
    config: &Config,
    history: &History,
    ingestion: IngestionId,
) -> Result<IngestionDetails, QueryError> {
    let before = on_disk(config, ingestion)?;
    let mut runs = history.runs_of(ingestion).await?;
    runs.sort_by_key(|run| std::cmp::Reverse(run.finished_at));
    // It may have ended, or have been staged again, meanwhile.
    let after = if before.is_none() && runs.is_empty() { on_disk(config, ingestion)? } else { None };
    if let Some(details) = before.or(after) {
        return Ok(IngestionDetails { runs, ..details });
    }
    let Some(last) = runs.first() else {
        return Err(QueryError::NotFound(format!(
            "no staged, held or ingested file has the ingestion {ingestion}"
        )));
    };
    let (client, state) = (last.client.clone(), state_of(last.state));
    Ok(IngestionDetails { runs, ..IngestionDetails::new(client, ingestion, state) })
}

impl IngestionDetails {
    fn new(client: String, ingestion: IngestionId, state: FileState) -> Self {
        Self {
            client,
            ingestion,
            state,
            manifest: None,
            attempts: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            reason: None,
            damage: None,
            runs: Vec::new(),
        }
    }
}

/// The state of a file whose run ended like this.
pub fn state_of(state: FinalState) -> FileState {
    match state {
        FinalState::Ingested => FileState::Ingested,
        FinalState::Held => FileState::Held,
        FinalState::Discarded => FileState::Discarded,
        FinalState::Purged => FileState::Purged,
    }
}

fn on_disk(config: &Config, ingestion: IngestionId) -> Result<Option<IngestionDetails>, QueryError> {
    let layout = &config.layout;
    for client in staging::owners(layout)? {
        if files::exists(&layout.staged(&client, ingestion)) {
            let read = staging::read(layout, &client, ingestion);
            return Ok(Some(details(&client, ingestion, FileState::Staged, read)));
        }
        let held = layout.held(&client, ingestion);
        if files::exists(&held) {
            let read = staging::read_held(layout, &client, ingestion);
            let mut details = details(&client, ingestion, FileState::Held, read);
            match reason_in(&held)? {
                ReasonLookup::Found(reason) => details.reason = Some(reason),
                ReasonLookup::Damaged(damaged) => details.damage = Some(damaged.to_string()),
                ReasonLookup::Moved => {}
            }
            return Ok(Some(details));
        }
    }
    Ok(None)
}

fn details(
    client: &ClientId,
    ingestion: IngestionId,
    state: FileState,
    read: Result<StagedIngestion, staging::StagingError>,
) -> IngestionDetails {
    let details = IngestionDetails::new(client.to_string(), ingestion, state);
    match read {
        Ok(StagedIngestion { manifest, outcomes, attempts, .. }) => {
            IngestionDetails { manifest: Some(manifest), attempts, outcomes, ..details }
        }
        Err(error) => IngestionDetails { damage: Some(error_chain(&error)), ..details },
    }
}
