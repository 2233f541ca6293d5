//! What was computed: windows, in segments of time.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::source::WindowSource;
use super::stats::WindowStats;

/// A window and what its sources have in it.
#[derive(Debug)]
pub struct Window {
    /// In milliseconds since 1970.
    pub start: i64,
    /// In order.
    pub(super) sources: Box<[WindowSource]>,
    /// Those of all fields of the first source, then those of the second, and so on.
    pub(super) stats: Box<[WindowStats]>,
}

impl Window {
    /// The sources in their order, each with what its fields have. A field without numbers has the count 0.
    pub fn series(&self) -> impl Iterator<Item = (&WindowSource, &[WindowStats])> {
        let fields = self.stats.len() / self.sources.len().max(1);
        self.sources.iter().zip(self.stats.chunks(fields.max(1)))
    }

    /// Memory that it takes.
    fn bytes(&self) -> usize {
        // Arcs, vectors and what the allocator adds.
        const WINDOW: usize = 96;
        let sources: usize = self.sources.iter().map(WindowSource::bytes).sum();
        WINDOW + sources + size_of_val(&*self.sources) + size_of_val(&*self.stats)
    }
}

/// All windows of a range of time, in order.
#[derive(Debug)]
pub(super) struct Segment {
    /// Both are beginnings of windows, or the ends of time.
    pub(super) range: Range<i64>,
    pub(super) windows: Vec<Arc<Window>>,
    /// How many records were read for it.
    pub(super) records: u64,
    /// No later than its first record was read.
    pub(super) computed_at: Instant,
}

impl Segment {
    pub(super) fn empty(range: Range<i64>, computed_at: Instant) -> Self {
        Self { range, windows: Vec::new(), records: 0, computed_at }
    }

    pub(super) fn series(&self) -> usize {
        self.windows.iter().map(|window| window.stats.len()).sum()
    }

    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        // Itself, and its entries in the maps of those that are kept.
        const SEGMENT: usize = 256;
        SEGMENT + self.windows.iter().map(|window| window.bytes()).sum::<usize>()
    }
}
