//! The records of one layer, in their order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bson::{Document, RawDocument};
use mysimbdp_config::ViewLayer;
use mysimbdp_model::app::Ids;
use mysimbdp_model::source::Source;
use mysimbdp_store::{Coredms, CoredmsError, Position, Selection};

use super::blocks::{BlockReader, Blocks, NumberedMessages, TimedDocument};
use super::overrides::Overrides;
use super::sources::SourceNames;
use super::time::{self, RecordTime};
use super::write::Record;
use super::{Layer, RecordsQuery};
use crate::error::QueryError;

/// What the store sends at a time at least, however few records are expected: some of them may be overridden.
const READ_AHEAD_MIN: u32 = 32;

pub(super) struct LayerReader {
    layer: Layer,
    written_by: ViewLayer,
    time: String,
    blocks: Blocks,
    /// The names of the sources of the messages in the block.
    names: Arc<HashMap<[u8; 8], Source>>,
    block: VecDeque<TimedDocument>,
    /// The last record that was taken from the block.
    current: Option<TimedDocument>,
    /// Where the first record begins.
    start: Option<Position>,
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
        let numbered = (is_numbered && query.fields.has_origin())
            .then(|| NumberedMessages::new(Arc::clone(store), query.client.clone(), Arc::clone(sources)));
        let reader = BlockReader::new(selected, view.time.clone(), written_by.clone(), overrides, numbered);
        Ok(Some(Self {
            layer,
            written_by: written_by.clone(),
            time: view.time.clone(),
            blocks: Blocks::new(reader, query.expected),
            names: Arc::default(),
            block: VecDeque::new(),
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
            && let Some(block) = self.blocks.next().await?
        {
            self.block = block.documents;
            self.names = block.names;
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
        Some(Record {
            document: &self.current.as_ref()?.1,
            layer: self.layer,
            written_by: &self.written_by,
            sources: &self.names,
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
