//! Fills ranges, one for each micro-batch, with whole records up to the size of a block, and computes their checksums
//! on the way.
//!
//! A record belongs to the current range or opens a new one, and which of the two is known only at its end, perhaps
//! many reads later. So from the last boundary on, bytes are added to two checksums: that of the range with them, and
//! that of a new range that begins with them.

use xxhash_rust::xxh3::Xxh3Default;

use super::MicroBatchRange;

/// Offsets refer to the whole file; positions in a chunk are called `at`.
pub(super) struct Cutter {
    block_bytes_max: u64,
    prefix: Option<u64>,
    ranges: Vec<MicroBatchRange>,
    open: Open,
    chunk_start: u64,
}

/// The range that is being filled.
struct Open {
    start: u64,
    /// The end of its last whole record, or `start`.
    boundary: u64,
    first_record: u64,
    records: u64,
    /// The checksum of `start..hashed`. Not past `boundary` once a whole record is in the range, as what follows may
    /// belong to the next.
    hash: Xxh3Default,
    hashed: u64,
    tail: Option<Tail>,
}

/// The unfinished record after the boundary, as far as it was in earlier chunks.
struct Tail {
    /// Of the open range and the tail.
    with_range: Xxh3Default,
    /// Of the tail alone.
    alone: Xxh3Default,
}

/// Everything that was cut.
pub(super) struct Cut {
    pub(super) prefix: u64,
    pub(super) ranges: Vec<MicroBatchRange>,
    pub(super) bytes: u64,
    pub(super) records: u64,
}

impl Cutter {
    pub(super) fn new(block_bytes_max: u64) -> Self {
        Self { block_bytes_max, prefix: None, ranges: Vec::new(), open: Open::new(0, 0), chunk_start: 0 }
    }

    /// The offset of the chunk that is being fed; between chunks, how much has been fed.
    pub(super) fn chunk_start(&self) -> u64 {
        self.chunk_start
    }

    /// The first range begins at this position of `chunk`. Must be called once, before any boundary.
    pub(super) fn end_prefix(&mut self, at: usize) {
        let end = self.chunk_start + at as u64;
        self.prefix = Some(end);
        self.open = Open::new(end, 0);
    }

    /// At this position of `chunk` another `records` records are complete; 0 for a blank line.
    pub(super) fn boundary(&mut self, chunk: &[u8], at: usize, records: u64) {
        let end = self.chunk_start + at as u64;
        if end - self.open.start > self.block_bytes_max {
            self.close(chunk);
        }
        let open = &mut self.open;
        if let Some(tail) = open.tail.take() {
            open.hash = tail.with_range;
            open.hashed = self.chunk_start;
        }
        open.boundary = end;
        open.records += records;
    }

    /// All of `chunk` has been inspected; it is not available afterwards.
    pub(super) fn end_chunk(&mut self, chunk: &[u8]) {
        let end = self.chunk_start + chunk.len() as u64;
        if self.prefix.is_some() {
            if end - self.open.start > self.block_bytes_max {
                self.close(chunk);
            }
            self.open.pass(chunk, self.chunk_start);
        }
        self.chunk_start = end;
    }

    /// Cuts blocks of bytes instead of records: the file counts as one record, which begins in the first block.
    pub(super) fn cut_blocks(&mut self, chunk: &[u8]) {
        if self.prefix.is_none() {
            self.end_prefix(0);
        }
        let end = self.chunk_start + chunk.len() as u64;
        loop {
            // The open range may end on a boundary already: it is closed only when more follows.
            let start =
                if self.open.boundary > self.open.start { self.open.boundary } else { self.open.start };
            let Some(next) = start.checked_add(self.block_bytes_max).filter(|next| *next <= end) else {
                return;
            };
            self.boundary(chunk, (next - self.chunk_start) as usize, u64::from(start == 0));
        }
    }

    pub(super) fn end_blocks(&mut self) {
        let whole = u64::from(self.open.boundary == 0);
        if self.open.boundary < self.chunk_start {
            self.boundary(&[], 0, whole);
        }
    }

    pub(super) fn finish(mut self) -> Cut {
        if self.open.boundary > self.open.start || self.ranges.is_empty() {
            self.ranges.push(self.open.to_range());
        }
        let records = self.ranges.iter().map(|range| range.records).sum();
        Cut { prefix: self.prefix.unwrap_or(0), ranges: self.ranges, bytes: self.chunk_start, records }
    }

    /// Ends the open range at its last boundary; a range without a whole record stays open, however large.
    fn close(&mut self, chunk: &[u8]) {
        let open = &mut self.open;
        if open.boundary == open.start {
            return;
        }
        open.hash_to(open.boundary, chunk, self.chunk_start);
        self.ranges.push(open.to_range());
        let mut next = Open::new(open.boundary, open.first_record + open.records);
        if let Some(tail) = open.tail.take() {
            next.hash = tail.alone;
            next.hashed = self.chunk_start;
        }
        self.open = next;
    }
}

impl Open {
    fn new(start: u64, first_record: u64) -> Self {
        Self {
            start,
            boundary: start,
            first_record,
            records: 0,
            hash: Xxh3Default::new(),
            hashed: start,
            tail: None,
        }
    }

    /// Hashes the part of `chunk` that has not been hashed yet, while it is available.
    fn pass(&mut self, chunk: &[u8], chunk_start: u64) {
        let end = chunk_start + chunk.len() as u64;
        if let Some(tail) = &mut self.tail {
            tail.with_range.update(chunk);
            tail.alone.update(chunk);
        } else if self.boundary == self.start {
            // The first record, wherever it ends, belongs to this range.
            self.hash_to(end, chunk, chunk_start);
        } else {
            self.hash_to(self.boundary, chunk, chunk_start);
            let rest = &chunk[(self.boundary - chunk_start) as usize..];
            if !rest.is_empty() {
                let mut tail = Tail { with_range: self.hash.clone(), alone: Xxh3Default::new() };
                tail.with_range.update(rest);
                tail.alone.update(rest);
                self.tail = Some(tail);
            }
        }
    }

    fn hash_to(&mut self, end: u64, chunk: &[u8], chunk_start: u64) {
        if self.hashed < end {
            self.hash.update(&chunk[(self.hashed - chunk_start) as usize..(end - chunk_start) as usize]);
            self.hashed = end;
        }
    }

    fn to_range(&self) -> MicroBatchRange {
        MicroBatchRange {
            offset: self.start,
            length: self.boundary - self.start,
            first_record: self.first_record,
            records: self.records,
            xxh3: self.hash.digest(),
        }
    }
}
