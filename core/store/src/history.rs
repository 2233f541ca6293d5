//! The history: how each run ended, one document per run, in the platform's database.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use futures::{Stream, StreamExt, TryStreamExt};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::outcome::{FinalState, Run};
use serde::Deserialize;

use crate::arrivals::Arrivals;
use crate::{Coredms, CoredmsError, Order, Position, Selection};

/// Far more runs than one ingestion ever has.
const RUNS_MAX: i64 = 10_000;

const RECEIVED_AT: &str = "received_at";

/// Runs that [`History::page`] reads at a time.
const PAGE: i64 = 500;

/// The runs that have ended. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    platform: Arc<dyn Coredms>,
}

/// When a file of a run was received, and how the run ended.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ReceivedFile {
    pub ingestion: String,
    pub file: String,
    pub lane: Lane,
    pub state: FinalState,
    pub received_at: bson::DateTime,
    /// The number of its records.
    pub received: i64,
}

impl ReceivedFile {
    const FIELDS: [&str; 6] = ["ingestion", "file", "lane", "state", RECEIVED_AT, "received"];
}

/// Runs in the order of their ids, so that the runs of one ingestion follow one another.
#[derive(Debug)]
pub struct HistoryPage {
    pub runs: Vec<Result<Run, UnreadableRun>>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<Bson>,
}

/// A document of the history that is not a run.
#[derive(Debug, thiserror::Error)]
#[error("{id} is not a run: {source}")]
pub struct UnreadableRun {
    pub id: String,
    source: bson::error::Error,
}

impl History {
    pub const COLLECTION: &str = "ingestions";

    pub fn new(platform: Arc<dyn Coredms>) -> Self {
        Self { platform }
    }

    /// Opens the platform's database.
    ///
    /// # Errors
    ///
    /// Those of [`crate::open`].
    pub async fn open(url: &str, database: &str) -> Result<Self, CoredmsError> {
        Ok(Self::new(crate::open(url, database).await?))
    }

    pub async fn close(&self) {
        self.platform.close().await;
    }

