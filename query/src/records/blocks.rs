//! The documents of one layer, read in blocks.
//!
//! If many records are expected, the next block is read while the current one is written.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bson::RawDocumentBuf;
use futures::StreamExt;
use mysimbdp_config::ViewLayer;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::source::Source;
use mysimbdp_store::{Coredms, CoredmsError, Selected};
use tokio_util::task::AbortOnDropHandle;

use super::overrides::Overrides;
use super::sources::SourceNames;
use super::time::RecordTime;
use super::{BLOCK_BYTES, BLOCK_DOCUMENTS, origin};
use crate::error::QueryError;

/// How much larger each block is than the one before.
const BLOCK_GROWTH: usize = 4;

pub(super) type TimedDocument = (RecordTime, RawDocumentBuf);

/// Documents that follow one another in the selection, without the overridden ones.
pub(super) struct Block {
    pub(super) documents: VecDeque<TimedDocument>,
    /// The names of the sources of the messages, at least of those in the block.
    pub(super) names: Arc<HashMap<[u8; 8], Source>>,
}

/// The blocks of a layer, one after the other.
pub(super) struct Blocks {
    state: State,
    /// How many documents the next block has at most.
    documents_max: usize,
    reads_ahead: bool,
}

type Read = (BlockReader, Result<Block, QueryError>);

enum State {
    Idle(BlockReader),
    Reading(AbortOnDropHandle<Read>),
    Ended,
}

impl Blocks {
    pub(super) fn new(reader: BlockReader, expected: u32) -> Self {
        // One more, which tells whether there are more.
        let expected = (expected as usize).saturating_add(1);
        Self {
            state: State::Idle(reader),
            documents_max: expected.min(BLOCK_DOCUMENTS),
            reads_ahead: expected > BLOCK_DOCUMENTS,
        }
    }

    /// Returns the next block, which may be empty; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Block>, QueryError> {
        let (reader, block) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Idle(reader) => reader.read(self.documents_max).await,
            State::Reading(reading) => reading.await.expect("reading neither panics nor is aborted"),
            State::Ended => return Ok(None),
        };
        let block = block?;
        // If the block was not enough, because records are overridden, or more of them are read than expected.
        self.documents_max = (self.documents_max * BLOCK_GROWTH).min(BLOCK_DOCUMENTS);
        self.state = match (reader.is_at_end, self.reads_ahead) {
            (true, _) => State::Ended,
            (false, true) => {
                State::Reading(AbortOnDropHandle::new(tokio::spawn(reader.read(self.documents_max))))
            }
            (false, false) => State::Idle(reader),
        };
        Ok(Some(block))
    }
}

/// Reads a block at a time.
pub(super) struct BlockReader {
    selected: Selected,
    is_at_end: bool,
    /// The field of the time.
    time: String,
    written_by: ViewLayer,
    /// Leaves out what the other layer overrides.
    overrides: Option<Overrides>,
    numbered: Option<NumberedMessages>,
}

impl BlockReader {
    pub(super) fn new(
        selected: Selected,
        time: String,
        written_by: ViewLayer,
        overrides: Option<Overrides>,
        numbered: Option<NumberedMessages>,
    ) -> Self {
        Self { selected, is_at_end: false, time, written_by, overrides, numbered }
    }

    async fn read(mut self, documents_max: usize) -> Read {
        let block = self.read_block(documents_max).await;
        (self, block)
    }

    async fn read_block(&mut self, documents_max: usize) -> Result<Block, QueryError> {
        let (mut documents, mut bytes) = (Vec::new(), 0);
        while documents.len() < documents_max && bytes < BLOCK_BYTES {
            let Some(document) = self.selected.next().await.transpose()? else {
                self.is_at_end = true;
                break;
            };
            bytes += document.as_bytes().len();
            documents.push(document);
        }
        if let Some(overrides) = self.overrides.as_ref().filter(|_| !documents.is_empty()) {
            overrides.remove_from(&mut documents).await?;
        }
        let names = match &mut self.numbered {
            Some(numbered) => numbered.names(&documents, &self.written_by).await?,
            None => Arc::default(),
        };
        let timed = documents
            .into_iter()
            .filter_map(|document| Some((RecordTime::of(&document, &self.time)?, document)));
        Ok(Block { documents: timed.collect(), names })
    }
}

/// The names of the sources of the messages that are read.
pub(super) struct NumberedMessages {
    store: Arc<dyn Coredms>,
    client: ClientId,
    sources: Arc<SourceNames>,
    known: Arc<HashMap<[u8; 8], Source>>,
}

impl NumberedMessages {
    pub(super) fn new(store: Arc<dyn Coredms>, client: ClientId, sources: Arc<SourceNames>) -> Self {
        let known = sources.known(&client);
        Self { store, client, sources, known }
    }

    async fn names(
        &mut self,
        documents: &[RawDocumentBuf],
        written_by: &ViewLayer,
    ) -> Result<Arc<HashMap<[u8; 8], Source>>, CoredmsError> {
        let is_unknown = |document: &RawDocumentBuf| {
            let id = origin::record_id(document, written_by);
            id.is_some_and(|id| id.0.first_chunk().is_none_or(|prefix| !self.known.contains_key(prefix)))
        };
        if documents.iter().any(is_unknown) {
            self.known = self.sources.read(self.store.as_ref(), &self.client).await?;
        }
        Ok(Arc::clone(&self.known))
    }
}
