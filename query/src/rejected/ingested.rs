//! The rejected records of an ingested file, which are in the client's database with their bytes.

use std::sync::Arc;
use std::vec;

use bson::{Document, doc};
use mysimbdp_config::{Config, REJECTED};
use mysimbdp_model::ingestion::{IngestionId, RecordId};
use mysimbdp_model::manifest::Format;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_store::rejected::RejectedBytes;
use mysimbdp_store::{Coredms, CoredmsError, Order};

use super::{Description, RejectedRecord, RejectedRecords, Rejects};
use crate::error::QueryError;
use crate::open_history;

/// How many documents are read at a time; each may have 16 MiB.
const PAGE: i64 = 32;

/// Reads the collection `rejected` page by page.
#[derive(Debug)]
pub(super) struct IngestedRejects {
    store: Arc<dyn Coredms>,
    ingestion: IngestionId,
    /// The id that the next page begins with.
    first: RecordId,
    page: vec::IntoIter<Document>,
    is_last_page: bool,
    returned: u64,
}

/// Finds the last run that has ingested the content, and what is known of the file before its first rejected record.
pub(super) async fn open(config: &Config, ingestion: IngestionId) -> Result<RejectedRecords, QueryError> {
    let runs = runs_of(config, ingestion).await?;
    let run = last_run(&runs, ingestion)?;
    let client = run.client.parse().ok().and_then(|id| config.client(&id)).ok_or_else(|| {
        QueryError::NotFound(format!("client {} of this file is no longer in the config", run.client))
    })?;
    let store = mysimbdp_store::open(&config.coredms_url, &client.database).await?;
    let (format, prefix) = match begin(store.as_ref(), run, ingestion).await {
        Ok(begun) => begun,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let description = Description {
        client: client.id.clone(),
        file: run.file.clone(),
        format,
        prefix,
        expected: rejected(run),
    };
    let rejects = IngestedRejects {
        store,
        ingestion,
        first: ingestion.record_id(0),
        page: Vec::new().into_iter(),
        is_last_page: false,
        returned: 0,
    };
    Ok(RejectedRecords { description, rejects: Rejects::Ingested(rejects), warning: unlisted(&runs, run) })
}

async fn runs_of(config: &Config, ingestion: IngestionId) -> Result<Vec<Run>, CoredmsError> {
    let history = open_history(config).await?;
    let runs = history.runs_of(ingestion).await;
    history.close().await;
    runs
}

/// Returns the last run that has ingested the content. What other runs rejected is not in the store.
fn last_run(runs: &[Run], ingestion: IngestionId) -> Result<&Run, QueryError> {
    let last = runs.iter().max_by_key(|run| (run.state == FinalState::Ingested, run.finished_at));
    let last = last.ok_or_else(|| {
        QueryError::NotFound(format!(
            "no held or ingested file has the id {ingestion}; `mysimbdp status` and the history list the ids"
        ))
    })?;
    match last.state {
        FinalState::Ingested => Ok(last),
        FinalState::Purged => {
            Err(QueryError::NotFound(format!("{ingestion} was purged, with all its records")))
        }
        FinalState::Held | FinalState::Discarded => Err(QueryError::NotFound(format!(
            "according to the history {ingestion} is held, but it is not in held/, or this user cannot read held/"
        ))),
    }
}

/// Returns a warning if a later run was held: what that one rejected cannot be shown any more.
fn unlisted(runs: &[Run], ingested: &Run) -> Option<String> {
    let later = runs.iter().filter(|run| run.staged_at > ingested.staged_at);
    let state = match later.max_by_key(|run| run.staged_at)?.state {
        FinalState::Purged => "has been purged",
        FinalState::Held => "is no longer in held/, or this user cannot read held/",
        FinalState::Ingested | FinalState::Discarded => return None,
    };
    let ingestion = &ingested.ingestion;
    Some(format!(
        "a later run of {ingestion} was held and {state}: its rejected records cannot be shown, and these are only those of the last ingested run"
    ))
}

/// Returns the format of the file and its prefix.
async fn begin(
    store: &dyn Coredms,
    run: &Run,
    ingestion: IngestionId,
) -> Result<(Format, Vec<u8>), QueryError> {
    let (first, end) = (ingestion.record_id(0), ingestion.record_id(u64::MAX));
    // Checked first: if all records are missing, not even the beginning of an export is returned.
    if store.count_ids(REJECTED, first, end).await? == 0 {
        require_all(rejected(run), 0)?;
    }
    let files = format!("{REJECTED}.files");
    let id =
        bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: ingestion.as_bytes().to_vec() };
    let described = store.find(&files, doc! { "_id": id }, 1).await?;
    let format = described.first().and_then(|prefix| {
        let name = prefix.get_document("metadata").ok()?.get_str("format").ok()?;
        [Format::Csv, Format::Ndjson, Format::Json, Format::Binary]
            .into_iter()
            .find(|format| format.as_str() == name)
    });
    let prefix = store.object(REJECTED, ingestion).await?.unwrap_or_default();
    Ok((format.unwrap_or_else(|| Format::of_file_name(&run.file)), prefix))
}

impl IngestedRejects {
    pub(super) async fn next(&mut self) -> Result<Option<RejectedRecord>, QueryError> {
        let Some(reject) = self.next_document().await? else { return Ok(None) };
        let record = mysimbdp_store::whole(reject.get("record"));
        self.first = self.ingestion.record_id(record + 1);
        let content = match RejectedBytes::of(&reject, "content") {
            RejectedBytes::Inline(bytes) => Some(bytes),
            RejectedBytes::Object(id) => self.store.object(REJECTED, id).await?,
            RejectedBytes::NotKept => None,
        };
        self.returned += 1;
        let reason = reject.get_str("reason").unwrap_or_default().to_owned();
        Ok(Some(RejectedRecord { record, reason, content }))
    }

    async fn next_document(&mut self) -> Result<Option<Document>, CoredmsError> {
        if let Some(document) = self.page.next() {
            return Ok(Some(document));
        }
        if self.is_last_page {
            return Ok(None);
        }
        let end = self.ingestion.record_id(u64::MAX);
        let page = self.store.find_ids(REJECTED, self.first, end, Order::Ascending, PAGE).await?;
        self.is_last_page = (page.len() as i64) < PAGE;
        self.page = page.into_iter();
        Ok(self.page.next())
    }

    pub(super) async fn finish(self, expected: u64) -> Result<(), QueryError> {
        self.store.close().await;
        require_all(expected, self.returned)
    }
}

fn rejected(run: &Run) -> u64 {
    u64::try_from(run.rejected).unwrap_or(0)
}

/// Checks that all rejected records were found.
///
/// # Errors
///
/// Somebody has removed some of them from the collection.
fn require_all(rejected: u64, found: u64) -> Result<(), QueryError> {
    if found >= rejected {
        return Ok(());
    }
    let left = if found == 0 { "none".to_owned() } else { found.to_string() };
    Err(QueryError::InvalidData(format!(
        "{rejected} records were rejected, but the collection {REJECTED} has {left} of them"
    )))
}

#[cfg(test)]
mod tests;
