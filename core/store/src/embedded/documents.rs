//! Documents: checked and encoded before the transaction, so that other processes wait only for the writing itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use bson::{Binary, Bson, Document, RawDocumentBuf};
use rusqlite::{Connection, OptionalExtension, Rows, params};

use super::super::version::{self, Version};
use super::super::{Merge, Order, Written, precheck};
use super::database::Open;
use super::failure::Failure;
use super::index;
use super::schema::Schema;
use super::text::{Encoded, Stored};
use crate::key;
use crate::select::key_of;

pub(super) const INSERT: &str = "INSERT INTO documents VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

pub(super) const PUT: &str =
    "INSERT INTO documents VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET document = excluded.document";

/// A document that has been checked and encoded.
pub(super) struct Prepared {
    position: usize,
    pub(super) id: Vec<u8>,
    raw: RawDocumentBuf,
    pub(super) encoded: Encoded,
}

pub(super) fn ensure_collection(
    open: &mut Open,
    collection: &str,
    schema: Option<&Document>,
) -> Result<(), Failure> {
    match schema {
        Some(schema) => {
            Schema::compile(schema)?;
            // Canonical, because 1 and 1.0 may be different in an enumeration.
            let text = Bson::Document(schema.clone()).into_canonical_extjson().to_string();
            let put =
                "INSERT INTO validators VALUES (?1, ?2) ON CONFLICT DO UPDATE SET schema = excluded.schema";
            open.connection.execute(put, params![collection, text])?;
        }
        None => {
            open.connection.execute("DELETE FROM validators WHERE collection = ?1", params![collection])?;
        }
    }
    Ok(())
}

pub(super) fn insert(
    open: &mut Open,
    collection: &str,
    documents: Vec<RawDocumentBuf>,
) -> Result<Written, Failure> {
    let mut written = Written::default();
    let prepared = prepare(open, collection, documents, &mut written)?;
    let count = prepared.len();
    let transaction = open.transaction()?;
    {
        let mut insert = transaction.prepare_cached(INSERT)?;
        for document in prepared {
            match insert.execute(params![collection, document.id, document.encoded])? {
                0 => written.duplicates.push(document.position),
                _ => written.stored += 1,
            }
        }
    }
    index::index_written(&transaction, collection, count)?;
    transaction.commit()?;
    Ok(written)
}

pub(super) fn replace_older(
    open: &mut Open,
    collection: &str,
    documents: Vec<RawDocumentBuf>,
) -> Result<Written, Failure> {
    let mut written = Written::default();
    let prepared = prepare(open, collection, documents, &mut written)?;
    let count = prepared.len();
    let transaction = open.transaction()?;
    {
        let mut find =
            transaction.prepare_cached("SELECT document FROM documents WHERE (collection, id) = (?1, ?2)")?;
        let mut put = transaction.prepare_cached(PUT)?;
        for document in prepared {
            let Some(version) = Version::of_batch(&document.raw) else {
                written.rejected.push((document.position, version::EXPECTED.to_owned()));
                continue;
            };
            let existing: Option<Stored> =
                find.query_row(params![collection, document.id], |row| row.get(0)).optional()?;
            if existing
                .and_then(|existing| version_of(&existing.0))
                .is_some_and(|existing| existing > version)
            {
                written.duplicates.push(document.position);
            } else {
                put.execute(params![collection, document.id, document.encoded])?;
                written.stored += 1;
            }
        }
    }
    index::index_written(&transaction, collection, count)?;
    transaction.commit()?;
    written.rejected.sort_unstable();
    Ok(written)
}

pub(super) fn put(open: &mut Open, collection: &str, document: &Document) -> Result<(), Failure> {
    let raw = RawDocumentBuf::try_from(document).map_err(|error| Failure::Refused(error.to_string()))?;
    let mut written = Written::default();
    let prepared = prepare(open, collection, vec![raw], &mut written)?;
    if let Some((_, reason)) = written.rejected.pop() {
        return Err(Failure::Refused(reason));
    }
    let transaction = open.transaction()?;
    for document in prepared {
        transaction.execute(PUT, params![collection, document.id, document.encoded])?;
    }
    index::index_written(&transaction, collection, 1)?;
    Ok(transaction.commit()?)
}

