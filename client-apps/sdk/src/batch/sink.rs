//! Stores records in batches, two at a time, and counts the outcome of each record.

use mysimbdp_model::app::{Ids, UnitHeader};
use mysimbdp_model::outcome::Counts;
use mysimbdp_platform::failpoint;
use mysimbdp_store::{CoredmsError, Written};
use tokio::task::JoinSet;

use bson::raw::RawBsonRef;
use bson::{Bson, RawDocumentBuf};
use serde_json::Value;

use super::{BatchAppSettings, LineWriter, Store};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::record::Fields;

/// Documents per write. More gain nothing: from a few hundred on, the driver's time per document stays the same.
const BATCH_DOCUMENTS: usize = 1_000;

/// Bytes per write, far below the 48 MB of a MongoDB message. A larger document is written alone or together with the documents
/// before it.
const BATCH_BYTES: usize = 8_000_000;

/// Concurrent writes: while one batch waits for the store's journal, another can be sent.
const WRITERS: usize = 2;

/// Bytes that are being written at a time, unless a single batch has more. The driver holds another copy of them.
const WRITING_BYTES_MAX: usize = 3 * BATCH_BYTES;

/// Takes the records of a unit, in file order, and numbers them.
///
/// It never uses a number outside `[first_record, first_record + records)` of the unit's header.
#[derive(Debug)]
pub struct Sink<'a> {
    settings: &'a BatchAppSettings,
    header: &'a UnitHeader,
    store: &'a Store,
    answer: &'a mut LineWriter,
    /// Created for the first record: apps that store whole files need none.
    identity: Option<Identity>,
    counts: Counts,
    batch: Batch,
    writing: JoinSet<(Batch, Result<Written, CoredmsError>)>,
    writing_bytes: usize,
}

/// Documents that are written together, and the number of each in the file.
#[derive(Debug, Default)]
struct Batch {
    /// Moved out when they are written.
    documents: Vec<RawDocumentBuf>,
    numbers: Vec<u64>,
    /// Their keys, if ids are keys.
    keys: Vec<Value>,
    bytes: usize,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(
        settings: &'a BatchAppSettings,
        header: &'a UnitHeader,
        store: &'a Store,
        answer: &'a mut LineWriter,
    ) -> Self {
        Self {
            settings,
            header,
            store,
            answer,
            identity: None,
            counts: Counts::default(),
            batch: Batch::default(),
            writing: JoinSet::new(),
            writing_bytes: 0,
        }
    }

    /// Takes the next record. It is durable when [`Sink::finish`] has returned.
    ///
    /// # Errors
    ///
    /// [`Failure::Data`] if there are more records than the header announces; failures of the store.
    pub fn record(&mut self, fields: &Fields) -> Result<(), Failure> {
        let number = self.next_number()?;
        let identity = match &mut self.identity {
            Some(identity) => identity,
            none => none.insert(self.settings.identity(self.header)?),
        };
        match identity.document(number, fields) {
            Ok(document) => {
                if self.settings.ids == Ids::Key {
                    self.batch.keys.push(key_of(&document)?);
                }
                self.batch.push(number, document);
            }
            Err(reason) => return self.note_reject(number, reason.into()),
        }
        if self.batch.is_full() { self.write() } else { Ok(()) }
    }

    /// Counts the next record as one that cannot be stored, and reports the reason.
    ///
    /// # Errors
    ///
    /// [`Failure::Data`] if there are more records than the header announces.
    pub fn reject(&mut self, reason: impl Into<String>) -> Result<(), Failure> {
        let number = self.next_number()?;
        self.note_reject(number, reason.into())
    }

    /// Waits until all records are durable, and returns the counts of their outcomes.
    ///
    /// # Errors
    ///
    /// [`Failure::Data`] if there were fewer records than the header announces; failures of the store.
    pub fn finish(&mut self) -> Result<Counts, Failure> {
        if self.counts.received != self.header.records {
            let Counts { received, .. } = self.counts;
            return Err(Failure::Data(format!(
                "unit has {received} records, but {} were announced",
                self.header.records
            )));
        }
        self.write()?;
        while !self.writing.is_empty() {
            self.wait_for_one()?;
        }
        failpoint::hit("batch-app.all-stored");
        Ok(self.counts)
    }

