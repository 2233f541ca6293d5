//! Indexes: a table with the keys of some fields of each document.
//!
//! 1. Triggers of the database itself note each document that is written, so they do that for all writers: also for an
//!    earlier version of this program, and for `sqlite3`. They remove the keys of a document that is removed.
//! 2. A writer of this version indexes what it has written in the same transaction; what others have noted is left to
//!    readers.
//! 3. A reader uses an index only in a transaction in which nothing is noted, so the index that it sees misses nothing.

use std::collections::BTreeSet;

use bson::{Bson, Document};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::database::Open;
use super::documents;
use super::failure::Failure;
use super::text::Stored;
use crate::select::{key_of, path};

/// `fields` is a JSON array of paths. `built` is the last document that is indexed if the index is not `ready`. The key of an
/// entry consists of the exact keys of the fields, see [`crate::key`]; a change of these keys needs other tables. `unindexed`
/// has the documents that were written and are not indexed yet.
pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS indexes (
        number INTEGER PRIMARY KEY, collection TEXT NOT NULL, fields TEXT NOT NULL, state TEXT NOT NULL,
        built BLOB NOT NULL, UNIQUE (collection, fields)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS index_entries (
        number INTEGER NOT NULL, key BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (number, key, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS index_entries_by_id ON index_entries (number, id);
    CREATE TABLE IF NOT EXISTS unindexed (
        collection TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (collection, id)
    ) STRICT, WITHOUT ROWID;
";

/// Created with the first index.
const TRIGGERS: &str = "
    CREATE TRIGGER IF NOT EXISTS document_inserted AFTER INSERT ON documents
    WHEN EXISTS (SELECT 1 FROM indexes WHERE collection = NEW.collection) BEGIN
        INSERT INTO unindexed VALUES (NEW.collection, NEW.id) ON CONFLICT DO NOTHING;
    END;
    CREATE TRIGGER IF NOT EXISTS document_updated AFTER UPDATE ON documents
    WHEN EXISTS (SELECT 1 FROM indexes WHERE collection IN (OLD.collection, NEW.collection)) BEGIN
        INSERT INTO unindexed VALUES (OLD.collection, OLD.id) ON CONFLICT DO NOTHING;
        INSERT INTO unindexed VALUES (NEW.collection, NEW.id) ON CONFLICT DO NOTHING;
    END;
    CREATE TRIGGER IF NOT EXISTS document_removed AFTER DELETE ON documents
    WHEN EXISTS (SELECT 1 FROM indexes WHERE collection = OLD.collection) BEGIN
        DELETE FROM index_entries
        WHERE number IN (SELECT number FROM indexes WHERE collection = OLD.collection) AND id = OLD.id;
    END;
";

pub(super) const READY: &str = "ready";
const BUILDING: &str = "building";

/// A document has too many combinations of values: the index misses it, and cannot be used.
const UNUSABLE: &str = "unusable";

/// The most keys of one document, and the most bytes of them: arrays in several fields have a key for each combination.
const KEYS_MAX: usize = 10_000;
const KEY_BYTES_MAX: usize = 32 << 20;

/// What one transaction reads, so that others do not wait for long: some 20 ms.
const DOCUMENTS_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 << 20;

/// How much may still be read in a transaction.
#[derive(Debug)]
pub(super) struct Budget {
    documents: usize,
    bytes: usize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { documents: DOCUMENTS_MAX, bytes: BYTES_MAX }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.documents == 0 || self.bytes == 0
    }

    /// Reads a document.
    pub(super) fn read(&mut self, row: &Row<'_>, column: usize) -> Result<Document, Failure> {
        let value = row.get_ref(column)?;
        let bytes = value.as_bytes().map_or(0, <[u8]>::len);
        self.documents = self.documents.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        let Stored(document) = Stored::column_result(value).map_err(rusqlite::Error::from)?;
        Ok(document)
    }
}

/// An index of a collection.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) number: i64,
    pub(super) fields: Vec<String>,
}

/// Registers an index, so that all later writes are noted. Returns its fields in the form that identifies it; `None` if the
/// documents are in this order anyway.
pub(super) fn create(
    open: &mut Open,
    collection: &str,
    fields: &[String],
) -> Result<Option<String>, Failure> {
    if let Some(invalid) = fields.iter().find(|field| !path::is_valid(field)) {
        return Err(Failure::Refused(format!("invalid field {invalid:?} of an index")));
    }
    // All keys are followed by the id.
    let fields = match fields {
        [fields @ .., last] if last == "_id" => fields,
        fields => fields,
    };
    if fields.is_empty() {
        return Ok(None);
    }
    let fields = serde_json::Value::from(fields).to_string();
    if state_of(&open.connection, collection, &fields)?.is_none() {
        let transaction = open.transaction()?;
        transaction.execute_batch(TRIGGERS)?;
        let insert = "INSERT INTO indexes (collection, fields, state, built) VALUES (?1, ?2, ?3, x'')
                      ON CONFLICT DO NOTHING";
        transaction.execute(insert, params![collection, fields, BUILDING])?;
        transaction.commit()?;
    }
    Ok(Some(fields))
}

/// Indexes some of the documents that existed before the index; returns true if it is ready.
pub(super) fn build(open: &mut Open, collection: &str, fields: &str) -> Result<bool, Failure> {
    match state_of(&open.connection, collection, fields)?.as_deref() {
        Some(READY) => return Ok(true),
        Some(BUILDING) => {}
        Some(_) => {
            let reason = format!("a document has more than {KEYS_MAX} combinations of values in {fields}");
            return Err(Failure::Refused(reason));
        }
        None => return Err(Failure::Replaced),
    }
    let transaction = open.transaction()?;
    let select = "SELECT number, built FROM indexes WHERE collection = ?1 AND fields = ?2";
    let (number, mut built): (i64, Vec<u8>) =
        transaction.query_row(select, params![collection, fields], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let index = Index { number, fields: parsed(fields)? };
    let is_last = {
        let select = "SELECT id, document FROM documents WHERE collection = ?1 AND id > ?2 ORDER BY id";
        let mut select = transaction.prepare_cached(select)?;
        let mut rows = select.query(params![collection, built])?;
        let mut budget = Budget::new();
        loop {
            if budget.is_spent() {
                break false;
            }
            let Some(row) = rows.next()? else { break true };
            let document = budget.read(row, 1)?;
            let id = row.get(0)?;
            index_document(&transaction, &index, &id, Some(&document))?;
            built = id;
        }
    };
    // One that has become unusable stays so.
    let update = "UPDATE indexes SET built = ?1, state = iif(?2, ?3, state) WHERE number = ?4 AND state = ?5";
    transaction.execute(update, params![built, is_last, READY, number, BUILDING])?;
    transaction.commit()?;
    Ok(false)
}

fn state_of(connection: &Connection, collection: &str, fields: &str) -> Result<Option<String>, Failure> {
    let select = "SELECT state FROM indexes WHERE collection = ?1 AND fields = ?2";
    let mut select = connection.prepare_cached(select)?;
    Ok(select.query_row(params![collection, fields], |row| row.get(0)).optional()?)
}

/// Returns the indexes of a collection in this state.
pub(super) fn indexes(connection: &Connection, collection: &str, state: &str) -> Result<Vec<Index>, Failure> {
    let select = "SELECT number, fields FROM indexes WHERE collection = ?1 AND state = ?2";
    let mut select = connection.prepare_cached(select)?;
    let rows = select.query_map(params![collection, state], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let parse = |row| {
        let (number, fields): (i64, String) = row?;
        Ok(Index { number, fields: parsed(&fields)? })
    };
    rows.map(parse).collect()
}

fn parsed(fields: &str) -> Result<Vec<String>, Failure> {
    serde_json::from_str(fields).map_err(|error| Failure::Refused(format!("an index is unreadable: {error}")))
}

/// Returns the index that narrows a selection by these fields down most, in this order; its other fields are of the filter.
pub(super) fn for_order(
    connection: &Connection,
    collection: &str,
    filter: impl Fn(&str) -> bool,
    order_by: &str,
) -> Result<Option<Index>, Failure> {
    let serves = |index: &Index| match index.fields.split_last() {
        Some((last, others)) => last == order_by && others.iter().all(|field| filter(field)),
        None => false,
    };
    let usable = indexes(connection, collection, READY)?.into_iter().filter(serves);
    Ok(usable.max_by_key(|index| index.fields.len()))
}

/// Returns the index that narrows a lookup down most: all its fields are of the filter. `None` also if it is not complete.
pub(super) fn for_filter(
    connection: &Connection,
    collection: &str,
    filter: &Document,
) -> Result<Option<Index>, Failure> {
    // A lookup does not take a name for a path.
    let serves =
        |index: &Index| index.fields.iter().all(|field| !field.contains('.') && filter.contains_key(field));
    let usable = indexes(connection, collection, READY)?.into_iter().filter(serves);
    match usable.max_by_key(|index| index.fields.len()) {
        Some(index) if is_complete(connection, collection, &index)? => Ok(Some(index)),
        _ => Ok(None),
    }
}

/// Returns whether the index has everything that has been written, as of the transaction.
pub(super) fn is_complete(connection: &Connection, collection: &str, index: &Index) -> Result<bool, Failure> {
    let select = "SELECT EXISTS (SELECT 1 FROM indexes WHERE number = ?1 AND collection = ?2 AND state = ?3)
                  AND NOT EXISTS (SELECT 1 FROM unindexed WHERE collection = ?2)";
    let mut select = connection.prepare_cached(select)?;
    Ok(select.query_row(params![index.number, collection, READY], |row| row.get(0))?)
}

/// Indexes what has been written, at most `limit` documents and some of those that others have noted before.
pub(super) fn index_written(
    transaction: &Transaction<'_>,
    collection: &str,
    limit: usize,
) -> Result<(), Failure> {
    let mut indexes = indexes(transaction, collection, READY)?;
    indexes.extend(self::indexes(transaction, collection, BUILDING)?);
    let select = "SELECT id FROM unindexed WHERE collection = ?1 LIMIT ?2";
    let mut select = transaction.prepare_cached(select)?;
    let noted =
        select.query_map(params![collection, limit.saturating_add(DOCUMENTS_MAX)], |row| row.get(0))?;
    let noted: Vec<Vec<u8>> = noted.collect::<Result<_, _>>()?;
    let mut done = transaction.prepare_cached("DELETE FROM unindexed WHERE collection = ?1 AND id = ?2")?;
    for id in noted {
        let document = documents::find_one(transaction, collection, &id)?;
        for index in &indexes {
            index_document(transaction, index, &id, document.as_ref())?;
        }
        done.execute(params![collection, id])?;
    }
    Ok(())
}

/// Replaces the keys of a document; `None` if it has been removed.
fn index_document(
    transaction: &Transaction<'_>,
    index: &Index,
    id: &Vec<u8>,
    document: Option<&Document>,
) -> Result<(), Failure> {
    let remove = "DELETE FROM index_entries WHERE number = ?1 AND id = ?2";
    transaction.prepare_cached(remove)?.execute(params![index.number, id])?;
    let Some(document) = document else { return Ok(()) };
    let Some(keys) = keys(&index.fields, document) else {
        let update = "UPDATE indexes SET state = ?1 WHERE number = ?2";
        transaction.execute(update, params![UNUSABLE, index.number])?;
        return Ok(());
    };
    let mut insert = transaction.prepare_cached("INSERT INTO index_entries VALUES (?1, ?2, ?3)")?;
    for key in keys {
        insert.execute(params![index.number, key, id])?;
    }
    Ok(())
}

/// Returns all keys under which a filter by these fields may look for the document; `None` if there are too many.
fn keys(fields: &[String], document: &Document) -> Option<BTreeSet<Vec<u8>>> {
    let mut keys = BTreeSet::from([Vec::new()]);
    for field in fields {
        let mut values = BTreeSet::new();
        path::each_value(document, field, &mut |value| {
            values.insert(key_of(value));
        });
        let bytes = |keys: &BTreeSet<Vec<u8>>| keys.iter().map(Vec::len).sum::<usize>();
        let total = keys.len() * bytes(&values) + values.len() * bytes(&keys);
        if keys.len() * values.len() > KEYS_MAX || total > KEY_BYTES_MAX {
            return None;
        }
        keys = keys
            .iter()
            .flat_map(|key| values.iter().map(move |value| [&key[..], &value[..]].concat()))
            .collect();
    }
    Some(keys)
}

/// Returns the documents whose fields have the values of `filter`, in the order of their ids, from the first one after `after`.
pub(super) const LOOKUP: &str = "
    SELECT document FROM index_entries AS entry
    CROSS JOIN documents ON documents.collection = ?1 AND documents.id = entry.id
    WHERE entry.number = ?2 AND entry.key = ?3 AND entry.id > ?4 ORDER BY entry.id";

impl Index {
    /// Returns the key of documents with the values of `filter`, which has all fields of the index.
    pub(super) fn key(&self, filter: &Document) -> Vec<u8> {
        self.fields.iter().flat_map(|field| key_of(filter.get(field).unwrap_or(&Bson::Null))).collect()
    }
}
