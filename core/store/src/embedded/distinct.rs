//! The values of a field, by an index that begins with it: one lookup for each value.

use std::collections::BTreeMap;
use std::ops::Bound;

use bson::Bson;
use rusqlite::{OptionalExtension, Transaction, params};

use super::database::Open;
use super::failure::Failure;
use super::index::{self, Index};
use super::text::Stored;
use crate::key;
use crate::select::{is_ordered, key_of, path};

/// How many lookups one job makes, so that others do not wait for long.
const LOOKUPS_MAX: usize = 1_000;

/// Finds the values that follow a position.
pub(super) struct Search {
    collection: String,
    field: String,
    /// The least key that is found.
    from: Vec<u8>,
    /// The first key beyond the type.
    end: Vec<u8>,
    limit: usize,
}

impl Search {
    pub(super) fn new(collection: &str, field: &str, from: &Bound<Bson>, limit: usize) -> Self {
        let (least, rank) = match from {
            Bound::Included(value) => (key_of(value), key::rank(value)),
            Bound::Excluded(value) => (after(key_of(value)), key::rank(value)),
            Bound::Unbounded => (Vec::new(), u8::MAX - 1),
        };
        Self {
            collection: collection.to_owned(),
            field: field.to_owned(),
            from: least,
            end: vec![rank + 1],
            limit,
        }
    }

    /// Returns values in order, and the search for those that follow, if there may be some.
    pub(super) fn run(mut self, open: &mut Open) -> Result<(Vec<Bson>, Option<Self>), Failure> {
        let indexes = index::indexes(&open.connection, &self.collection, index::READY)?;
        let begins = |index: &Index| index.fields.first() == Some(&self.field);
        if let Some(index) = indexes.into_iter().find(begins) {
            let transaction = open.transaction()?;
            index::index_written(&transaction, &self.collection, 0)?;
            if index::is_complete(&transaction, &self.collection, &index)? {
                let found = self.by_index(&transaction, &index)?;
                transaction.commit()?;
                return Ok((found.0, found.1.then_some(self)));
            }
            transaction.commit()?;
        }
        Ok((self.by_scan(open)?, None))
    }

    fn by_index(
        &mut self,
        transaction: &Transaction<'_>,
        index: &Index,
    ) -> Result<(Vec<Bson>, bool), Failure> {
        let select = "SELECT entry.key, document FROM index_entries AS entry
             CROSS JOIN documents ON documents.collection = ?1 AND documents.id = entry.id
             WHERE entry.number = ?2 AND entry.key >= ?3 AND entry.key < ?4 ORDER BY entry.key LIMIT 1";
        let mut select = transaction.prepare_cached(select)?;
        let mut found = Vec::new();
        for _ in 0..LOOKUPS_MAX.min(self.limit) {
            let range = params![self.collection, index.number, self.from, self.end];
            let entry = select.query_row(range, |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)));
            let Some((entry, Stored(document))) = entry.optional()? else { return Ok((found, false)) };
            let value = path::value(&document, &self.field).filter(|value| is_ordered(value));
            match value.map(|value| (value, key_of(value))) {
                Some((value, key)) if entry.starts_with(&key) => {
                    found.push(value.clone());
                    self.from = after(key);
                }
                // An entry for an element of an array.
                _ => self.from = [&entry, &[0][..]].concat(),
            }
        }
        self.limit -= found.len();
        Ok((found, self.limit > 0))
    }

    fn by_scan(&self, open: &Open) -> Result<Vec<Bson>, Failure> {
        let mut select =
            open.connection.prepare_cached("SELECT document FROM documents WHERE collection = ?1")?;
        let mut rows = select.query(params![self.collection])?;
        let mut found = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let Stored(document) = row.get(0)?;
            let Some(value) = path::value(&document, &self.field).filter(|value| is_ordered(value)) else {
                continue;
            };
            let key = key_of(value);
            if (&self.from..&self.end).contains(&&key) {
                found.entry(key).or_insert_with(|| value.clone());
                if found.len() > self.limit {
                    found.pop_last();
                }
            }
        }
        Ok(found.into_values().collect())
    }
}

/// The least key that does not begin with this one, and is greater.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    while let Some(last) = key.pop() {
        if last < u8::MAX {
            key.push(last + 1);
            break;
        }
    }
    key
}