pub(super) fn find(
    open: &mut Open,
    collection: &str,
    filter: &Document,
    after: Option<&Bson>,
    limit: usize,
) -> Result<Vec<Document>, Failure> {
    let matches =
        |document: &Document| filter.iter().all(|(field, value)| field_equals(document, field, value));
    // Every key is greater than the empty one.
    let after = after.map(key::encode).unwrap_or_default();
    if let Some(id) = filter.get("_id") {
        let id = key::encode(id);
        let found = if id > after { find_one(&open.connection, collection, &id)? } else { None };
        return Ok(found.into_iter().filter(matches).take(limit).collect());
    }
    // Of one transaction: an index is complete only as of then.
    let transaction = open.connection.transaction()?;
    if let Some(index) = index::for_filter(&transaction, collection, filter)? {
        let mut select = transaction.prepare_cached(index::LOOKUP)?;
        let range = params![collection, index.number, index.key(filter), after];
        return first_matches(select.query(range)?, matches, limit);
    }
    // A document with this string has it in its text; most other documents need not be read.
    let text = filter.values().find_map(Bson::as_str).map(|text| serde_json::Value::from(text).to_string());
    let mut select = transaction.prepare_cached(
        "SELECT document FROM documents WHERE collection = ?1 AND id > ?3
         AND (?2 IS NULL OR typeof(document) = 'blob' OR instr(document, ?2) > 0) ORDER BY id",
    )?;
    first_matches(select.query(params![collection, text, after])?, matches, limit)
}

fn first_matches(
    mut rows: Rows<'_>,
    matches: impl Fn(&Document) -> bool,
    limit: usize,
) -> Result<Vec<Document>, Failure> {
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let Stored(document) = row.get(0)?;
        if matches(&document) {
            found.push(document);
        }
    }
    Ok(found)
}

pub(super) fn find_by_ids(open: &mut Open, collection: &str, ids: &[Bson]) -> Result<Vec<Document>, Failure> {
    // An id that is requested twice is found once.
    let keys: BTreeSet<Vec<u8>> = ids.iter().map(key::encode).collect();
    let found = keys.iter().map(|key| find_one(&open.connection, collection, key));
    found.filter_map(Result::transpose).collect()
}

/// Returns the document under a key; uses the primary key only.
pub(super) fn find_one(
    connection: &Connection,
    collection: &str,
    id: &[u8],
) -> Result<Option<Document>, Failure> {
    let select = "SELECT document FROM documents WHERE collection = ?1 AND id = ?2";
    let mut select = connection.prepare_cached(select)?;
    let found: Option<Stored> = select.query_row(params![collection, id], |row| row.get(0)).optional()?;
    Ok(found.map(|Stored(document)| document))
}

pub(super) fn find_ids(
    open: &mut Open,
    collection: &str,
    first: &Bson,
    end: &Bson,
    order: Order,
    limit: i64,
) -> Result<Vec<Document>, Failure> {
    let direction = match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    let mut select = open.connection.prepare_cached(&format!(
        "SELECT document FROM documents WHERE collection = ?1 AND id >= ?2 AND id < ?3
         ORDER BY id {direction} LIMIT ?4"
    ))?;
    let range = params![collection, key::encode(first), key::encode(end), limit];
    let found = select.query_map(range, |row| row.get(0))?;
    found.map(|row| Ok(row.map(|Stored(document)| document)?)).collect()
}

pub(super) fn merge(open: &mut Open, collection: &str, merges: &[Merge]) -> Result<(), Failure> {
    let transaction = open.transaction()?;
    {
        let mut find =
            transaction.prepare_cached("SELECT document FROM documents WHERE (collection, id) = (?1, ?2)")?;
        let mut put = transaction.prepare_cached(PUT)?;
        for merge in merges {
            let id = key::encode(&Binary::from(merge.id).into());
            let existing: Option<Stored> =
                find.query_row(params![collection, id], |row| row.get(0)).optional()?;
            let document = merge.apply(existing.map(|Stored(document)| document));
            let raw =
                RawDocumentBuf::try_from(&document).map_err(|error| Failure::Refused(error.to_string()))?;
            put.execute(params![collection, id, Encoded::of(&raw, document.into())])?;
        }
    }
    index::index_written(&transaction, collection, merges.len())?;
    Ok(transaction.commit()?)
}

