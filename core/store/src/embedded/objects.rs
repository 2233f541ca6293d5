//! Objects: one file each. A range is written at its offset and synced, and only then recorded in the database.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bson::RawDocumentBuf;
use bytes::Bytes;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_platform::files::{self, FileError};
use rusqlite::params;

use super::database::Open;
use super::failure::Failure;
use super::text::Encoded;
use super::{audit, check_name, documents, index};
use crate::key;
use crate::objects::{Extent, Object, file_document, first_chunk, object_id, within};
use crate::whole;

pub(super) fn put_chunks(
    open: &mut Open,
    bucket: &str,
    id: IngestionId,
    offset: u64,
    content: &[u8],
) -> Result<(), Failure> {
    first_chunk(offset).map_err(Failure::Refused)?;
    let path = path(open, bucket, id)?;
    let end = offset
        .checked_add(content.len() as u64)
        .ok_or_else(|| Failure::Refused("the object is too large".to_owned()))?;
    write_at(&path, offset, content)?;
    // Only what is on disk is recorded, and only what is recorded counts: the length alone would not show holes.
    let upsert = "INSERT INTO ranges VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET last = excluded.last";
    open.connection.execute(upsert, params![bucket, id.as_bytes(), offset, end])?;
    Ok(())
}

fn write_at(path: &Path, offset: u64, content: &[u8]) -> Result<(), FileError> {
    let error = |action| move |source| FileError { action, path: path.to_owned(), source };
    let directory = path.parent().unwrap_or(path);
    let is_new = !files::exists(path);
    if is_new {
        files::create_dir_all_durable(directory)?;
    }
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(error("open"))?;
    file.write_all_at(content, offset).map_err(error("write"))?;
    file.sync_all().map_err(error("sync"))?;
    if is_new { files::sync_dir(directory) } else { Ok(()) }
}

pub(super) fn commit(open: &mut Open, bucket: &str, object: &Object) -> Result<bool, Failure> {
    let path = path(open, bucket, object.id)?;
    let (covered, end) = extent(open, bucket, object.id)?;
    let length =
        if object.bytes == 0 { 0 } else { files::metadata(&path).map_or(0, |metadata| metadata.len()) };
    if covered != object.bytes || end != object.bytes || length < object.bytes {
        let found = covered.min(length);
        return Err(Failure::Incomplete { id: object.id, found, expected: object.bytes });
    }
    let document = file_document(object);
    let raw = RawDocumentBuf::try_from(&document).map_err(|error| Failure::Refused(error.to_string()))?;
    let transaction = open.transaction()?;
    let collection = files_of(bucket);
    let row = params![collection, key_of(object.id), Encoded::of(&raw, document.into())];
    let is_new = transaction.execute(documents::INSERT, row)? == 1;
    index::index_written(&transaction, &collection, 1)?;
    transaction.commit()?;
    Ok(is_new)
}

pub(super) fn extent_of(
    open: &mut Open,
    bucket: &str,
    id: IngestionId,
    range: &Range<u64>,
) -> Result<Extent, Failure> {
    let length = files::metadata(&path(open, bucket, id)?).map_or(0, |metadata| metadata.len());
    Ok(audit::extent(&synced_ranges(open, bucket, id)?, length, range))
}

/// Returns how many bytes have been synced, without counting any twice, and where the last of them ends.
fn extent(open: &Open, bucket: &str, id: IngestionId) -> Result<(u64, u64), Failure> {
    let (mut covered, mut end) = (0, 0);
    for (first, last) in synced_ranges(open, bucket, id)? {
        covered += last.saturating_sub(first.max(end));
        end = end.max(last);
    }
    Ok((covered, end))
}

/// Returns the start and end of the ranges that have been synced, ascending.
fn synced_ranges(open: &Open, bucket: &str, id: IngestionId) -> Result<Vec<(u64, u64)>, Failure> {
    let select = "SELECT first, last FROM ranges WHERE bucket = ?1 AND id = ?2 ORDER BY first";
    let mut select = open.connection.prepare_cached(select)?;
    let rows = select.query_map(params![bucket, id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn read(open: &mut Open, bucket: &str, id: IngestionId) -> Result<Option<Vec<u8>>, Failure> {
    let path = path(open, bucket, id)?;
    let Some(document) = documents::find_one(&open.connection, &files_of(bucket), &key_of(id))? else {
        return Ok(None);
    };
    let expected = whole(document.get("length"));
    let content = if expected == 0 { Vec::new() } else { files::read(&path)? };
    match content.len() as u64 {
        found if found == expected => Ok(Some(content)),
        found => Err(Failure::Incomplete { id, found, expected }),
    }
}

pub(super) fn read_range(
    open: &mut Open,
    bucket: &str,
    id: IngestionId,
    range: &Range<u64>,
) -> Result<Option<Bytes>, Failure> {
    let path = path(open, bucket, id)?;
    let Some(document) = documents::find_one(&open.connection, &files_of(bucket), &key_of(id))? else {
        return Ok(None);
    };
    let expected = whole(document.get("length"));
    let range = within(range, expected);
    if range.is_empty() {
        return Ok(Some(Bytes::new()));
    }
    let mut content = vec![0; (range.end - range.start) as usize];
    let file = match files::open(&path) {
        Err(error) if error.is_not_found() => return Err(Failure::Incomplete { id, found: 0, expected }),
        file => file?,
    };
    match file.read_exact_at(&mut content, range.start) {
        Ok(()) => Ok(Some(content.into())),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            let found = files::metadata(&path)?.len();
            Err(Failure::Incomplete { id, found, expected })
        }
        Err(source) => Err(FileError { action: "read", path, source }.into()),
    }
}

fn files_of(bucket: &str) -> String {
    format!("{bucket}.files")
}

fn key_of(id: IngestionId) -> Vec<u8> {
    key::encode(&object_id(id).into())
}

fn path(open: &Open, bucket: &str, id: IngestionId) -> Result<PathBuf, Failure> {
    check_name("bucket", bucket)?;
    Ok(open.objects.join(bucket).join(id.to_string()))
}
