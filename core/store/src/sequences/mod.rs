//! Which numbers of each source are received, by any of the instances that store them: the collection [`SEQUENCES`].
//!
//! 1. [`Sequences::mark`]: durable numbers become bits in [`block`]s. Instances need not agree on anything: the store
//!    merges the bits of all of them, in any order, and no bit is ever cleared;
//! 2. [`Sequences::progress`]: how far a source is received. It starts at the watermark, which has a document of its own
//!    and is only ever raised, so that full blocks are read once;
//! 3. [`Sequences::record_lost`]: numbers that the source no longer has become [`LOSSES`], and then count as received.
//!
//! A number is received if it is stored, rejected or lost for good. There is one state for each collection, source and
//! epoch. A number costs one block, however high it is.

mod block;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::RecordId;
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::{FIRST, Lost, Source};
use mysimbdp_platform::clock;

use self::block::Block;
use super::{Coredms, CoredmsError, Merge, Order};

pub(super) use self::block::word_of;
pub use self::progress::Progress;

/// The collection of blocks and watermarks.
pub const SEQUENCES: &str = "sequences";

/// The collection of numbers that are lost for good.
pub const LOSSES: &str = "losses";

/// Blocks that are read at a time. A source with a gap is read no farther than this: 130,000 numbers.
const PAGE: i64 = 128;

/// Losses that are written at a time.
const LOSSES_AT_A_TIME: usize = 1000;

/// The most sources that are listed.
const SOURCES_MAX: i64 = 100_000;

/// Stands for the block number in the `_id` of the watermark. No block has this number.
const WATERMARK: u64 = u64::MAX;

/// The state of all sources whose messages go to one collection.
#[derive(Clone, Debug)]
pub struct Sequences {
    coredms: Arc<dyn Coredms>,
    client: ClientId,
    collection: String,
}

/// A source that has a watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceWatermark {
    pub collection: String,
    pub source: Source,
    /// All numbers from 1 to this one are received, perhaps more.
    pub through: u64,
}

impl Sequences {
    pub fn new(coredms: Arc<dyn Coredms>, client: ClientId, collection: impl Into<String>) -> Self {
        Self { coredms, client, collection: collection.into() }
    }

    /// Marks numbers as received. Only durable numbers may be marked.
    pub async fn mark(&self, received: &BTreeMap<Source, Ranges>) -> Result<(), CoredmsError> {
        let merges = received.iter().flat_map(|(source, ranges)| {
            block::blocks(ranges).map(move |(number, block)| {
                let mut initial_fields = self.initial_fields("block", source);
                initial_fields.insert("block", number as i64);
                Merge {
                    id: self.id(source, number),
                    initial_fields,
                    bits: block.words().collect(),
                    through: None,
                }
            })
        });
        self.coredms.merge(SEQUENCES, merges.collect()).await
    }

    /// Returns how far the source is received. `known_through` is from an earlier result, or 0.
    pub async fn progress(&self, source: &Source, known_through: u64) -> Result<Progress, CoredmsError> {
        let watermark = match known_through {
            0 => self.watermark(source).await?,
            known => Some(known),
        };
        // The block of the watermark itself is read again, as it was not full.
        let start = watermark.map_or(0, |through| block::block_of(through.saturating_add(1)));
        let (seen, is_complete) = self.seen(source, start).await?;
        let mut progress = Progress::of(start * block::NUMBERS, seen);
        if !is_complete {
            progress.highest = self.highest(source).await?.unwrap_or(progress.highest);
        }
        if watermark.is_none() || block::block_of(progress.through.saturating_add(1)) > start {
            self.raise(source, progress.through).await?;
        }
        Ok(progress)
    }

    /// Returns the numbers from `first` to `last` that are not received.
    pub async fn unreceived(&self, source: &Source, first: u64, last: u64) -> Result<Ranges, CoredmsError> {
        let (mut next, end) = (block::block_of(first), block::block_of(last) + 1);
        let mut received = Ranges::default();
        while next < end {
            let page = self.page(source, next, end).await?;
            next = page.last().map_or(end, |(number, _)| number + 1);
            page.iter().for_each(|(number, block)| block.add_to(*number, &mut received));
        }
        Ok(received.holes(first, last))
    }

    /// Records as lost those of the numbers that are not received, and marks them as received. Returns what was lost.
    /// If it is repeated after a crash in between, some of them may be recorded a second time, in another range.
    pub async fn record_lost(&self, reported: &Lost) -> Result<Ranges, CoredmsError> {
        let lost = self.unreceived(&reported.source, reported.first, reported.last).await?;
        let ranges: Vec<(u64, u64)> = lost.iter().collect();
        for ranges in ranges.chunks(LOSSES_AT_A_TIME) {
            let documents = ranges.iter().map(|&(first, last)| self.loss(&reported.source, first, last));
            let documents = documents.collect::<Result<Vec<_>, _>>()?;
            self.coredms.insert_many(LOSSES, documents).await?;
        }
        self.mark(&BTreeMap::from([(reported.source.clone(), lost.clone())])).await?;
        Ok(lost)
    }