/// Compares as MongoDB does: a missing field is null, and an array also equals each of its elements.
fn field_equals(document: &Document, field: &str, value: &Bson) -> bool {
    let expected = key_of(value);
    let existing = document.get(field).unwrap_or(&Bson::Null);
    key_of(existing) == expected
        || existing.as_array().is_some_and(|values| values.iter().any(|value| key_of(value) == expected))
}

pub(super) fn count(open: &mut Open, collection: &str) -> Result<u64, Failure> {
    let count = "SELECT count(*) FROM documents WHERE collection = ?1";
    Ok(open.connection.query_row(count, params![collection], |row| row.get(0))?)
}

pub(super) fn count_ids(open: &mut Open, collection: &str, first: &Bson, end: &Bson) -> Result<u64, Failure> {
    let count = "SELECT count(*) FROM documents WHERE collection = ?1 AND id >= ?2 AND id < ?3";
    let range = params![collection, key::encode(first), key::encode(end)];
    Ok(open.connection.query_row(count, range, |row| row.get(0))?)
}

/// Decodes and checks documents; those that are refused go to `written.rejected`.
pub(super) fn prepare(
    open: &mut Open,
    collection: &str,
    documents: Vec<RawDocumentBuf>,
    written: &mut Written,
) -> Result<Vec<Prepared>, Failure> {
    let schema = schema_of(open, collection)?;
    let mut prepared = Vec::with_capacity(documents.len());
    for (position, raw) in documents.into_iter().enumerate() {
        match prepare_one(position, raw, schema.as_deref()) {
            Ok(document) => prepared.push(document),
            Err(reason) => written.rejected.push((position, reason)),
        }
    }
    Ok(prepared)
}

fn prepare_one(position: usize, raw: RawDocumentBuf, schema: Option<&Schema>) -> Result<Prepared, String> {
    if let Some(reason) = precheck::refusal(&raw) {
        return Err(reason);
    }
    if let (Some(encoded), None, Ok(Some(id))) = (Encoded::of_large(&raw), schema, raw.get("_id")) {
        let id = Bson::try_from(id).map_err(|error| precheck::malformed(&error))?;
        return Ok(Prepared { position, id: key::encode(&id), raw, encoded });
    }
    let document = Document::try_from(raw.as_ref()).map_err(|error| precheck::malformed(&error))?;
    let id = key::encode(document.get("_id").unwrap_or(&Bson::Null));
    let document = Bson::Document(document);
    if let Some(schema) = schema {
        schema.check(&document).map_err(|violation| violation.to_string())?;
    }
    let encoded = Encoded::of(&raw, document);
    Ok(Prepared { position, id, raw, encoded })
}

/// Returns the current validator; another process may have changed it.
fn schema_of(open: &mut Open, collection: &str) -> Result<Option<Arc<Schema>>, Failure> {
    let select = "SELECT schema FROM validators WHERE collection = ?1";
    let text: Option<String> = open
        .connection
        .prepare_cached(select)?
        .query_row(params![collection], |row| row.get(0))
        .optional()?;
    let Some(text) = text else {
        return Ok(None);
    };
    if let Some((known, schema)) = open.schemas.get(collection)
        && *known == text
    {
        return Ok(Some(schema.clone()));
    }
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::Refused(format!("the validator is unreadable: {error}"));
    let fields: serde_json::Map<_, _> = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
    let document = Document::try_from(fields).map_err(|error| unreadable(&error))?;
    let schema = Arc::new(Schema::compile(&document)?);
    open.schemas.insert(collection.to_owned(), (text, schema.clone()));
    Ok(Some(schema))
}

pub(super) fn version_of(document: &Document) -> Option<Version> {
    Version::of(&RawDocumentBuf::try_from(document).ok()?)
}