    fn next_number(&mut self) -> Result<u64, Failure> {
        if self.counts.received >= self.header.records {
            return Err(Failure::Data(format!(
                "unit has more than the {} records announced",
                self.header.records
            )));
        }
        let number = self.header.first_record + self.counts.received;
        self.counts.received += 1;
        Ok(number)
    }

    fn note_reject(&mut self, number: u64, reason: String) -> Result<(), Failure> {
        self.counts.rejected += 1;
        self.answer.reject(number, reason)
    }

    /// Starts writing the batch, as soon as enough other writes have ended.
    fn write(&mut self) -> Result<(), Failure> {
        if self.batch.documents.is_empty() {
            return Ok(());
        }
        while self.is_busy() {
            self.wait_for_one()?;
        }
        self.writing_bytes += self.batch.bytes;
        let mut batch = std::mem::take(&mut self.batch);
        let documents = std::mem::take(&mut batch.documents);
        let coredms = self.store.coredms.clone();
        let collection = self.settings.collection.clone();
        let (ids, replaces) = (self.settings.ids, self.header.replace.is_some());
        let write = async move {
            let written = match (ids, replaces) {
                // With keys, a replacing run is newer by its provenance, so it needs no `replace_many`.
                (Ids::Key, _) => coredms.replace_older(&collection, documents).await,
                (_, true) => coredms.replace_many(&collection, documents).await,
                (_, false) => coredms.insert_many(&collection, documents).await,
            };
            (batch, written)
        };
        self.writing.spawn_on(write, self.store.handle());
        Ok(())
    }

    fn is_busy(&self) -> bool {
        let too_many = self.writing.len() >= WRITERS;
        too_many || (self.writing_bytes > 0 && self.writing_bytes + self.batch.bytes > WRITING_BYTES_MAX)
    }

    /// Waits for one of the writes and counts its result.
    fn wait_for_one(&mut self) -> Result<(), Failure> {
        let Some(ended) = self.store.block_on(self.writing.join_next()) else { return Ok(()) };
        let (batch, written) = ended.map_err(|error| Failure::Internal(format!("writer failed: {error}")))?;
        self.writing_bytes -= batch.bytes;
        let written = written?;
        failpoint::hit("batch-app.batch-stored");
        self.counts.stored += written.stored;
        self.counts.duplicates += written.duplicates.len() as u64;
        // In ascending order, so that one pass can leave out the keys of rejected records: all others are in the store
        // now.
        let mut rejected = written.rejected.iter().map(|(position, _)| *position).peekable();
        let keys = batch.keys.into_iter().enumerate();
        let present = keys.filter(|(position, _)| rejected.next_if_eq(position).is_none());
        self.answer.keys(present.map(|(_, key)| key))?;
        for (position, reason) in written.rejected {
            self.note_reject(batch.numbers[position], reason)?;
        }
        self.answer.progress(self.counts.received)
    }
}

impl Batch {
    fn push(&mut self, number: u64, document: RawDocumentBuf) {
        self.bytes += document.as_bytes().len();
        self.documents.push(document);
        self.numbers.push(number);
    }

    fn is_full(&self) -> bool {
        self.documents.len() >= BATCH_DOCUMENTS || self.bytes >= BATCH_BYTES
    }
}

/// Returns the key of a document in the form in which the platform expects it.
fn key_of(document: &RawDocumentBuf) -> Result<Value, Failure> {
    let key = document.get("_id").map(|id| id.unwrap_or(RawBsonRef::Null)).and_then(Bson::try_from);
    Ok(key
        .map_err(|error| Failure::Internal(format!("the app's document is invalid BSON: {error}")))?
        .into_relaxed_extjson())
}
