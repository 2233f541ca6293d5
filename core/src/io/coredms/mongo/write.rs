//! Records, message by message, and what became of each.

use bson::raw::RawBsonRef;
use bson::{Bson, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, doc, rawdoc};
use mongodb::error::{ErrorKind, IndexedWriteError, WriteConcernError};
use serde::Deserialize;

use super::super::form;
use super::super::stamp::{self, Stamp};
use super::super::{CoredmsError, Written};
use super::failure::{DUPLICATE_KEY, is_transient_code};
use super::message::{Message, messages};
use super::{MongoStore, refusal};

/// The server takes commands 16 KiB larger than documents: an update that replaces has its filter in that.
const STATEMENT_BYTES_MAX: usize = form::DOCUMENT_BYTES_MAX + (14 << 10);

/// `Unauthorized`: no fault of the document.
const UNAUTHORIZED: i32 = 13;

pub(super) async fn insert(
    store: &MongoStore,
    collection: &str,
    documents: Vec<RawDocumentBuf>,
) -> Result<Written, CoredmsError> {
    let mut written = Written::default();
    let sound = sift(documents, &mut written);
    let validator_bytes = store.validator_bytes(collection).await?;
    for message in messages(sound, validator_bytes) {
        let errors = insert_message(store, collection, &message.documents).await?;
        settle(store, collection, &message, errors, &mut written).await?;
    }
    sort(&mut written);
    Ok(written)
}

pub(super) async fn replace_older(
    store: &MongoStore,
    collection: &str,
    documents: Vec<RawDocumentBuf>,
) -> Result<Written, CoredmsError> {
    let mut written = Written::default();
    let mut sound = sift(documents, &mut written);
    sound.retain(|(position, document)| match replacement(document) {
        Ok(_) => true,
        Err(reason) => {
            written.rejected.push((*position, reason));
            false
        }
    });
    let validator_bytes = store.validator_bytes(collection).await?;
    for message in messages(sound, validator_bytes) {
        // Most keys are new, and inserting is several times as fast as replacing.
        let mut errors = insert_message(store, collection, &message.documents).await?;
        let there = errors.extract_if(.., |error| error.code == DUPLICATE_KEY).collect::<Vec<_>>();
        let statements = there.iter().filter_map(|error| {
            let statement = replacement(&message.documents[error.index]).ok()?;
            Some((error.index, statement))
        });
        for part in messages(statements.collect(), validator_bytes) {
            // The key is there, so another duplicate key means that it was not to be replaced.
            let newer = update_message(store, collection, &part.documents).await?;
            errors.extend(newer.into_iter().map(|mut error| {
                error.index = part.positions[error.index];
                error
            }));
        }
        settle(store, collection, &message, errors, &mut written).await?;
    }
    sort(&mut written);
    Ok(written)
}

/// Takes out what no server would accept.
fn sift(documents: Vec<RawDocumentBuf>, written: &mut Written) -> Vec<(usize, RawDocumentBuf)> {
    let mut sound = Vec::with_capacity(documents.len());
    for (position, document) in documents.into_iter().enumerate() {
        match form::refusal(&document) {
            Some(reason) => written.rejected.push((position, reason)),
            None => sound.push((position, document)),
        }
    }
    sound
}

async fn insert_message(
    store: &MongoStore,
    collection: &str,
    documents: &[RawDocumentBuf],
) -> Result<Vec<IndexedWriteError>, CoredmsError> {
    let operation = "insert documents";
    let collection = store.collection::<RawDocumentBuf>(collection);
    let insert = collection.insert_many(documents).ordered(false);
    let Err(error) = store.within(store.message_time, operation, insert).await? else {
        return Ok(Vec::new());
    };
    match error.kind.as_ref() {
        ErrorKind::InsertMany(failure) if failure.write_concern_error.is_none() => {
            checked(store, operation, failure.write_errors.clone().unwrap_or_default())
        }
        _ => Err(store.failed(operation, error)),
    }
}

