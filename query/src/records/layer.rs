//! The records of one layer, read in blocks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};

use bson::{Document, RawDocument, RawDocumentBuf};
use futures::StreamExt;
use mysimbdp_config::ViewLayer;
use mysimbdp_model::app::Ids;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::source::Source;
use mysimbdp_store::{Coredms, CoredmsError, Position, Selected, Selection};

use super::overrides::Overrides;
use super::sources::SourceNames;
use super::time::{self, RecordTime};
use super::write::Record;
use super::{BLOCK_BYTES, BLOCK_DOCUMENTS, Layer, RecordsQuery, origin};
use crate::error::QueryError;

/// How much larger each block is than the one before.
const BLOCK_GROWTH: usize = 4;

/// What the store sends at a time at least, however few records are expected: some of them may be overridden.
const READ_AHEAD_MIN: u32 = 32;

pub(super) struct LayerReader {
    layer: Layer,
    written_by: ViewLayer,
    time: String,
    /// `None` after its end.
    selected: Option<Selected>,
    /// Leaves out what the other layer overrides.
    overrides: Option<Overrides>,
    numbered: Option<NumberedMessages>,
    block: VecDeque<(RecordTime, RawDocumentBuf)>,
    /// How many documents the next block has at most.
    block_documents: usize,
    /// The last record that was taken from the block.
    current: Option<(RecordTime, RawDocumentBuf)>,
    /// Where the first record begins.
    start: Option<Position>,
}

/// The names of the sources of the messages that are read.
struct NumberedMessages {
    store: Arc<dyn Coredms>,
    client: ClientId,
    sources: Arc<SourceNames>,
    known: Arc<HashMap<[u8; 8], Source>>,
}

impl LayerReader {
    /// Begins to read; `None` if the view does not have the layer.
    pub(super) async fn open(
        store: &Arc<dyn Coredms>,
        query: &RecordsQuery,
        layer: Layer,
        overrides: Option<Overrides>,
        sources: &Arc<SourceNames>,
    ) -> Result<Option<Self>, QueryError> {
        let view = &query.view;
        let after = query.after.clone().unwrap_or_default();
        let (written_by, after) = match layer {
            Layer::Batch => (&view.batch, after.batch),
            Layer::Stream => (&view.stream, after.stream),
        };
        let Some(written_by) = written_by else { return Ok(None) };
        let mut more = vec![view.time.clone()];
        more.extend(overrides.iter().flat_map(|overrides| overrides.key().iter().cloned()));
        if query.fields.has_origin() && written_by.ids == Some(Ids::Key) {
            more.push("_ingest".to_owned());
        }
        // One more, which tells whether there are more.
        let block_documents = (query.expected as usize).saturating_add(1).min(BLOCK_DOCUMENTS);
        let filter = match (&view.source, &query.source) {
            (Some(field), Some(value)) => Document::from_iter([(field.clone(), value.clone())]),
            _ => Document::new(),
        };
        let bound = |time| time::bound(time, view.time_type);
        let selection = Selection {
            filter,
            from: Some(query.from.map_or_else(|| time::least(view.time_type), bound)),
            until: query.until.map(bound),
            order: query.order,
            after: after.clone(),
            fields: query.fields.selected(more),
            read_ahead: Some(query.expected.saturating_add(1).max(READ_AHEAD_MIN)),
            ..Selection::ordered_by(view.time.clone())
        };
        let has_position = after.is_some();
        let selected =
            store.select(&written_by.collection, selection).await.map_err(|error| match error {
                // Everything else in the selection has been checked.
                CoredmsError::Refused { .. } if has_position => QueryError::InvalidRequest(
                    "invalid cursor: its position cannot be one of a record".to_owned(),
                ),
                error => error.into(),
            })?;
        let is_numbered = layer == Layer::Stream && written_by.ids == Some(Ids::Platform);
        let numbered = (is_numbered && query.fields.has_origin()).then(|| NumberedMessages {
            store: Arc::clone(store),
            client: query.client.clone(),
            sources: Arc::clone(sources),
            known: sources.known(&query.client),
        });
        Ok(Some(Self {
            layer,
            written_by: written_by.clone(),
            time: view.time.clone(),
            selected: Some(selected),
            overrides,
            numbered,
            block: VecDeque::new(),
            block_documents,
            current: None,
            start: after,
        }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Reads until there is a record, or none is left.
    pub(super) async fn fill(&mut self) -> Result<(), QueryError> {
        while self.block.is_empty()
            && let Some(mut selected) = self.selected.take()
        {
            let (mut block, mut bytes, mut is_last) = (Vec::new(), 0, false);
            while block.len() < self.block_documents && bytes < BLOCK_BYTES {
                let Some(document) = selected.next().await.transpose()? else {
                    is_last = true;
                    break;
                };
                bytes += document.as_bytes().len();
                block.push(document);
            }
            if let Some(overrides) = self.overrides.as_ref().filter(|_| !block.is_empty()) {
                overrides.remove_from(&mut block).await?;
            }
            if let Some(numbered) = &mut self.numbered {
                numbered.learn(&block, &self.written_by).await?;
            }
            let timed = block
                .into_iter()
                .filter_map(|document| Some((RecordTime::of(&document, &self.time)?, document)));
            self.block.extend(timed);
            // If that was not enough, because records are overridden, or more of them are read than expected.
            self.block_documents = (self.block_documents * BLOCK_GROWTH).min(BLOCK_DOCUMENTS);
            self.selected = Some(selected).filter(|_| !is_last);
        }
        Ok(())
    }

    pub(super) fn next_time(&self) -> Option<&RecordTime> {
        self.block.front().map(|(time, _)| time)
    }

    /// Makes the next record of the block the current one.
    pub(super) fn advance(&mut self) {
        if let Some(next) = self.block.pop_front() {
            self.current = Some(next);
        }
    }

    pub(super) fn current(&self) -> Option<Record<'_>> {
        static NONE: LazyLock<HashMap<[u8; 8], Source>> = LazyLock::new(HashMap::new);
        Some(Record {
            document: &self.current.as_ref()?.1,
            layer: self.layer,
            written_by: &self.written_by,
            sources: self.numbered.as_ref().map_or(&NONE, |numbered| &numbered.known),
        })
    }

    /// The current record as it was read, with its time.
    pub(super) fn current_document(&self) -> Option<(&RecordTime, &RawDocument)> {
        self.current.as_ref().map(|(time, document)| (time, document.as_ref()))
    }

    /// Where the records after the current one begin.
    pub(super) fn position(&self) -> Option<Position> {
        let current = self.current.as_ref().and_then(|(_, document)| Position::of(document, &self.time));
        current.or_else(|| self.start.clone())
    }
}

impl NumberedMessages {
    async fn learn(&mut self, block: &[RawDocumentBuf], written_by: &ViewLayer) -> Result<(), CoredmsError> {
        let is_unknown = |document: &RawDocumentBuf| {
            let id = origin::record_id(document, written_by);
            id.is_some_and(|id| id.0.first_chunk().is_none_or(|prefix| !self.known.contains_key(prefix)))
        };
        if block.iter().any(is_unknown) {
            self.known = self.sources.read(self.store.as_ref(), &self.client).await?;
        }
        Ok(())
    }
}
