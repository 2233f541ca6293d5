//! Selections: one `find` in the order of a field and of `_id`, read through a cursor.
//!
//! What follows a position is several ranges of the index: the same value with a later `_id`, later values, and, without
//! bounds, the types after that of the value. Each is a branch of an `$or`, which the server reads from the index in
//! order, and merges: it examines what it returns, even if thousands of documents share one value.

use std::ops::Bound;
use std::time::Duration;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::error::Error;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};

use super::{MongoStore, SCAN_SECONDS, failure, no_answer};
use crate::select::{Selected, Selection, is_ordered, path};
use crate::{CoredmsError, Order, key};

const SELECT: &str = "select documents";

/// How many documents the server sends at a time, unless they fill the 16 MiB of a message before.
const BATCH: u32 = 1_000;

/// The types of values that have a position in the order, in this order, with their ranks in [`key`].
const ORDERED_TYPES: [(u8, &[&str]); 8] = [
    (4, &["number"]),
    (5, &["string", "symbol"]),
    (6, &["object"]),
    (8, &["binData"]),
    (9, &["objectId"]),
    (10, &["bool"]),
    (11, &["date"]),
    (12, &["timestamp"]),
];

/// The same for all types that an `_id` can have.
const ID_TYPES: [(u8, &[&str]); 14] = [
    (1, &["minKey"]),
    (3, &["null"]),
    (4, &["number"]),
    (5, &["string", "symbol"]),
    (6, &["object"]),
    (8, &["binData"]),
    (9, &["objectId"]),
    (10, &["bool"]),
    (11, &["date"]),
    (12, &["timestamp"]),
    (14, &["dbPointer"]),
    (15, &["javascript"]),
    (16, &["javascriptWithScope"]),
    (17, &["maxKey"]),
];

pub(super) async fn select(
    store: &MongoStore,
    collection: &str,
    selection: &Selection,
) -> Result<Selected, CoredmsError> {
    if let Some(reason) = selection.refusal() {
        return Err(store.refused(SELECT, reason));
    }
    // For the server 0 would mean all.
    if selection.limit == Some(0) {
        return Ok(stream::empty().boxed());
    }
    // Raw: decoding through serde would take a field such as `$date` for a date.
    let documents = store.collection::<RawDocumentBuf>(collection);
    let mut find = documents
        .find(filter(selection))
        .sort(sort(selection))
        .batch_size(batch(selection))
        .allow_disk_use(true);
    if let Some(limit) = selection.limit {
        find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX));
    }
    if let Some(paths) = selection.projected() {
        let mut projection = doc! { "_id": 1 };
        projection.extend(paths.into_iter().map(|path| (path.to_owned(), 1.into())));
        find = find.projection(projection);
    }
    let cursor = store.scan(SELECT, find.batch()).await?;
    Ok(read(cursor, store.address.clone()))
}

/// The server answers by one lookup in the index for each value, unless the index has arrays.
pub(super) async fn distinct(
    store: &MongoStore,
    collection: &str,
    field: &str,
    from: Bound<Bson>,
    limit: usize,
) -> Result<Vec<Bson>, CoredmsError> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let compared = match from {
        Bound::Included(value) => doc! { "$gte": value },
        Bound::Excluded(value) => doc! { "$gt": value },
        Bound::Unbounded => doc! { "$exists": true },
    };
    let pipeline = [
        doc! { "$match": { field: compared.clone() } },
        doc! { "$group": { "_id": format!("${field}") } },
        doc! { "$match": { "_id": compared, "$nor": [{ "_id": { "$type": "array" } }] } },
        doc! { "$sort": { "_id": 1 } },
        doc! { "$limit": i64::try_from(limit).unwrap_or(i64::MAX) },
    ];
    let documents = store.collection::<Document>(collection);
    let values = async { documents.aggregate(pipeline).await?.try_collect::<Vec<_>>().await };
    let values = store.scan("list the values of a field", values).await?;
    Ok(values.into_iter().filter_map(|mut value| value.remove("_id")).filter(is_ordered).collect())
}

/// Each wait for the server has a timeout: it may read the whole collection before it finds the next document.
fn read(cursor: RawBatchCursor, address: String) -> Selected {
    let batches = stream::try_unfold((cursor, address), |(mut cursor, address)| async move {
        let time = Duration::from_secs(SCAN_SECONDS);
        let batch = match tokio::time::timeout(time, cursor.next()).await {
            Ok(Some(batch)) => batch.and_then(|batch| {
                Ok(documents_of(&batch)?.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>())
            }),
            Ok(None) => return Ok(None),
            Err(_) => return Err(no_answer(&address, SELECT, time)),
        };
        let documents = batch.map_err(|error| failure::classify(&address, SELECT, error))?;
        Ok(Some((stream::iter(documents.into_iter().map(Ok)), (cursor, address))))
    });
    batches.try_flatten().boxed()
}

