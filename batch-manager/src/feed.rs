//! Feeds the bytes of a work unit: all are verified before the first is fed, and only a few buffers are in memory.
//!
//! A change to the file between the two passes is found at the end, when the whole file is verified once more.

use std::path::Path;

use mysimbdp_model::manifest::{Format, Manifest, MicroBatch};
use mysimbdp_platform::files;
use mysimbdp_spool::staging::content::{ContentError, ContentSegment, segment_of, segments};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3;

use crate::unit::{Input, WorkUnit};

/// Large enough that the cost of system calls does not matter: four full pipe buffers.
const BUFFER_BYTES: usize = 256 << 10;
/// Buffers that may wait for a slow app.
const BUFFERS_WAITING_MAX: usize = 2;

/// The bytes that an app will be fed.
#[derive(Clone, Debug)]
pub struct Feed {
    pieces: Vec<Piece>,
    length: u64,
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Segment(ContentSegment),
}

/// Why an app has not been fed all bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedingError {
    #[error("its input cannot be read")]
    Read(#[source] ContentError),
    #[error("it read only {fed} of {length} bytes")]
    Incomplete { fed: u64, length: u64 },
}

impl Feed {
    /// Returns a feed of these bytes, without any verification.
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self { pieces: vec![Piece::Bytes(bytes)], length }
    }

    /// Returns the feed of a unit after verifying its checksums. Reads each byte once, and blocks.
    ///
    /// # Errors
    ///
    /// The content is not what was staged, or cannot be read.
    pub fn verified(directory: &Path, manifest: &Manifest, unit: &WorkUnit) -> Result<Self, ContentError> {
        let pieces = match unit.input {
            Input::MicroBatch(index) => {
                let batch = &manifest.micro_batches[index];
                verify_micro_batch(directory, batch)?;
                let segment = segment_of(directory, batch);
                if manifest.format == Format::Json {
                    json_elements(segment, index + 1 == manifest.micro_batches.len())?
                } else {
                    let prefix = segments(directory, manifest, 0, manifest.prefix.length);
                    prefix.into_iter().chain([segment]).map(Piece::Segment).collect()
                }
            }
            Input::File => {
                verify_whole(directory, manifest)?;
                segments(directory, manifest, 0, manifest.bytes).into_iter().map(Piece::Segment).collect()
            }
            Input::Range { offset, length } => {
                let touched = |batch: &&MicroBatch| {
                    batch.offset < offset + length && offset < batch.offset + batch.length
                };
                manifest
                    .micro_batches
                    .iter()
                    .filter(touched)
                    .try_for_each(|batch| verify_micro_batch(directory, batch))?;
                segments(directory, manifest, offset, length).into_iter().map(Piece::Segment).collect()
            }
            Input::Join => {
                verify_whole(directory, manifest)?;
                Vec::new()
            }
        };
        Ok(Self::of_pieces(pieces))
    }

    fn of_pieces(pieces: Vec<Piece>) -> Self {
        let length = pieces.iter().map(Piece::length).sum();
        Self { pieces, length }
    }

    /// Returns the number of bytes that will be fed.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes all bytes to `to`. A reader that sees its input end early would take that for the end of the unit, so
    /// after [`FeedingError::Read`] it must be killed before `to` is closed.
    pub(crate) async fn write_to(self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), FeedingError> {
        let length = self.length;
        let (buffers, mut read) = mpsc::channel(BUFFERS_WAITING_MAX);
        let (written, spare) = mpsc::channel(BUFFERS_WAITING_MAX);
        // The task ends when either side closes the channel.
        let reading = tokio::task::spawn_blocking(move || self.read_into(&buffers, spare));
        let mut fed = 0;
        while let Some(buffer) = read.recv().await {
            if to.write_all(&buffer).await.is_err() {
                return Err(FeedingError::Incomplete { fed, length });
            }
            fed += buffer.len() as u64;
            // Dropped only if enough buffers are spare, or nothing is left to read.
            let _ = written.try_send(buffer);
        }
        match reading.await {
            Ok(Err(error)) => Err(FeedingError::Read(error)),
            Ok(Ok(())) if to.flush().await.is_err() || fed != length => {
                Err(FeedingError::Incomplete { fed, length })
            }
            Ok(Ok(())) => Ok(()),
            // The reading task never panics, and is not cancelled before the runtime ends.
            Err(_) => Err(FeedingError::Incomplete { fed, length }),
        }
    }

    /// Reuses buffers that have been written, if there are any: allocating pages for new ones costs more than copying.
    fn read_into(
        self,
        buffers: &mpsc::Sender<Vec<u8>>,
        mut spare: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), ContentError> {
        for piece in self.pieces {
            let mut send = |bytes: &[u8]| {
                let mut buffer = spare.try_recv().unwrap_or_default();
                buffer.clear();
                buffer.extend_from_slice(bytes);
                buffers.blocking_send(buffer).is_ok()
            };
            let continues = match piece {
                Piece::Bytes(bytes) => bytes.chunks(BUFFER_BYTES).all(send),
                Piece::Segment(segment) => segment.read(&mut send)?,
            };
            if !continues {
                break;
            }
        }
        Ok(())
    }
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Segment(segment) => segment.length,
        }
    }
}

