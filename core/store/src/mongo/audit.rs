//! Counts what an app reports as stored.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use bson::raw::RawBsonRef;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mysimbdp_model::ingestion::IngestionId;

use super::MongoStore;
use super::select::documents_of;
use crate::key;
use crate::objects::{chunks_of, object_id};
use crate::{CoredmsError, Extent, precheck, whole};

pub(super) async fn missing_ids(
    store: &MongoStore,
    collection: &str,
    ids: Vec<Bson>,
) -> Result<Vec<usize>, CoredmsError> {
    let operation = "look up ids";
    let valid_ids: Vec<&Bson> = ids.iter().filter(|id| precheck::can_identify(id)).collect();
    let documents = store.collection::<RawDocumentBuf>(collection);
    let find = async {
        let find = documents.find(doc! { "_id": { "$in": valid_ids } }).projection(doc! { "_id": 1 });
        find.batch().await?.try_collect::<Vec<_>>().await
    };
    let batches = store.scan(operation, find).await?;
    let mut found = HashSet::new();
    for batch in &batches {
        for document in documents_of(batch).map_err(|error| store.failed(operation, error))? {
            let id = document.get("_id").map(|id| id.unwrap_or(RawBsonRef::Null)).and_then(Bson::try_from);
            // The server finds 5 if 5.0 is requested: keys compare as it does.
            found.insert(key::encode(&id.map_err(|error| store.refused(operation, error))?));
        }
    }
    let is_missing = |(position, id): (usize, &Bson)| (!found.contains(&key::encode(id))).then_some(position);
    Ok(ids.iter().enumerate().filter_map(is_missing).collect())
}

pub(super) async fn count_by(
    store: &MongoStore,
    collection: &str,
    field: &str,
    values: Vec<String>,
) -> Result<BTreeMap<String, u64>, CoredmsError> {
    let pipeline = [
        doc! { "$match": { field: { "$in": values } } },
        doc! { "$group": { "_id": format!("${field}"), "count": { "$sum": 1_i64 } } },
    ];
    let documents = store.collection::<Document>(collection);
    let groups = async { documents.aggregate(pipeline).await?.try_collect::<Vec<_>>().await };
    let groups = store.scan("count documents by a field", groups).await?;
    let count = |group: &Document| Some((group.get_str("_id").ok()?.to_owned(), whole(group.get("count"))));
    Ok(groups.iter().filter_map(count).collect())
}

/// Returns the number of the object's chunks in the range, and their bytes.
pub(super) async fn extent(
    store: &MongoStore,
    bucket: &str,
    id: IngestionId,
    range: Range<u64>,
) -> Result<Extent, CoredmsError> {
    let bytes = doc! { "$sum": { "$binarySize": "$data" } };
    let group = doc! { "_id": null, "chunks": { "$sum": 1_i64 }, "bytes": bytes };
    let sums = group_chunks(store, bucket, id, range, group).await?;
    Ok(Extent { chunks: whole(sums.get("chunks")), bytes: whole(sums.get("bytes")) })
}

/// Returns the number of chunks, which the index alone can answer.
pub(super) async fn chunks(
    store: &MongoStore,
    bucket: &str,
    id: IngestionId,
    range: Range<u64>,
) -> Result<u64, CoredmsError> {
    let group = doc! { "_id": null, "chunks": { "$sum": 1_i64 } };
    let sums = group_chunks(store, bucket, id, range, group).await?;
    Ok(whole(sums.get("chunks")))
}

/// Applies `group` to all chunks in the range; empty if there are none.
async fn group_chunks(
    store: &MongoStore,
    bucket: &str,
    id: IngestionId,
    range: Range<u64>,
    group: Document,
) -> Result<Document, CoredmsError> {
    let numbers = chunks_of(&range);
    let numbers = doc! { "$gte": numbers.start as i64, "$lt": numbers.end.min(i64::MAX as u64) as i64 };
    let pipeline = [doc! { "$match": { "files_id": object_id(id), "n": numbers } }, doc! { "$group": group }];
    let chunks = store.collection::<Document>(&format!("{bucket}.chunks"));
    let grouped = async { chunks.aggregate(pipeline).await?.try_next().await };
    Ok(store.scan("check the chunks of an object", grouped).await?.unwrap_or_default())
}
