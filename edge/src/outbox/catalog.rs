//! What is durable in an outbox: its segments, in the order of their numbers.

use std::collections::BTreeMap;
use std::path::Path;

use mysimbdp_model::source;
use mysimbdp_platform::files::{self, FileError};

use super::segment::{self, Segment, View};
use crate::message::Position;

/// The segments.
#[derive(Debug)]
pub struct Catalog {
    /// Those that are full, by their first numbers.
    sealed: BTreeMap<u64, Segment>,
    /// The one that grows.
    last: Segment,
}

impl Catalog {
    /// Reads the segments in `directory`, makes the first one where there is none, and cuts what a crash has left behind
    /// the last whole entry: it was never accepted. All that is found is durable when this returns.
    pub fn open(directory: &Path) -> Result<Self, FileError> {
        let mut sealed = BTreeMap::new();
        for first in segment::list(directory)? {
            sealed.insert(first, Segment::open(directory, first)?);
        }
        let last = loop {
            match sealed.pop_last() {
                // A segment is made before its first entry is: without one it has nothing to say.
                Some((_, last)) if last.count == 0 && !sealed.is_empty() => files::remove_file(last.path())?,
                Some((_, last)) => break last,
                None => break Segment::create(directory, source::FIRST)?,
            }
        };
        cut_tail(&last)?;
        let catalog = Self { sealed, last };
        // A process that was killed between writing and syncing has left entries that are in the page cache only. They
        // count as accepted from here on, so a power cut must not take them back: their numbers would be given again.
        catalog.segments().try_for_each(Segment::sync)?;
        Ok(catalog)
    }

    pub fn last(&self) -> &Segment {
        &self.last
    }

    /// An entry more of the last segment has become durable.
    pub fn note(&mut self, position: &Position, bytes: u64) {
        self.last.note(position, bytes);
    }

    /// The last segment is full, and this one follows it.
    pub fn push(&mut self, segment: Segment) {
        let full = std::mem::replace(&mut self.last, segment);
        self.sealed.insert(full.first, full);
    }

    /// The number of the last entry that was accepted; 0 before the first.
    pub fn accepted(&self) -> u64 {
        self.last.next() - 1
    }

    /// The number of the oldest entry that may still be there.
    pub fn oldest(&self) -> u64 {
        self.segments().next().map_or(source::FIRST, |segment| segment.first)
    }

    pub fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    /// Of the last entry that was accepted.
    pub fn position(&self) -> Position {
        let mut with_entries = self.segments().filter(|segment| segment.count > 0);
        with_entries.next_back().map(|segment| segment.position.clone()).unwrap_or_default()
    }

    /// Where the entry `number` can be found; else the first number after it that can be, if there is one.
    pub fn find(&self, number: u64) -> Result<View, Option<u64>> {
        // At most a few more segments than fit into the capacity.
        if let Some(view) = self.segments().find_map(|segment| segment.find(number)) {
            return Ok(view);
        }
        let mut after = self.segments().filter(|segment| segment.first > number && segment.count > 0);
        Err(after.next().map(|segment| segment.first))
    }

    /// Takes out the segments that hold nothing beyond `through`. The last one with entries stays in any case: it says
    /// which number comes next, and where the producer goes on.
    pub fn release(&mut self, through: u64) -> Vec<Segment> {
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

    fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.sealed.values().chain(std::iter::once(&self.last))
    }
}

fn cut_tail(last: &Segment) -> Result<(), FileError> {
    let torn = files::metadata(last.path())?.len().saturating_sub(last.bytes);
    if torn > 0 {
        tracing::warn!(file = %last.path().display(), bytes = torn, "cut what was never accepted from the outbox");
        let file = files::append(last.path())?;
        let error = |source| FileError { action: "cut", path: last.path().to_owned(), source };
        file.set_len(last.bytes).map_err(error)?;
    }
    Ok(())
}
