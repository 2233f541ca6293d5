//! Counts what an app reports as stored.

use std::collections::BTreeMap;
use std::ops::Range;

use bson::{Bson, Document};
use rusqlite::{OptionalExtension, params};

use super::database::Open;
use super::failure::Failure;
use super::text::Stored;
use crate::Extent;
use crate::key;
use crate::objects::chunks_of;

pub(super) fn missing_ids(open: &mut Open, collection: &str, ids: &[Bson]) -> Result<Vec<usize>, Failure> {
    let select = "SELECT 1 FROM documents WHERE collection = ?1 AND id = ?2";
    let mut select = open.connection.prepare_cached(select)?;
    let mut missing = Vec::new();
    for (position, id) in ids.iter().enumerate() {
        let found: Option<i64> =
            select.query_row(params![collection, key::encode(id)], |row| row.get(0)).optional()?;
        if found.is_none() {
            missing.push(position);
        }
    }
    Ok(missing)
}

pub(super) fn count_by(
    open: &mut Open,
    collection: &str,
    field: &str,
    values: &[String],
) -> Result<BTreeMap<String, u64>, Failure> {
    let mut select =
        open.connection.prepare_cached("SELECT document FROM documents WHERE collection = ?1")?;
    let mut rows = select.query(params![collection])?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let Stored(document) = row.get(0)?;
        if let Some(Bson::String(text)) = field_at(&document, field)
            && values.contains(text)
        {
            *counts.entry(text.clone()).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

fn field_at<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    match path.split_once('.') {
        None => document.get(path),
        Some((field, remainder)) => field_at(document.get_document(field).ok()?, remainder),
    }
}

/// `synced` are the ranges that have been synced, ascending by start; `length` is the length of the file.
///
/// The embedded store has no chunks, so this counts what would be chunks in GridFS.
pub(super) fn extent(synced: &[(u64, u64)], length: u64, range: &Range<u64>) -> Extent {
    let mut extent = Extent::default();
    let (mut end, mut chunk_end) = (range.start, 0);
    for &(first, last) in synced {
        let part = first.max(end)..last.min(range.end).min(length);
        if part.is_empty() {
            continue;
        }
        let chunks = chunks_of(&part);
        extent.bytes += part.end - part.start;
        extent.chunks += chunks.end - chunks.start.max(chunk_end).min(chunks.end);
        (end, chunk_end) = (part.end, chunks.end);
    }
    extent
}

#[cfg(test)]
mod tests {
    use super::super::super::CHUNK_BYTES;
    use super::*;

    #[test]
    fn ranges_synced_twice_count_once_and_missing_bytes_do_not_count() {
        let chunk = u64::from(CHUNK_BYTES);
        let synced = [(0, 2 * chunk), (chunk, 2 * chunk), (3 * chunk, 3 * chunk + 5)];
        let of = |length, range: Range<u64>| {
            let Extent { chunks, bytes } = extent(&synced, length, &range);
            (chunks, bytes)
        };
        let end = 3 * chunk + 5;
        assert_eq!(of(end, 0..end), (3, 2 * chunk + 5));
        assert_eq!(of(end, chunk..3 * chunk), (1, chunk));
        assert_eq!(of(chunk + 1, 0..end), (2, chunk + 1));
        assert_eq!(of(end, 2 * chunk..3 * chunk), (0, 0));
        assert_eq!(of(0, 0..0), (0, 0));
    }
}
