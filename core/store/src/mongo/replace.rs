//! Documents that a later run replaces or removes.

use bson::raw::RawBsonRef;
use bson::{Binary, Bson, Document, RawDocumentBuf, doc, rawdoc};
use mysimbdp_model::ingestion::RecordId;

use super::super::{CoredmsError, EarlierRuns, Removal, Written, precheck};
use super::failure::DUPLICATE_KEY;
use super::message::{Message, messages};
use super::reply::Fault;
use super::write::{
    REPLACE, add_result, names_id, reject_unstorable, sort, statement_within_limit, update_parts,
};
use super::{MongoStore, refusal};

/// If two writers create the same document at once, one of them fails, and replaces it at the next attempt.
const ATTEMPTS_MAX: usize = 5;

pub(super) async fn replace(
    store: &MongoStore,
    collection: &str,
    documents: Vec<RawDocumentBuf>,
) -> Result<Written, CoredmsError> {
    let mut written = Written::default();
    let mut accepted = reject_unstorable(documents, &mut written);
    accepted.retain(|(position, document)| {
        let refusal = replacement(document).err();
        written.rejected.extend(refusal.clone().map(|reason| (*position, reason)));
        refusal.is_none()
    });
    let validator_bytes = store.validator_bytes(collection).await?;
    for message in messages(accepted, validator_bytes) {
        let faults = replace_message(store, collection, &message, validator_bytes).await?;
        // A key of another unique index of the client's: a document that is not replaced is not a duplicate.
        let (other_keys, faults) =
            faults.into_iter().partition::<Vec<_>, _>(|fault| fault.code == DUPLICATE_KEY);
        let refused = other_keys.iter().map(|fault| (message.positions[fault.index], refusal::reason(fault)));
        written.rejected.extend(refused);
        add_result(store, collection, &message, faults, &mut written).await?;
        written.stored -= other_keys.len() as u64;
    }
    sort(&mut written);
    Ok(written)
}

/// Replaces the documents of a message, and returns the faults.
async fn replace_message(
    store: &MongoStore,
    collection: &str,
    message: &Message,
    validator_bytes: usize,
) -> Result<Vec<Fault>, CoredmsError> {
    let mut remaining: Vec<usize> = (0..message.documents.len()).collect();
    let mut final_faults = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        let statements = remaining
            .iter()
            .map(|index| Ok((*index, replacement(&message.documents[*index])?)))
            .collect::<Result<Vec<_>, String>>()
            .map_err(|reason| store.refused(REPLACE, reason))?;
        let faults = update_parts(store, collection, statements, validator_bytes).await?;
        let (again, others) =
            faults.into_iter().partition::<Vec<_>, _>(|fault| fault.code == DUPLICATE_KEY && names_id(fault));
        final_faults.extend(others);
        remaining = again.into_iter().map(|fault| fault.index).collect();
        if remaining.is_empty() {
            return Ok(final_faults);
        }
    }
    Err(CoredmsError::Unavailable {
        address: store.address.clone(),
        operation: REPLACE,
        source: "other writers keep creating the same documents".into(),
    })
}

/// Returns the statement that writes a document in place of the existing one.
fn replacement(document: &RawDocumentBuf) -> Result<RawDocumentBuf, String> {
    let id = document.get("_id").map_err(|error| precheck::malformed(&error))?.unwrap_or(RawBsonRef::Null);
    let filter = rawdoc! { "_id": { "$eq": id } };
    statement_within_limit(rawdoc! { "q": filter, "u": RawBsonRef::Document(document), "upsert": true })
}

pub(super) async fn remove(
    store: &MongoStore,
    collection: &str,
    removal: Removal,
) -> Result<u64, CoredmsError> {
    let list = |ids: Vec<RecordId>| ids.into_iter().map(|id| Binary::from(id).into()).collect::<Vec<Bson>>();
    let filter = match removal {
        Removal::ByIds(ids) => doc! { "_id": { "$in": list(ids) } },
        Removal::ByAnyIds(ids) => {
            let ids: Vec<Bson> = ids.into_iter().filter(precheck::can_identify).collect();
            doc! { "_id": { "$in": ids } }
        }
        Removal::Between { first, end, except } => {
            let (first, end) = (Binary::from(first), Binary::from(end));
            doc! { "_id": { "$gte": first, "$lt": end, "$nin": list(except) } }
        }
        Removal::OfRuns(runs) => runs.filter(),
    };
    let documents = store.collection::<Document>(collection);
    Ok(store.scan("remove documents", documents.delete_many(filter)).await?.deleted_count)
}

pub(super) async fn count_written_by(
    store: &MongoStore,
    collection: &str,
    ids: Vec<Bson>,
    runs: EarlierRuns,
) -> Result<u64, CoredmsError> {
    let mut filter = runs.filter();
    filter.insert("_id", doc! { "$in": ids.into_iter().filter(precheck::can_identify).collect::<Vec<_>>() });
    let documents = store.collection::<Document>(collection);
    store.scan("count documents of earlier runs", documents.count_documents(filter)).await
}