    /// Creates indexes, so that finding the runs of an ingestion, or the latest runs, does not scan the whole history.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn ensure_index(&self) -> Result<(), CoredmsError> {
        for fields in [&["ingestion"][..], &["finished_at", "_id"], &["client", "finished_at", "_id"]] {
            self.platform.ensure_index(Self::COLLECTION, fields).await?;
        }
        Ok(())
    }

    /// Creates the index for [`History::received`].
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn ensure_arrival_index(&self) -> Result<(), CoredmsError> {
        self.platform.ensure_index(Self::COLLECTION, &["client", RECEIVED_AT, "_id"]).await
    }

    /// What became of the due times of arrival contracts.
    pub fn arrivals(&self) -> Arrivals {
        Arrivals::new(Arc::clone(&self.platform))
    }

    /// Returns the files of a client that were received at `from` or later and have ended, in the order of their arrival: one for each
    /// run, with nothing but what [`ReceivedFile`] has.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn received(
        &self,
        client: &ClientId,
        from: bson::DateTime,
    ) -> Result<impl Stream<Item = Result<ReceivedFile, CoredmsError>> + Send + use<>, CoredmsError> {
        let selection = Selection {
            filter: doc! { "client": client.as_str() },
            from: Some(from.into()),
            fields: Some(ReceivedFile::FIELDS.map(str::to_owned).to_vec()),
            ..Selection::ordered_by(RECEIVED_AT)
        };
        let found = self.platform.select(Self::COLLECTION, selection).await?;
        Ok(found.try_filter_map(async |raw| Ok(bson::deserialize_from_slice(raw.as_bytes()).ok())))
    }

    /// Writes how a run ended, and replaces what was written about it before.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn put(&self, run: &Run) -> Result<(), CoredmsError> {
        let document = bson::serialize_to_document(run).map_err(CoredmsError::NotADocument)?;
        self.platform.put(Self::COLLECTION, document).await
    }

    /// Returns the run with this id, if it exists and can be read.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn run(&self, id: &str) -> Result<Option<Run>, CoredmsError> {
        Ok(self.find(doc! { "_id": id }).await?.into_iter().find_map(Result::ok))
    }

    /// Returns all runs of an ingestion, except those that cannot be read.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn runs_of(&self, ingestion: IngestionId) -> Result<Vec<Run>, CoredmsError> {
        Ok(self.entries_of(ingestion).await?.into_iter().filter_map(Result::ok).collect())
    }

    /// Returns all runs of an ingestion, including those that cannot be read.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn entries_of(
        &self,
        ingestion: IngestionId,
    ) -> Result<Vec<Result<Run, UnreadableRun>>, CoredmsError> {
        self.find(doc! { "ingestion": ingestion.to_string() }).await
    }

    /// Returns the run of an ingestion that ended last.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn last_run_of(&self, ingestion: IngestionId) -> Result<Option<Run>, CoredmsError> {
        Ok(self.runs_of(ingestion).await?.into_iter().max_by_key(|run| run.finished_at))
    }

    /// Returns the next runs of a client, or of all clients; `after` is [`HistoryPage::next`] of the previous page.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn page(
        &self,
        client: Option<&ClientId>,
        after: Option<Bson>,
    ) -> Result<HistoryPage, CoredmsError> {
        let filter = client.map_or_else(Document::new, |client| doc! { "client": client.as_str() });
        let found = self.platform.page(Self::COLLECTION, filter, after, PAGE).await?;
        let is_last = (found.len() as i64) < PAGE;
        let last = found.last().and_then(|run| run.get("_id")).cloned();
        Ok(HistoryPage { runs: found.into_iter().map(run).collect(), next: last.filter(|_| !is_last) })
    }

    /// Returns runs of a client, or of all clients, the latest first. `after` is the end and the id of a run: only runs that
    /// come later in this order are returned. Those that cannot be read are left out.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn latest(
        &self,
        client: Option<&ClientId>,
        after: Option<(bson::DateTime, &str)>,
    ) -> Result<impl Stream<Item = Result<Run, CoredmsError>> + Send + use<>, CoredmsError> {
        let selection = Selection {
            filter: client.map_or_else(Document::new, |client| doc! { "client": client.as_str() }),
            order: Order::Descending,
            after: after.map(|(at, id)| Position { value: at.into(), id: id.into() }),
            ..Selection::ordered_by("finished_at")
        };
        let found = self.platform.select(Self::COLLECTION, selection).await?;
        Ok(found.filter_map(async |document| match document {
            Ok(raw) => Document::try_from(raw.as_ref()).ok().and_then(|document| run(document).ok()).map(Ok),
            Err(error) => Some(Err(error)),
        }))
    }

    /// Returns the runs of a client that ended last, the latest first, except those that cannot be read.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn newest(&self, client: &ClientId, limit: u64) -> Result<Vec<Run>, CoredmsError> {
        let selection = Selection {
            filter: doc! { "client": client.as_str() },
            order: Order::Descending,
            limit: Some(limit),
            ..Selection::ordered_by("finished_at")
        };
        let found: Vec<_> = self.platform.select(Self::COLLECTION, selection).await?.try_collect().await?;
        let documents = found.iter().filter_map(|raw| Document::try_from(raw.as_ref()).ok());
        Ok(documents.filter_map(|document| run(document).ok()).collect())
    }

    /// Marks the held runs of an ingestion as purged.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn mark_purged(&self, client: &str, ingestion: &str) -> Result<(), CoredmsError> {
        let held = doc! { "ingestion": ingestion, "client": client, "state": FinalState::Held.as_str() };
        for mut run in self.platform.find(Self::COLLECTION, held, RUNS_MAX).await? {
            run.insert("state", FinalState::Purged.as_str());
            self.platform.put(Self::COLLECTION, run).await?;
        }
        Ok(())
    }

    async fn find(&self, filter: Document) -> Result<Vec<Result<Run, UnreadableRun>>, CoredmsError> {
        let found = self.platform.find(Self::COLLECTION, filter, RUNS_MAX).await?;
        Ok(found.into_iter().map(run).collect())
    }
}

fn run(document: Document) -> Result<Run, UnreadableRun> {
    let id = document
        .get("_id")
        .map_or_else(String::new, |id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    bson::deserialize_from_document(document).map_err(|source| UnreadableRun { id, source })
}
