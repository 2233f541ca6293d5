//! The durable content of an outbox: its segments, in the order of their numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use mysimbdp_model::source;
use mysimbdp_platform::files::{self, FileError};

use super::segment::{self, OutboxSegment, View};
use crate::message::Position;

/// The segments of an outbox.
#[derive(Debug)]
pub struct Catalog {
    /// The full segments, by their first numbers.
    sealed: BTreeMap<u64, OutboxSegment>,
    /// The segment that entries are appended to.
    last: OutboxSegment,
}

impl Catalog {
    /// Reads the segments in `directory`, creates the first one if there is none, and truncates the bytes that a crash has left
    /// after the last whole entry: they were never accepted. All entries that are found are durable when this returns.
    pub fn open(directory: &Path) -> Result<Self, FileError> {
        let mut sealed = BTreeMap::new();
        for first in segment::list(directory)? {
            sealed.insert(first, OutboxSegment::open(directory, first)?);
        }
        let last = loop {
            match sealed.pop_last() {
                // A segment is created before its first entry is written. Without entries it holds no information.
                Some((_, last)) if last.count == 0 && !sealed.is_empty() => files::remove_file(last.path())?,
                Some((_, last)) => break last,
                None => break OutboxSegment::create(directory, source::FIRST)?,
            }
        };
        truncate_torn_tail(&last)?;
        let catalog = Self { sealed, last };
        // A process that was killed between writing and syncing has left entries that are in the page cache only. From here
        // on they count as accepted, so a power cut must not remove them: their numbers would be assigned again.
        catalog.segments().try_for_each(OutboxSegment::sync)?;
        Ok(catalog)
    }

    pub fn last(&self) -> &OutboxSegment {
        &self.last
    }

    /// Another entry of the last segment is durable.
    pub fn add_entry(&mut self, position: &Position, bytes: u64) {
        self.last.add_entry(position, bytes);
    }

    /// The last segment is full: entries are appended to this one from now on.
    pub fn push(&mut self, segment: OutboxSegment) {
        let full = std::mem::replace(&mut self.last, segment);
        self.sealed.insert(full.first, full);
    }

    /// The number of the last accepted entry; 0 if there is none yet.
    pub fn accepted(&self) -> u64 {
        self.last.next() - 1
    }

    /// The oldest number that the outbox may still have.
    pub fn oldest(&self) -> u64 {
        self.segments().next().map_or(source::FIRST, |segment| segment.first)
    }

    pub fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    /// For each segment its last entry, and when the segment was last written, as far as that is known.
    pub fn written(&self) -> impl Iterator<Item = (u64, SystemTime)> {
        self.segments().filter(|segment| segment.count > 0).filter_map(|segment| {
            let written = files::metadata(segment.path()).ok()?.modified().ok()?;
            Some((segment.next() - 1, written))
        })
    }

    /// The position of the last accepted entry.
    pub fn position(&self) -> Position {
        let mut with_entries = self.segments().filter(|segment| segment.count > 0);
        with_entries.next_back().map(|segment| segment.position.clone()).unwrap_or_default()
    }

    /// Returns a view from which the entry `number` can be read; otherwise the first number after it that has one, if any.
    pub fn find(&self, number: u64) -> Result<View, Option<u64>> {
        // There are at most a few more segments than fit into the capacity.
        if let Some(view) = self.segments().find_map(|segment| segment.find(number)) {
            return Ok(view);
        }
        let mut after = self.segments().filter(|segment| segment.first > number && segment.count > 0);
        Err(after.next().map(|segment| segment.first))
    }

    /// Removes the segments that hold no entry after `through`, and returns them. The last one with entries always stays: it
    /// holds the next number and the producer's position.
    pub fn release(&mut self, through: u64) -> Vec<OutboxSegment> {
        let mut released = Vec::new();
        while let Some(&first) = self.sealed.keys().next() {
            let following = self.segments().nth(1).filter(|following| following.count > 0);
            if following.is_none_or(|following| following.first - 1 > through) {
                break;
            }
            released.extend(self.sealed.remove(&first));
        }
        released
    }

    fn segments(&self) -> impl DoubleEndedIterator<Item = &OutboxSegment> {
        self.sealed.values().chain(std::iter::once(&self.last))
    }
}

fn truncate_torn_tail(last: &OutboxSegment) -> Result<(), FileError> {
    let torn = files::metadata(last.path())?.len().saturating_sub(last.bytes);
    if torn > 0 {
        tracing::warn!(file = %last.path().display(), bytes = torn, "truncated bytes in the outbox that were never accepted");
        let file = files::append(last.path())?;
        let error = |source| FileError { action: "truncate", path: last.path().to_owned(), source };
        file.set_len(last.bytes).map_err(error)?;
    }
    Ok(())
}
