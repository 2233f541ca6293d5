//! A file of entries with consecutive numbers, named by the first of them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mysimbdp_platform::files::{self, FileError};

use super::frame::{self, Decoded, Entry};
use crate::message::Position;

const SUFFIX: &str = ".log";
/// The offset of one entry in this many is kept in memory: enough to reach any other entry by reading a few.
const INDEX_EVERY: u64 = 64;
/// The bytes of one read: more than most entries have.
const READ_BYTES: usize = 64 << 10;

/// The durable entries of a segment.
#[derive(Debug)]
pub struct OutboxSegment {
    pub first: u64,
    /// How many entries it holds.
    pub count: u64,
    pub bytes: u64,
    /// The position of its last entry.
    pub position: Position,
    path: Arc<Path>,
    file: Arc<File>,
    /// The offset of every [`INDEX_EVERY`]th entry.
    index: Vec<u64>,
}

/// An offset in a segment from which an entry can be reached. It stays valid whatever happens to the segment meanwhile.
#[derive(Debug)]
pub struct View {
    path: Arc<Path>,
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl OutboxSegment {
    /// Creates a segment without entries.
    pub fn create(directory: &Path, first: u64) -> Result<Self, FileError> {
        let path = path(directory, first);
        files::create_new(&path)?;
        files::sync_dir(directory)?;
        let file = Arc::new(files::open(&path)?);
        Ok(Self::empty(path.into(), file, first))
    }

    /// Reads an existing segment. Bytes after the last whole entry in order are ignored.
    pub fn open(directory: &Path, first: u64) -> Result<Self, FileError> {
        let path = path(directory, first);
        let file = Arc::new(files::open(&path)?);
        let mut segment = Self::empty(path.into(), file, first);
        let mut view = View { end: u64::MAX, ..segment.view(0) };
        view.walk(|entry, bytes| {
            let in_order = entry.number == segment.next();
            if in_order {
                segment.add_entry(&entry.position, bytes as u64);
            }
            in_order
        })?;
        Ok(segment)
    }

    fn empty(path: Arc<Path>, file: Arc<File>, first: u64) -> Self {
        Self { first, count: 0, bytes: 0, position: Position::default(), path, file, index: Vec::new() }
    }

    /// The number after its last entry.
    pub fn next(&self) -> u64 {
        self.first + self.count
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes its entries durable. Entries that the writer has appended are durable already: it syncs them itself.
    pub fn sync(&self) -> Result<(), FileError> {
        let error = |source| FileError { action: "sync", path: self.path.to_path_buf(), source };
        self.file.sync_data().map_err(error)
    }

    /// Another entry is durable.
    pub fn add_entry(&mut self, position: &Position, bytes: u64) {
        if self.count.is_multiple_of(INDEX_EVERY) {
            self.index.push(self.bytes);
        }
        self.count += 1;
        self.bytes += bytes;
        self.position = position.clone();
    }

    /// Returns a view from which the entry `number` can be read, if it is in this segment.
    pub fn find(&self, number: u64) -> Option<View> {
        let ordinal = number.checked_sub(self.first).filter(|ordinal| *ordinal < self.count)?;
        let offset = self.index.get(usize::try_from(ordinal / INDEX_EVERY).ok()?)?;
        Some(self.view(*offset))
    }

    fn view(&self, offset: u64) -> View {
        View { path: Arc::clone(&self.path), file: Arc::clone(&self.file), offset, end: self.bytes }
    }
}

impl View {
    /// Reads the entries `first` to `last`, as far as they are whole and fit into `bytes_max`; the first in any case if it is
    /// whole.
    pub fn read(mut self, first: u64, last: u64, bytes_max: usize) -> Result<Vec<Entry>, FileError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        self.walk(|entry, _| {
            if entry.number < first {
                return true;
            }
            bytes += entry.payload.len();
            let is_requested = entry.number == first + entries.len() as u64
                && entry.number <= last
                && (entries.is_empty() || bytes <= bytes_max);
            if is_requested {
                entries.push(entry);
            }
            is_requested
        })?;
        Ok(entries)
    }

    /// Calls `each` with every entry and its length in bytes, until it returns false or no whole entry follows.
    fn walk(&mut self, mut each: impl FnMut(Entry, usize) -> bool) -> Result<(), FileError> {
        let mut requested_bytes = READ_BYTES;
        let mut buffer = Vec::new();
        loop {
            let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            buffer.resize(requested_bytes.min(left), 0);
            let filled = files::read_at(&self.file, &self.path, &mut buffer, self.offset)?;
            let mut read = 0;
            let short = loop {
                match frame::decode(&buffer[read..filled]) {
                    Decoded::Entry(entry, bytes) => {
                        if !each(entry, bytes) {
                            return Ok(());
                        }
                        read += bytes;
                    }
                    Decoded::Short(bytes) => break bytes,
                    Decoded::Damaged => return Ok(()),
                }
            };
            if filled < requested_bytes {
                // The end of the file: no bytes follow that would complete the entry.
                return Ok(());
            }
            self.offset += read as u64;
            requested_bytes = short.max(READ_BYTES);
        }
    }
}

/// Returns the first numbers of the segments in `directory`, ascending.
pub fn list(directory: &Path) -> Result<Vec<u64>, FileError> {
    let number = |path: PathBuf| path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok();
    let mut numbers: Vec<u64> = files::list(directory)?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}{SUFFIX}"))
}