/// Verifies the whole file against its BLAKE3. Blocks.
///
/// # Errors
///
/// The content is not what was staged, or cannot be read.
pub(crate) fn verify_whole(directory: &Path, manifest: &Manifest) -> Result<(), ContentError> {
    let mut hasher = blake3::Hasher::new();
    let mut take = |buffer: &[u8]| {
        hasher.update(buffer);
        true
    };
    for segment in segments(directory, manifest, 0, manifest.bytes) {
        segment.read(&mut take)?;
    }
    let found = hasher.finalize().to_hex();
    if found.as_str() == manifest.blake3 {
        return Ok(());
    }
    let what = format!("its BLAKE3 is {found}, expected {}", manifest.blake3);
    Err(ContentError::Changed { path: directory.join(&manifest.file), what })
}

fn verify_micro_batch(directory: &Path, batch: &MicroBatch) -> Result<(), ContentError> {
    let segment = segment_of(directory, batch);
    let mut hasher = Xxh3::new();
    segment.read(&mut |buffer: &[u8]| {
        hasher.update(buffer);
        true
    })?;
    let found = format!("{:016x}", hasher.digest());
    if found == batch.xxh3 {
        return Ok(());
    }
    Err(segment.changed(format!("XXH3 of micro-batch {} is {found}, expected {}", batch.index, batch.xxh3)))
}

/// Returns the elements in a micro-batch of a JSON array as an array of their own. A micro-batch ends with the comma
/// after its last element, and the last one with the closing bracket; white space may follow either.
fn json_elements(segment: ContentSegment, is_last: bool) -> Result<Vec<Piece>, ContentError> {
    let expected = if is_last { b']' } else { b',' };
    let elements = match last_non_whitespace(&segment)? {
        Some((byte, position)) if byte == expected => ContentSegment { length: position, ..segment },
        _ => {
            let what = format!("a micro-batch of a JSON array does not end with {:?}", char::from(expected));
            return Err(segment.changed(what));
        }
    };
    Ok(vec![Piece::Bytes(b"[".to_vec()), Piece::Segment(elements), Piece::Bytes(b"]".to_vec())])
}

/// Returns the last byte of the range that is not white space, and its position in the range.
fn last_non_whitespace(segment: &ContentSegment) -> Result<Option<(u8, u64)>, ContentError> {
    const STEP: u64 = 4096;
    let file = files::open(&segment.path)?;
    let mut end = segment.length;
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        let mut buffer = vec![0; (end - begin) as usize];
        let count = files::read_at(&file, &segment.path, &mut buffer, segment.offset + begin)?;
        let last = buffer[..count].iter().rposition(|byte| !byte.is_ascii_whitespace());
        if let Some(position) = last {
            return Ok(Some((buffer[position], begin + position as u64)));
        }
        end = begin;
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
