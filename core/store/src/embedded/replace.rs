//! Documents that a later run replaces or removes.

use std::collections::BTreeSet;

use bson::{Binary, Bson, RawDocumentBuf};
use mysimbdp_model::ingestion::RecordId;
use rusqlite::{Transaction, params};

use super::super::{EarlierRuns, Removal, Written};
use super::database::Open;
use super::documents::{self, version_of};
use super::failure::Failure;
use super::index;
use super::text::Stored;
use crate::{key, precheck};

pub(super) fn replace(
    open: &mut Open,
    collection: &str,
    documents: Vec<RawDocumentBuf>,
) -> Result<Written, Failure> {
    let mut written = Written::default();
    let prepared = documents::prepare(open, collection, documents, &mut written)?;
    let count = prepared.len();
    let transaction = open.transaction()?;
    {
        let mut put = transaction.prepare_cached(documents::PUT)?;
        for document in prepared {
            put.execute(params![collection, document.id, document.encoded])?;
            written.stored += 1;
        }
    }
    index::index_written(&transaction, collection, count)?;
    transaction.commit()?;
    Ok(written)
}

pub(super) fn remove(open: &mut Open, collection: &str, removal: &Removal) -> Result<u64, Failure> {
    let transaction = open.transaction()?;
    let removed = match removal {
        Removal::ByIds(ids) => remove_keys(&transaction, collection, ids.iter().map(key_of))?,
        Removal::ByAnyIds(ids) => {
            let ids = ids.iter().filter(|id| precheck::can_identify(id));
            remove_keys(&transaction, collection, ids.map(key::encode))?
        }
        Removal::Between { first, end, except } => {
            let (first, end) = (key_of(first), key_of(end));
            let kept: BTreeSet<Vec<u8>> =
                except.iter().map(key_of).filter(|key| (&first..&end).contains(&key)).collect();
            remove_between(&transaction, collection, (first, end), kept)?
        }
        Removal::OfRuns(runs) => {
            let keys = keys_of_runs(&transaction, collection, *runs)?;
            remove_keys(&transaction, collection, keys.into_iter())?
        }
    };
    transaction.commit()?;
    Ok(removed as u64)
}

fn key_of(id: &RecordId) -> Vec<u8> {
    key::encode(&Binary::from(*id).into())
}

fn remove_keys(
    transaction: &Transaction<'_>,
    collection: &str,
    keys: impl Iterator<Item = Vec<u8>>,
) -> Result<usize, Failure> {
    let mut delete = transaction.prepare_cached("DELETE FROM documents WHERE (collection, id) = (?1, ?2)")?;
    let mut removed = 0;
    for key in keys {
        removed += delete.execute(params![collection, key])?;
    }
    Ok(removed)
}

/// Removes the keys of a range, except those that are kept: everything between two kept keys at once.
fn remove_between(
    transaction: &Transaction<'_>,
    collection: &str,
    (mut first, end): (Vec<u8>, Vec<u8>),
    kept: BTreeSet<Vec<u8>>,
) -> Result<usize, Failure> {
    let delete = "DELETE FROM documents WHERE collection = ?1 AND id >= ?2 AND id < ?3";
    let mut delete = transaction.prepare_cached(delete)?;
    let mut removed = 0;
    for mut key in kept {
        removed += delete.execute(params![collection, first, key])?;
        // The smallest key after it.
        key.push(0);
        first = key;
    }
    Ok(removed + delete.execute(params![collection, first, end])?)
}

/// Returns all keys that were last written by these runs. Their number is bounded, as they are of one content.
fn keys_of_runs(
    transaction: &Transaction<'_>,
    collection: &str,
    runs: EarlierRuns,
) -> Result<Vec<Vec<u8>>, Failure> {
    // Most other documents do not have the ingestion in their text, so they need not be read.
    let mut select = transaction.prepare_cached(
        "SELECT id, document FROM documents
         WHERE collection = ?1 AND (typeof(document) = 'blob' OR instr(document, ?2) > 0)",
    )?;
    let mut rows = select.query(params![collection, runs.ingestion.to_string()])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let Stored(document) = row.get(1)?;
        if version_of(&document).is_some_and(|version| runs.wrote(&version)) {
            keys.push(row.get(0)?);
        }
    }
    Ok(keys)
}

pub(super) fn count_written_by(
    open: &mut Open,
    collection: &str,
    ids: &[Bson],
    runs: EarlierRuns,
) -> Result<u64, Failure> {
    let found = documents::find_by_ids(open, collection, ids)?;
    let wrote = found.iter().filter_map(version_of).filter(|version| runs.wrote(version));
    Ok(wrote.count() as u64)
}
