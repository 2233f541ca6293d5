//! Stores the bytes of a unit as chunks of an object.

use std::io::Read;

use bytes::{Bytes, BytesMut};
use mysimbdp_sdk::batch::Unit;
use mysimbdp_sdk::coredms::{CHUNK_BYTES, CoredmsError};
use mysimbdp_sdk::{Failure, IngestionId};
use tokio::task::JoinSet;

/// Bytes per write: 8 chunks, which fill a message to the store well and keep memory use low.
const PIECE_BYTES: usize = 8 * CHUNK_BYTES as usize;

/// Concurrent writes: while one waits for the journal, the store processes another and a third one is being sent. Four are not
/// faster, and neither are two of twice the size, which take more memory.
const WRITERS: usize = 3;

/// Stores all bytes of the unit, starting at `offset` in the object.
///
/// # Errors
///
/// [`Failure::Config`] if the unit is not aligned to chunks, as is the case for a micro-batch; failures of the store.
pub(crate) fn upload(unit: &mut Unit<'_>, id: IngestionId, offset: u64) -> Result<(), Failure> {
    let length = unit.header.length;
    let ends_file = offset.checked_add(length) == Some(unit.header.file_bytes);
    let is_aligned = |position: u64| position.is_multiple_of(u64::from(CHUNK_BYTES));
    if !is_aligned(offset) || !(ends_file || is_aligned(length)) {
        return Err(Failure::Config(format!(
            "unit of {length} bytes at {offset} does not consist of whole chunks: object-app needs unit \"file\" or \"range\""
        )));
    }
    let mut writing = JoinSet::new();
    let mut position = offset;
    // The buffer of a written piece, for reuse: the pages of a new buffer cost more than the bytes.
    let mut spare = BytesMut::new();
    while unit.input.left() > 0 {
        let piece = read_piece(unit, spare)?;
        spare = if writing.len() < WRITERS { BytesMut::new() } else { wait_for_one(unit, &mut writing)? };
        let next = position + piece.len() as u64;
        let coredms = unit.store.coredms.clone();
        let bucket = unit.settings.collection.clone();
        let write = async move {
            coredms.put_chunks(&bucket, id, position, piece.clone()).await?;
            Ok(piece.try_into_mut().unwrap_or_default())
        };
        writing.spawn_on(write, unit.store.handle());
        position = next;
    }
    while !writing.is_empty() {
        wait_for_one(unit, &mut writing)?;
    }
    Ok(())
}

/// Reads the next piece into `buffer`; the last piece may be shorter.
fn read_piece(unit: &mut Unit<'_>, mut buffer: BytesMut) -> Result<Bytes, Failure> {
    let bytes = usize::try_from(unit.input.left()).unwrap_or(usize::MAX).min(PIECE_BYTES);
    buffer.resize(bytes, 0);
    unit.input.read_exact(&mut buffer)?;
    Ok(buffer.freeze())
}

/// Waits for a piece to be written, and returns its buffer.
fn wait_for_one(
    unit: &Unit<'_>,
    writing: &mut JoinSet<Result<BytesMut, CoredmsError>>,
) -> Result<BytesMut, Failure> {
    let Some(ended) = unit.store.block_on(writing.join_next()) else { return Ok(BytesMut::new()) };
    Ok(ended.map_err(|error| Failure::Internal(format!("writer failed: {error}")))??)
}
