//! The collections in the store, and what the apps read from them and write to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::{Document, doc};
use mysimbdp_sdk::Failure;
use mysimbdp_store::{Coredms, CoredmsError};
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Hour};

/// One document for each batch, with the key (hour, batch) as its `_id`.
pub const BATCHES: &str = "batches";
/// One document for each closed hour, with the hour as its `_id`.
pub const HOURS: &str = "hours";
/// One document for each closed hour, with the hour as its `_id`.
pub const REPORTS: &str = "reports";

/// Field of batches and hours: their day.
pub const DAY: &str = "day";
/// Field of batches: whether their hour is not closed yet.
pub const OPEN: &str = "open";
/// Field of hours: whether their report is stored.
pub const REPORTED: &str = "reported";

/// The most documents that are read together: more than a day has, with hundreds of batches an hour.
const DOCUMENTS_MAX: i64 = 20_000;

/// An hour whose batches are all stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    #[serde(rename = "_id")]
    pub hour: Hour,
    pub day: String,
    pub previous: Option<Hour>,
    pub batches: u32,
    pub closed_at: bson::DateTime,
    pub reported: bool,
}

/// The batches of each hour by number, with their documents.
pub type ByHour = BTreeMap<Hour, BTreeMap<u32, (Batch, Document)>>;

/// The client's database, as these apps use it.
#[derive(Clone, Debug)]
pub struct WeatherStore {
    coredms: Arc<dyn Coredms>,
}

impl WeatherStore {
    pub fn new(coredms: Arc<dyn Coredms>) -> Self {
        Self { coredms }
    }

    /// Creates the collections, and the indexes for the queries below. May be repeated.
    pub async fn prepare(&self) -> Result<(), CoredmsError> {
        for (collection, field) in [(BATCHES, OPEN), (BATCHES, DAY), (HOURS, REPORTED), (HOURS, DAY)] {
            self.coredms.ensure_collection(collection, None).await?;
            self.coredms.ensure_index(collection, &[field]).await?;
        }
        self.coredms.ensure_collection(REPORTS, None).await
    }

    /// Returns the batches of hours that are not closed, in order of the hours.
    pub async fn open_batches(&self) -> Result<ByHour, Failure> {
        self.batches(doc! { OPEN: true }).await
    }

    pub async fn batches_of_day(&self, day: &str) -> Result<ByHour, Failure> {
        self.batches(doc! { DAY: day }).await
    }

    async fn batches(&self, filter: Document) -> Result<ByHour, Failure> {
        let found = self.coredms.find(BATCHES, filter, DOCUMENTS_MAX).await?;
        let is_complete = (found.len() as i64) < DOCUMENTS_MAX;
        let mut hours = ByHour::new();
        for document in found {
            let batch: Batch = read(document.clone())?;
            hours.entry(batch.hour.clone()).or_default().insert(batch.batch, (batch, document));
        }
        if !is_complete {
            // More batches of the last hour may lie beyond the limit.
            hours.pop_last();
        }
        Ok(hours)
    }

    /// Returns which of these hours are closed.
    pub async fn closed(&self, hours: impl IntoIterator<Item = &Hour>) -> Result<BTreeSet<Hour>, Failure> {
        let mut closed = BTreeSet::new();
        for hour in hours {
            if !self.coredms.find(HOURS, doc! { "_id": hour.as_str() }, 1).await?.is_empty() {
                closed.insert(hour.clone());
            }
        }
        Ok(closed)
    }

    /// Records that an hour is closed, then marks its batches as no longer open. Returns true the first time.
    pub async fn close(
        &self,
        closed: &Closed,
        batches: impl IntoIterator<Item = Document>,
    ) -> Result<bool, Failure> {
        let document = bson::serialize_to_raw_document_buf(closed).map_err(unwritable)?;
        let written = self.coredms.insert_many(HOURS, vec![document]).await?;
        for mut batch in batches {
            batch.insert(OPEN, false);
            self.coredms.put(BATCHES, batch).await?;
        }
        Ok(written.stored > 0)
    }

    /// Returns the closed hours without a report, the earliest first.
    pub async fn unreported(&self) -> Result<Vec<Closed>, Failure> {
        self.hours(doc! { REPORTED: false }).await
    }

    pub async fn closed_of_day(&self, day: &str) -> Result<Vec<Closed>, Failure> {
        self.hours(doc! { DAY: day }).await
    }

    async fn hours(&self, filter: Document) -> Result<Vec<Closed>, Failure> {
        let found = self.coredms.find(HOURS, filter, DOCUMENTS_MAX).await?;
        found.into_iter().map(read).collect()
    }

    /// Stores the report of an hour, in one document, and then marks the hour as reported.
    pub async fn report(&self, hour: &Closed, report: &impl Serialize) -> Result<(), Failure> {
        let report = bson::serialize_to_raw_document_buf(report).map_err(unwritable)?;
        self.coredms.insert_many(REPORTS, vec![report]).await?;
        let reported = Closed { reported: true, ..hour.clone() };
        let reported = bson::serialize_to_document(&reported).map_err(unwritable)?;
        Ok(self.coredms.put(HOURS, reported).await?)
    }

    pub async fn close_connection(&self) {
        self.coredms.close().await;
    }
}

fn read<T: serde::de::DeserializeOwned>(document: Document) -> Result<T, Failure> {
    let id = document.get("_id").cloned();
    bson::deserialize_from_document(document)
        .map_err(|error| Failure::Internal(format!("unexpected content of document {id:?}: {error}")))
}

fn unwritable(error: bson::error::Error) -> Failure {
    Failure::Internal(format!("not a document: {error}"))
}
