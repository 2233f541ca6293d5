//! Locates and reads the bytes of a staged file: in the file itself, or in parts if it was copied from another file system.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::{Manifest, MicroBatch};
use mysimbdp_model::records::Scanner;
use mysimbdp_platform::files::{self, FileError};

/// Large enough that the cost of system calls is negligible.
const BUFFER_BYTES: u64 = 256 << 10;

/// A range of one file in the staged directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSegment {
    pub path: PathBuf,
    pub offset: u64,
    pub length: u64,
}

/// The reason why staged bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It is no longer what was staged; a retry cannot help.
    #[error("{}: content changed after it was staged: {what}", path.display())]
    Changed { path: PathBuf, what: String },
    #[error(transparent)]
    File(#[from] FileError),
}

impl ContentSegment {
    /// Passes the range to `visit`, buffer by buffer, until it returns false; returns whether it never did.
    ///
    /// # Errors
    ///
    /// The file is too short, or cannot be read.
    pub fn read(&self, visit: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, ContentError> {
        let file = files::open(&self.path)?;
        let mut buffer = Vec::new();
        let mut read = 0;
        while read < self.length {
            self.fill(&file, read, &mut buffer)?;
            if !visit(&buffer) {
                return Ok(false);
            }
            read += buffer.len() as u64;
        }
        Ok(true)
    }

    /// A part of the segment; `range` is relative to its start.
    fn part(&self, range: Range<u64>) -> Self {
        Self { path: self.path.clone(), offset: self.offset + range.start, length: range.end - range.start }
    }

    /// Fills the buffer from `at` in the segment on.
    fn fill(&self, file: &File, at: u64, buffer: &mut Vec<u8>) -> Result<(), ContentError> {
        buffer.resize((self.length - at).min(BUFFER_BYTES) as usize, 0);
        let count = files::read_at(file, &self.path, buffer, self.offset + at)?;
        if count < buffer.len() {
            return Err(self.changed(format!("it is shorter than {} bytes", self.offset + self.length)));
        }
        Ok(())
    }

    /// An error that says what is wrong with the content of this segment.
    pub fn changed(&self, what: String) -> ContentError {
        ContentError::Changed { path: self.path.clone(), what }
    }
}

/// The segment of a micro-batch: a range of the file, or a part of its own.
pub fn segment_of(directory: &Path, batch: &MicroBatch) -> ContentSegment {
    let offset = if is_part(batch) { 0 } else { batch.offset };
    ContentSegment { path: directory.join(&batch.path), offset, length: batch.length }
}

fn is_part(batch: &MicroBatch) -> bool {
    Path::new(&batch.path).starts_with(Layout::PARTS)
}

/// The segments of `length` bytes at `offset` of the whole file.
pub fn segments(directory: &Path, manifest: &Manifest, offset: u64, length: u64) -> Vec<ContentSegment> {
    let end = offset + length;
    let prefix = manifest.micro_batches.first().map(|first| ContentSegment {
        path: directory.join(if is_part(first) {
            Path::new(Layout::PARTS).join(Layout::PREFIX_PART)
        } else {
            first.path.as_str().into()
        }),
        offset: 0,
        length: manifest.prefix.length,
    });
    // Without any micro-batch the file consists only of the prefix.
    let prefix = prefix.unwrap_or_else(|| ContentSegment {
        path: directory.join(&manifest.file),
        offset: 0,
        length: manifest.prefix.length,
    });
    let batches = manifest.micro_batches.iter().map(|batch| (batch.offset, segment_of(directory, batch)));
    let all = [(0, prefix)].into_iter().chain(batches);
    let mut found: Vec<ContentSegment> = Vec::new();
    for (start, segment) in all {
        let from = start.max(offset);
        let to = (start + segment.length).min(end);
        if from >= to {
            continue;
        }
        let part = segment.part(from - start..to - start);
        match found.last_mut() {
            // Adjacent ranges of one file are merged.
            Some(last) if last.path == part.path && last.offset + last.length == part.offset => {
                last.length += part.length;
            }
            _ => found.push(part),
        }
    }
    found
}

/// Bytes of a staged file that belong together, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(Vec<ContentSegment>);

impl Content {
    /// The bytes in front of the first micro-batch.
    pub fn prefix(directory: &Path, manifest: &Manifest) -> Self {
        Self(segments(directory, manifest, 0, manifest.prefix.length))
    }

    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|segment| segment.length).sum()
    }

    /// Reads `length` bytes from `offset` on, fewer at the end.
    ///
    /// # Errors
    ///
    /// A file is too short, or cannot be read.
    pub fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, ContentError> {
        let (mut found, mut start) = (Vec::new(), 0);
        for segment in &self.0 {
            let from = offset.clamp(start, start + segment.length) - start;
            let to = offset.saturating_add(length).clamp(start, start + segment.length) - start;
            if from < to {
                segment.part(from..to).read(&mut |bytes| {
                    found.extend_from_slice(bytes);
                    true
                })?;
            }
            start += segment.length;
        }
        Ok(found)
    }
}

