//! The records of a view: those of the batch layer and of the speed layer, in the order of their time.
//!
//! 1. [`RecordsQuery`] says which records, and [`RecordsPosition`] where a page begins;
//! 2. a reader for each layer selects its documents in the order of time and `_id`, in blocks. Of the stream's block those are
//!    left out whose key the batch layer has. In a long list the next block is read while this one is written;
//! 3. [`Records`] merges both: by time, at the same time first the batch layer, then by `_id`; the reverse if descending;
//! 4. a record is written as a JSON object or a CSV row into one buffer, without another representation in between.
//!
//! **What is in a view.** A record whose time has the type that the view says. A key is looked up in the whole collection of the
//! batch layer, whatever the time, source and other fields of the record there are: a record that a file has moved to
//! another time, even out of the range of the query, is shown only there, or not at all if the file has removed its time. A record
//! of the speed layer without a key, because a key field is missing, null, a list or an object, is overridden by none. Records
//! of one layer never override each other here; with ids `key` the store already has only the newest of each key.
//!
//! **What is guaranteed.** A record that is stored the whole time in the version that is shown is returned exactly once, in
//! order, however many pages it takes. An answer is not a snapshot: one that is written meanwhile may be missing, or be there in
//! its old version, its new version or, at two times, in both.
//!
//! **Memory.** For each layer one block, or two in a long list: at most [`BLOCK_DOCUMENTS`] documents and about [`BLOCK_BYTES`]
//! each, few if few records are expected, and what the store reads ahead.
//!
//! **Indexes.** A selection needs an index of time and `_id`, with a source one of source, time and `_id`; a key other than the
//! `_id` one of its fields in the batch layer. [`indexes`] lists them. Whoever queries creates them first.

mod blocks;
mod latest;
mod layer;
mod origin;
mod overrides;
mod position;
mod sources;
#[cfg(test)]
mod tests;
pub(crate) mod time;
pub(crate) mod value;
mod write;

use std::cmp::Ordering;
use std::sync::Arc;

use bson::{Bson, RawDocument};
use jiff::Timestamp;
use mysimbdp_config::View;
use mysimbdp_model::client::ClientId;
use mysimbdp_store::{Coredms, Order};

pub use latest::{Concerns, LatestRecord, SourceKey, Stored, compare_stored, concerns, latest, sources};
pub use position::RecordsPosition;
pub use sources::SourceNames;
pub use write::append_header;

use crate::error::QueryError;
use layer::LayerReader;
use overrides::Overrides;
use time::RecordTime;
use write::Record;

/// How many documents of a layer are read, and whose keys are looked up, at a time: one lookup costs about as much as reading
/// them.
pub const BLOCK_DOCUMENTS: usize = 500;

/// A block of large documents ends with the one that exceeds this.
pub const BLOCK_BYTES: usize = 4 << 20;

/// The field that says where a record is from.
pub const ORIGIN: &str = "_origin";

/// The field that says where the next record begins.
pub const CURSOR: &str = "_cursor";

/// Stands for all fields of a record.
const ALL: &str = "*";

/// A layer; records of the batch layer come first among those of the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Batch,
    Stream,
}

/// Which records of a view are returned, and in which order.
#[derive(Clone, Debug)]
pub struct RecordsQuery {
    pub client: ClientId,
    pub view: View,
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
    /// The value that the view's source field must have.
    pub source: Option<Bson>,
    pub order: Order,
    pub fields: RecordFields,
    /// The text of a position in the same query.
    pub after: Option<RecordsPosition>,
    /// About how many records are going to be read. It decides how much is read at a time, and nothing else.
    pub expected: u32,
}

/// What is written of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RecordFields {
    /// All fields and the origin.
    #[default]
    Stored,
    /// These.
    Named(Vec<String>),
}

/// The form of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordForm {
    /// A JSON object.
    Object,
    /// A row of CSV, with its line end.
    Row,
}

impl RecordFields {
    /// Reads names with commas between them.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidRequest`]: a name is not the path of a field, or is listed twice.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let names: Vec<String> = text.split(',').map(str::to_owned).collect();
        for (index, name) in names.iter().enumerate() {
            let is_path = name.split('.').all(|step| !step.is_empty() && !step.starts_with('$'));
            if !is_path || name.contains('\0') {
                return Err(QueryError::InvalidRequest(format!(
                    "invalid fields: {name:?} is not the name of a field: expected names with commas between them, such as a,b.c,{ORIGIN}"
                )));
            }
            if names[..index].contains(name) {
                return Err(QueryError::InvalidRequest(format!("invalid fields: {name:?} is listed twice")));
            }
        }
        Ok(Self::Named(names))
    }

    /// The names, if they are the columns of a table.
    pub fn columns(&self) -> Option<&[String]> {
        match self {
            Self::Named(names) if !names.iter().any(|name| name == ALL) => Some(names),
            _ => None,
        }
    }

    fn has(&self, field: &str) -> bool {
        matches!(self, Self::Named(names) if names.iter().any(|name| name == field))
    }

    fn has_origin(&self) -> bool {
        *self == Self::Stored || self.has(ORIGIN)
    }

    /// The fields that are read, beside these: all, or the named ones.
    fn selected(&self, more: impl IntoIterator<Item = String>) -> Option<Vec<String>> {
        let names = self.columns()?.iter().filter(|name| !matches!(name.as_str(), ORIGIN | CURSOR));
        Some(names.cloned().chain(more).collect())
    }
}