/// Returns the documents of a batch without decoding them.
pub(super) fn documents_of(batch: &RawBatch) -> Result<Vec<&RawDocument>, Error> {
    let mut documents = Vec::new();
    for value in batch.doc_slices()? {
        let other = || Error::custom("a batch contains something other than documents");
        documents.push(value?.as_document().ok_or_else(other)?);
    }
    Ok(documents)
}

fn batch(selection: &Selection) -> u32 {
    // For the server 0 would mean none.
    selection.read_ahead.map_or(BATCH, |documents| documents.clamp(1, BATCH))
}

fn sort(selection: &Selection) -> Document {
    let direction = match selection.order {
        Order::Ascending => 1,
        Order::Descending => -1,
    };
    let mut sort = doc! { &*selection.order_by: direction };
    // The server refuses the same field twice.
    if selection.order_by != "_id" {
        sort.insert("_id", direction);
    }
    sort
}

fn filter(selection: &Selection) -> Document {
    let mut branches = branches(selection);
    for branch in &mut branches {
        let arrays = path::steps(&selection.order_by).map(|step| doc! { step: { "$type": "array" } });
        branch.insert("$nor", arrays.collect::<Vec<_>>());
    }
    match <[Document; 1]>::try_from(branches) {
        Ok([branch]) => branch,
        Err(branches) => doc! { "$or": branches },
    }
}

/// Returns the ranges of the index that are selected, each with the whole filter.
fn branches(selection: &Selection) -> Vec<Document> {
    let field = &*selection.order_by;
    let compared = comparisons(selection);
    let Some(after) = &selection.after else {
        return vec![branch(selection, [(field, compared)])];
    };
    if field == "_id" {
        let beyond = beyond(&after.id, selection.order, &ORDERED_TYPES, has_bounds(selection));
        return beyond
            .into_iter()
            .map(|beyond| branch(selection, [(field, both(&compared, beyond))]))
            .collect();
    }
    let same = both(&compared, doc! { "$eq": &after.value });
    let later_ids = beyond(&after.id, selection.order, &ID_TYPES, false);
    let later_ids =
        later_ids.into_iter().map(|beyond| branch(selection, [(field, same.clone()), ("_id", beyond)]));
    let later = beyond(&after.value, selection.order, &ORDERED_TYPES, has_bounds(selection));
    let later = later.into_iter().map(|beyond| branch(selection, [(field, both(&compared, beyond))]));
    later_ids.chain(later).collect()
}

fn has_bounds(selection: &Selection) -> bool {
    selection.from.is_some() || selection.until.is_some()
}

/// Returns the conditions on the field that hold for everything that is selected.
fn comparisons(selection: &Selection) -> Document {
    let mut conditions = Document::new();
    if !has_bounds(selection) && selection.after.is_none() {
        conditions.insert("$type", type_names(&ORDERED_TYPES));
    }
    if let Some(from) = &selection.from {
        conditions.insert("$gte", from);
    }
    if let Some(until) = &selection.until {
        conditions.insert("$lt", until);
    }
    conditions.insert("$ne", f64::NAN);
    conditions
}

fn both(one: &Document, other: Document) -> Document {
    let mut both = one.clone();
    both.extend(other);
    both
}

/// Returns the conditions, one of which each value after `value` meets. A comparison finds only values of the same type.
fn beyond(value: &Bson, order: Order, types: &[(u8, &[&str])], same_type_only: bool) -> Vec<Document> {
    let rank = key::rank(value);
    let (operator, others): (_, Vec<_>) = match order {
        Order::Ascending => ("$gt", types.iter().filter(|(other, _)| *other > rank).collect()),
        Order::Descending => ("$lt", types.iter().filter(|(other, _)| *other < rank).collect()),
    };
    // A comparison with null finds nothing, but the server would have to examine all documents to know that.
    let mut beyond = if is_ordered(value) { vec![doc! { operator: value }] } else { Vec::new() };
    if !others.is_empty() && !same_type_only {
        beyond.push(doc! { "$type": type_names(others) });
    }
    beyond
}

fn type_names<'a>(types: impl IntoIterator<Item = &'a (u8, &'a [&'a str])>) -> Vec<&'a str> {
    types.into_iter().flat_map(|(_, names)| names.iter().copied()).collect()
}

/// Returns the filter with further conditions. Compares for equality whatever the value is, even a document with operators.
fn branch<const N: usize>(selection: &Selection, conditions: [(&str, Document); N]) -> Document {
    let mut branch = Document::new();
    let equal = selection.filter.iter().map(|(field, value)| doc! { field: { "$eq": value } });
    let all = equal.chain(conditions.map(|(field, conditions)| doc! { field: conditions }));
    // A field may be in both the filter and the conditions.
    branch.insert("$and", all.collect::<Vec<_>>());
    branch
}
