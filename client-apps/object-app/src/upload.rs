//! The bytes of a unit as chunks of an object.

use std::io::Read;

use bytes::Bytes;
use mysimbdp_sdk::batch::Unit;
use mysimbdp_sdk::coredms::{CHUNK_BYTES, CoredmsError};
use mysimbdp_sdk::{Failure, IngestionId};
use tokio::task::JoinSet;

/// Bytes of one write: 16 chunks, which fill a message to the store well and keep memory small.
const PIECE_BYTES: u64 = 16 * CHUNK_BYTES as u64;

/// Chunks are inserted twice as fast by two writers as by one.
const WRITERS: usize = 2;

/// Stores all bytes of the unit, the first of which is at `offset` of the object.
///
/// # Errors
///
/// [`Failure::Config`] where the unit does not lie on chunk boundaries, as a micro-batch does not; failures of the store.
pub(crate) fn upload(unit: &mut Unit<'_>, id: IngestionId, offset: u64) -> Result<(), Failure> {
    let length = unit.header.length;
    let ends_file = offset.checked_add(length) == Some(unit.header.file_bytes);
    let is_aligned = |place: u64| place.is_multiple_of(u64::from(CHUNK_BYTES));
    if !is_aligned(offset) || !(ends_file || is_aligned(length)) {
        return Err(Failure::Config(format!(
            "unit of {length} bytes at {offset} is not made of chunks: object-app needs unit \"file\" or \"range\""
        )));
    }
    let mut writing = JoinSet::new();
    let mut place = offset;
    loop {
        let mut piece = Vec::new();
        (&mut unit.input).take(PIECE_BYTES).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        while writing.len() >= WRITERS {
            settle_one(unit, &mut writing)?;
        }
        let next = place + piece.len() as u64;
        let coredms = unit.store.coredms.clone();
        let bucket = unit.settings.collection.clone();
        let write = async move { coredms.put_chunks(&bucket, id, place, Bytes::from(piece)).await };
        writing.spawn_on(write, unit.store.handle());
        place = next;
    }
    while !writing.is_empty() {
        settle_one(unit, &mut writing)?;
    }
    Ok(())
}

fn settle_one(unit: &Unit<'_>, writing: &mut JoinSet<Result<(), CoredmsError>>) -> Result<(), Failure> {
    let Some(ended) = unit.store.block_on(writing.join_next()) else { return Ok(()) };
    Ok(ended.map_err(|error| Failure::Fault(format!("writer failed: {error}")))??)
}