/// The statement that writes a document where nothing newer is.
fn replacement(document: &RawDocumentBuf) -> Result<RawDocumentBuf, String> {
    let stamp = Stamp::of_batch(document).ok_or(stamp::NEEDED)?;
    let malformed = |error: bson::error::Error| format!("the document is no valid BSON: {error}");
    let id = document.get("_id").map_err(malformed)?.unwrap_or(RawBsonRef::Null);
    let mut filter = rawdoc! { "_id": { "$eq": id } };
    for (key, value) in &stamp.replaceable() {
        let key = bson::raw::CString::try_from(key.as_str()).map_err(malformed)?;
        filter.append(key, RawBson::try_from(value.clone()).map_err(malformed)?);
    }
    let statement = rawdoc! { "q": filter, "u": RawBsonRef::Document(document), "upsert": true };
    match statement.as_bytes().len() {
        bytes if bytes > STATEMENT_BYTES_MAX => {
            Err(format!("document and key have {bytes} bytes, which is too much"))
        }
        _ => Ok(statement),
    }
}

/// `bulk_write` needs a server of version 8; the command beneath it is in every one.
async fn update_message(
    store: &MongoStore,
    collection: &str,
    statements: &[RawDocumentBuf],
) -> Result<Vec<IndexedWriteError>, CoredmsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reply {
        #[serde(default)]
        write_errors: Vec<IndexedWriteError>,
        write_concern_error: Option<WriteConcernError>,
    }

    if statements.is_empty() {
        return Ok(Vec::new());
    }
    let operation = "replace documents";
    let mut updates = RawArrayBuf::new();
    statements.iter().for_each(|statement| updates.push(statement.as_ref()));
    let command = rawdoc! {
        "update": collection,
        "updates": updates,
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true },
    };
    let reply = store.call(operation, store.database.run_raw_command(command)).await?;
    let reply: Reply =
        bson::deserialize_from_document(reply).map_err(|error| store.refused(operation, error))?;
    if let Some(error) = reply.write_concern_error {
        let source = format!("the write concern was not met: {} ({})", error.message, error.code).into();
        return Err(CoredmsError::Unavailable { address: store.address.clone(), operation, source });
    }
    checked(store, operation, reply.write_errors)
}

/// Lets errors through that are about their document; the others are about the server, and fail the message.
fn checked(
    store: &MongoStore,
    operation: &'static str,
    errors: Vec<IndexedWriteError>,
) -> Result<Vec<IndexedWriteError>, CoredmsError> {
    let address = || store.address.clone();
    for error in &errors {
        let source = || error.message.clone().into();
        if is_transient_code(error.code) {
            return Err(CoredmsError::Unavailable { address: address(), operation, source: source() });
        }
        if error.code == UNAUTHORIZED {
            return Err(store.refused(operation, error.message.clone()));
        }
    }
    Ok(errors)
}

/// Counts a message: what has no error is stored, what is there already is a duplicate, the rest is rejected.
async fn settle(
    store: &MongoStore,
    collection: &str,
    message: &Message,
    errors: Vec<IndexedWriteError>,
    written: &mut Written,
) -> Result<(), CoredmsError> {
    written.stored += (message.documents.len() - errors.len()) as u64;
    for error in errors {
        let position = message.positions[error.index];
        let document = &message.documents[error.index];
        if error.code == DUPLICATE_KEY && is_id_there(store, collection, document, &error).await? {
            written.duplicates.push(position);
        } else {
            written.rejected.push((position, refusal::reason(&error)));
        }
    }
    Ok(())
}

/// Whether the key that is there twice is the `_id`, and not that of another unique index of the client's.
///
/// The message tells, but for long replies, in which the server leaves it out.
async fn is_id_there(
    store: &MongoStore,
    collection: &str,
    document: &RawDocument,
    error: &IndexedWriteError,
) -> Result<bool, CoredmsError> {
    if error.message.contains(" index: _id_ ") {
        return Ok(true);
    }
    let operation = "look for a duplicate";
    let id = document.get("_id").map(|id| id.unwrap_or(RawBsonRef::Null)).and_then(Bson::try_from);
    let id = id.map_err(|error| store.refused(operation, error))?;
    let documents = store.collection::<RawDocumentBuf>(collection);
    let find = documents.find_one(doc! { "_id": { "$eq": id } }).projection(doc! { "_id": 1 });
    Ok(store.call(operation, find).await?.is_some())
}

fn sort(written: &mut Written) {
    written.duplicates.sort_unstable();
    written.rejected.sort_unstable();
}