    /// Returns the sources of all collections that have a watermark, at most 100,000.
    pub async fn sources(coredms: &dyn Coredms) -> Result<Vec<SourceWatermark>, CoredmsError> {
        let found = coredms.find(SEQUENCES, doc! { "kind": "source" }, SOURCES_MAX).await?;
        Ok(found.iter().filter_map(source_watermark).collect())
    }

    /// Returns the received numbers from block `start` on, and whether these are all: of a source with a gap only a
    /// limited number of blocks is read.
    async fn seen(&self, source: &Source, start: u64) -> Result<(Ranges, bool), CoredmsError> {
        let mut seen = Ranges::default();
        let mut next = start;
        loop {
            let page = self.page(source, next, WATERMARK).await?;
            page.iter().for_each(|(number, block)| block.add_to(*number, &mut seen));
            let Some((last, _)) = page.last().filter(|_| page.len() as i64 == PAGE) else {
                return Ok((seen, true));
            };
            let has_start = seen.first().is_some_and(|range| range.0 <= (start * block::NUMBERS).max(FIRST));
            if !has_start || seen.len() > 1 {
                return Ok((seen, false));
            }
            next = last + 1;
        }
    }

    async fn page(&self, source: &Source, first: u64, end: u64) -> Result<Vec<(u64, Block)>, CoredmsError> {
        let (first, end) = (self.id(source, first), self.id(source, end));
        let found = self.coredms.find_ids(SEQUENCES, first, end, Order::Ascending, PAGE).await?;
        Ok(found.iter().filter_map(|found| Some((block_number(found)?, Block::read(found)))).collect())
    }

    async fn highest(&self, source: &Source) -> Result<Option<u64>, CoredmsError> {
        let (first, end) = (self.id(source, 0), self.id(source, WATERMARK));
        let found = self.coredms.find_ids(SEQUENCES, first, end, Order::Descending, 1).await?;
        let mut last = Ranges::default();
        if let Some((number, found)) = found.first().and_then(|found| Some((block_number(found)?, found))) {
            Block::read(found).add_to(number, &mut last);
        }
        Ok(last.last().map(|range| range.1))
    }

    async fn watermark(&self, source: &Source) -> Result<Option<u64>, CoredmsError> {
        let id = bson::Binary::from(self.id(source, WATERMARK));
        let found = self.coredms.find(SEQUENCES, doc! { "_id": id }, 1).await?;
        Ok(found.first().and_then(through))
    }

    async fn raise(&self, source: &Source, through: u64) -> Result<(), CoredmsError> {
        let merge = Merge {
            id: self.id(source, WATERMARK),
            initial_fields: self.initial_fields("source", source),
            bits: BTreeMap::new(),
            // A watermark may be too low, never too high.
            through: Some(i64::try_from(through).unwrap_or(i64::MAX)),
        };
        self.coredms.merge(SEQUENCES, vec![merge]).await
    }

    fn initial_fields(&self, kind: &str, source: &Source) -> Document {
        doc! {
            "kind": kind,
            "collection": &self.collection,
            "source": source.name.as_str(),
            // The store has no unsigned 64-bit integer.
            "epoch": source.epoch.to_string(),
        }
    }

    fn loss(&self, source: &Source, first: u64, last: u64) -> Result<RawDocumentBuf, CoredmsError> {
        let document = doc! {
            "_id": bson::Binary::from(source.id(&self.client, first)),
            "collection": &self.collection,
            "source": source.name.as_str(),
            "epoch": source.epoch.to_string(),
            "first": number(first),
            "last": number(last),
            "noted_at": DateTime::from_millis(clock::now().as_millisecond()),
        };
        RawDocumentBuf::try_from(&document).map_err(|error| CoredmsError::Refused {
            address: LOSSES.to_owned(),
            operation: "record a loss",
            source: error.into(),
        })
    }

    /// Returns the id of a block. The blocks of a source are adjacent and in order. The collection is part of the hash, as
    /// two collections may hold messages of one source.
    fn id(&self, source: &Source, block: u64) -> RecordId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&source.prefix(&self.client));
        hasher.update(self.collection.as_bytes());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        id[8..].copy_from_slice(&block.to_be_bytes());
        RecordId(id)
    }
}

/// Returns a message's number as a field: an integer if the store has one for it, else its digits as text.
pub fn number(number: u64) -> Bson {
    i64::try_from(number).map_or_else(|_| Bson::String(number.to_string()), Bson::Int64)
}

fn block_number(document: &Document) -> Option<u64> {
    let id = document.get_binary_generic("_id").ok()?;
    Some(u64::from_be_bytes(id.get(8..)?.try_into().ok()?))
}

fn through(document: &Document) -> Option<u64> {
    document.get("through").map(word_of)
}

fn source_watermark(document: &Document) -> Option<SourceWatermark> {
    let name = document.get_str("source").ok()?.parse().ok()?;
    let epoch = document.get_str("epoch").ok()?.parse().ok()?;
    Some(SourceWatermark {
        collection: document.get_str("collection").ok()?.to_owned(),
        source: Source { name, epoch },
        through: through(document)?,
    })
}