/// The indexes that queries of this view need, each with its collection.
pub fn indexes(view: &View, has_source: bool) -> Vec<(String, Vec<String>)> {
    let source = view.source.clone().filter(|_| has_source);
    let fields: Vec<String> = source.into_iter().chain([view.time.clone(), "_id".to_owned()]).collect();
    let layers = view.batch.iter().chain(&view.stream);
    let mut indexes: Vec<_> = layers.map(|layer| (layer.collection.clone(), fields.clone())).collect();
    if let Some(batch) = view.batch.as_ref().filter(|_| !view.key.is_empty() && !view.is_keyed_by_id()) {
        indexes.push((batch.collection.clone(), view.key.clone()));
    }
    indexes
}

/// The records of a view, which are read one after the other.
pub struct Records {
    query: RecordsQuery,
    batch: Option<LayerReader>,
    stream: Option<LayerReader>,
    fingerprint: [u8; 8],
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("query", &self.query).finish_non_exhaustive()
    }
}

impl Records {
    /// Begins to read.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidRequest`] if the position is one of another query; [`QueryError::Store`].
    pub async fn open(
        store: Arc<dyn Coredms>,
        query: RecordsQuery,
        sources: Arc<SourceNames>,
    ) -> Result<Self, QueryError> {
        let fingerprint = position::fingerprint(&query);
        if query.after.as_ref().is_some_and(|after| after.fingerprint != fingerprint) {
            return Err(QueryError::InvalidRequest(
                "invalid cursor: it belongs to a query with another view, source, from, until or order"
                    .to_owned(),
            ));
        }
        let overrides = match (&query.view.batch, query.view.key.is_empty()) {
            (Some(batch), false) => {
                Some(Overrides::new(Arc::clone(&store), batch.collection.clone(), query.view.key.clone()))
            }
            _ => None,
        };
        let batch = LayerReader::open(&store, &query, Layer::Batch, None, &sources);
        let stream = LayerReader::open(&store, &query, Layer::Stream, overrides, &sources);
        let (batch, stream) = futures::future::try_join(batch, stream).await?;
        Ok(Self { query, batch, stream, fingerprint })
    }

    /// Appends the next record to `buffer`; returns false if there is none.
    pub async fn append_next(&mut self, buffer: &mut Vec<u8>, form: RecordForm) -> Result<bool, QueryError> {
        let Some(layer) = self.next_layer().await? else { return Ok(false) };
        self.advance(layer);
        let cursor = self.query.fields.has(CURSOR).then(|| self.position().to_text());
        let record = self.current(layer).expect("it was advanced to a record");
        record.append(buffer, &self.query.fields, form, cursor.as_deref())?;
        Ok(true)
    }

    fn advance(&mut self, layer: Layer) {
        let reader = match layer {
            Layer::Batch => self.batch.as_mut(),
            Layer::Stream => self.stream.as_mut(),
        };
        reader.expect("the next record is from it").advance();
    }

    fn current(&self, layer: Layer) -> Option<Record<'_>> {
        let reader = match layer {
            Layer::Batch => self.batch.as_ref(),
            Layer::Stream => self.stream.as_ref(),
        };
        reader.and_then(LayerReader::current)
    }

    /// The time of the record that follows.
    async fn next_time(&mut self) -> Result<Option<RecordTime>, QueryError> {
        let reader = match self.next_layer().await? {
            Some(Layer::Batch) => self.batch.as_ref(),
            Some(Layer::Stream) => self.stream.as_ref(),
            None => None,
        };
        Ok(reader.and_then(LayerReader::next_time).cloned())
    }

    /// Returns the next record, with the fields that were selected, and its time.
    pub(crate) async fn next(&mut self) -> Result<Option<(&RecordTime, &RawDocument)>, QueryError> {
        let Some(layer) = self.next_layer().await? else { return Ok(None) };
        self.advance(layer);
        let reader = match layer {
            Layer::Batch => self.batch.as_ref(),
            Layer::Stream => self.stream.as_ref(),
        };
        Ok(reader.and_then(LayerReader::current_document))
    }

    /// Whether a record follows.
    pub async fn has_next(&mut self) -> Result<bool, QueryError> {
        Ok(self.next_layer().await?.is_some())
    }

    /// Where the records begin that follow the last one.
    pub fn position(&self) -> RecordsPosition {
        RecordsPosition {
            fingerprint: self.fingerprint,
            batch: self.batch.as_ref().and_then(LayerReader::position),
            stream: self.stream.as_ref().and_then(LayerReader::position),
        }
    }

    /// Returns the layer of the next record.
    async fn next_layer(&mut self) -> Result<Option<Layer>, QueryError> {
        match (&mut self.batch, &mut self.stream) {
            (Some(batch), Some(stream)) if batch.is_empty() && stream.is_empty() => {
                futures::future::try_join(batch.fill(), stream.fill()).await?;
            }
            (batch, stream) => {
                for reader in [batch, stream].into_iter().flatten().filter(|reader| reader.is_empty()) {
                    reader.fill().await?;
                }
            }
        }
        let batch = self.batch.as_ref().and_then(LayerReader::next_time);
        let stream = self.stream.as_ref().and_then(LayerReader::next_time);
        Ok(match (batch, stream) {
            (Some(batch), Some(stream)) => Some(match (batch.compare(stream), self.query.order) {
                (Ordering::Less | Ordering::Equal, Order::Ascending) => Layer::Batch,
                (Ordering::Greater, Order::Descending) => Layer::Batch,
                _ => Layer::Stream,
            }),
            (Some(_), None) => Some(Layer::Batch),
            (None, Some(_)) => Some(Layer::Stream),
            (None, None) => None,
        })
    }
}