/// Finds single records of a staged file by their numbers.
///
/// In ascending order this takes one pass over the micro-batches that contain them; each step back reads a micro-batch from
/// its start again.
#[derive(Debug)]
pub struct RecordFinder {
    directory: PathBuf,
    scan: Option<Scan>,
}

/// A pass over one micro-batch.
#[derive(Debug)]
struct Scan {
    batch: usize,
    segment: ContentSegment,
    file: File,
    scanner: Scanner,
    buffer: Vec<u8>,
    /// Bytes of the buffer that the scanner has consumed.
    scanned: usize,
    /// Bytes of the segment that have been read into the buffer so far.
    filled: u64,
    /// The number of the next record.
    next: u64,
}

impl RecordFinder {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), scan: None }
    }

    /// The bytes of a record, without its line end or the separator between it and the next one.
    ///
    /// # Errors
    ///
    /// There is no such record, or the file cannot be read.
    pub fn find(&mut self, manifest: &Manifest, record: u64) -> Result<Content, ContentError> {
        let ends_before = |batch: &MicroBatch| batch.first_record + batch.records <= record;
        let batch = manifest.micro_batches.partition_point(ends_before);
        let missing = || ContentError::Changed {
            path: self.directory.join(&manifest.file),
            what: format!("it has no record {record}"),
        };
        let found = manifest.micro_batches.get(batch).ok_or_else(missing)?;
        let Some(scanner) = Scanner::new(manifest.format) else {
            return Ok(Content(segments(&self.directory, manifest, 0, manifest.bytes)));
        };
        let is_ahead = |scan: &Scan| scan.batch == batch && scan.next <= record;
        let mut scan = match self.scan.take().filter(is_ahead) {
            Some(scan) => scan,
            None => Scan::begin(batch, segment_of(&self.directory, found), scanner, found.first_record)?,
        };
        loop {
            let number = scan.next;
            let Some(range) = scan.next_record()? else { return Err(missing()) };
            if number == record {
                let content = Content(vec![scan.segment.part(range)]);
                self.scan = Some(scan);
                return Ok(content);
            }
        }
    }
}

impl Scan {
    fn begin(
        batch: usize,
        segment: ContentSegment,
        scanner: Scanner,
        next: u64,
    ) -> Result<Self, ContentError> {
        let file = files::open(&segment.path)?;
        Ok(Self { batch, segment, file, scanner, buffer: Vec::new(), scanned: 0, filled: 0, next })
    }

    /// The range of the next record, relative to the segment; `None` after the last one.
    fn next_record(&mut self) -> Result<Option<Range<u64>>, ContentError> {
        loop {
            let (count, record) = self.scanner.read(&self.buffer[self.scanned..]);
            self.scanned += count;
            let record = match record {
                None if self.scanned == self.buffer.len() && self.filled == self.segment.length => {
                    self.scanner.finish()
                }
                record => record,
            };
            if record.is_some() {
                self.next += 1;
                return Ok(record);
            }
            if self.filled == self.segment.length {
                return Ok(None);
            }
            self.segment.fill(&self.file, self.filled, &mut self.buffer)?;
            self.filled += self.buffer.len() as u64;
            self.scanned = 0;
        }
    }
}
