//! Writes records message by message, and determines the result of each document.

use std::collections::HashSet;

use bson::raw::RawBsonRef;
use bson::{Bson, RawArrayBuf, RawBson, RawDocumentBuf, rawdoc};

use super::super::version::{self, Version};
use super::super::{CoredmsError, Written, precheck};
use super::failure::{DUPLICATE_KEY, is_transient_code};
use super::message::{Message, messages};
use super::reply::{Fault, Reply};
use super::{MongoStore, audit, refusal};

/// The server accepts commands 16 KiB larger than documents; the filter of an update that replaces must fit in that.
const STATEMENT_BYTES_MAX: usize = precheck::DOCUMENT_BYTES_MAX + (14 << 10);

const INSERT: &str = "insert documents";
pub(super) const REPLACE: &str = "replace documents";

/// `Unauthorized`: not a fault of the document.
const UNAUTHORIZED: i32 = 13;

pub(super) async fn insert(
    store: &MongoStore,
    collection: &str,
    documents: Vec<RawDocumentBuf>,
) -> Result<Written, CoredmsError> {
    let mut written = Written::default();
    let accepted = reject_unstorable(documents, &mut written);
    let validator_bytes = store.validator_bytes(collection).await?;
    for message in messages(accepted, validator_bytes) {
        let faults = insert_message(store, collection, &message.documents).await?;
        add_result(store, collection, &message, faults, &mut written).await?;
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
    let mut accepted = reject_unstorable(documents, &mut written);
    accepted.retain(|(position, document)| {
        let refusal = refusal_of_replacement(document);
        written.rejected.extend(refusal.clone().map(|reason| (*position, reason)));
        refusal.is_none()
    });
    let validator_bytes = store.validator_bytes(collection).await?;
    for message in messages(accepted, validator_bytes) {
        // Most keys are new, and inserting is several times as fast as replacing.
        let mut faults = insert_message(store, collection, &message.documents).await?;
        let existing = faults.extract_if(.., |fault| fault.code == DUPLICATE_KEY).collect::<Vec<_>>();
        let statements = existing
            .iter()
            .map(|fault| Ok((fault.index, replacement(&message.documents[fault.index])?)))
            .collect::<Result<Vec<_>, String>>()
            .map_err(|reason| store.refused(REPLACE, reason))?;
        // The key exists, so another duplicate key means that the existing document was not to be replaced.
        faults.extend(update_parts(store, collection, statements, validator_bytes).await?);
        add_result(store, collection, &message, faults, &mut written).await?;
    }
    sort(&mut written);
    Ok(written)
}

/// Runs statements, each with a position, and returns the faults with those positions.
pub(super) async fn update_parts(
    store: &MongoStore,
    collection: &str,
    statements: Vec<(usize, RawDocumentBuf)>,
    validator_bytes: usize,
) -> Result<Vec<Fault>, CoredmsError> {
    let mut faults = Vec::new();
    for part in messages(statements, validator_bytes) {
        let found = update_message(store, REPLACE, collection, &part.documents).await?;
        faults.extend(found.into_iter().map(|fault| Fault { index: part.positions[fault.index], ..fault }));
    }
    Ok(faults)
}

/// Rejects the documents that no server would accept, and returns the others with their positions.
pub(super) fn reject_unstorable(
    documents: Vec<RawDocumentBuf>,
    written: &mut Written,
) -> Vec<(usize, RawDocumentBuf)> {
    let mut accepted = Vec::with_capacity(documents.len());
    for (position, document) in documents.into_iter().enumerate() {
        match precheck::refusal(&document) {
            Some(reason) => written.rejected.push((position, reason)),
            None => accepted.push((position, document)),
        }
    }
    accepted
}

async fn insert_message(
    store: &MongoStore,
    collection: &str,
    documents: &[RawDocumentBuf],
) -> Result<Vec<Fault>, CoredmsError> {
    let collection = store.collection::<RawDocumentBuf>(collection);
    let insert = collection.insert_many(documents).ordered(false);
    match store.within(store.message_time, INSERT, insert).await? {
        Ok(_) => Ok(Vec::new()),
        Err(error) => {
            let reply = Reply::of_insert(error).map_err(|error| store.failed(INSERT, error))?;
            check_reply(store, INSERT, reply, documents.len())
        }
    }
}

/// Returns why a document cannot replace another, or `None` if it can.
fn refusal_of_replacement(document: &RawDocumentBuf) -> Option<String> {
    // The filter repeats key and version, which are part of the document: only a large one can exceed the limit.
    if document.as_bytes().len() > STATEMENT_BYTES_MAX / 8 {
        return replacement(document).err();
    }
    Version::of_batch(document).is_none().then(|| version::EXPECTED.to_owned())
}

/// Returns the statement that writes a document unless a newer one exists.
fn replacement(document: &RawDocumentBuf) -> Result<RawDocumentBuf, String> {
    let version = Version::of_batch(document).ok_or(version::EXPECTED)?;
    let malformed = |error| precheck::malformed(&error);
    let id = document.get("_id").map_err(malformed)?.unwrap_or(RawBsonRef::Null);
    let mut filter = rawdoc! { "_id": { "$eq": id } };
    for (key, value) in &version.replaceable() {
        let key = bson::raw::CString::try_from(key.as_str()).map_err(malformed)?;
        filter.append(key, RawBson::try_from(value.clone()).map_err(malformed)?);
    }
    statement_within_limit(rawdoc! { "q": filter, "u": RawBsonRef::Document(document), "upsert": true })
}

/// Returns the statement, unless it is too large for any command.
pub(super) fn statement_within_limit(statement: RawDocumentBuf) -> Result<RawDocumentBuf, String> {
    match statement.as_bytes().len() {
        bytes if bytes > STATEMENT_BYTES_MAX => {
            Err(format!("document and key have {bytes} bytes, the limit is {STATEMENT_BYTES_MAX}"))
        }
        _ => Ok(statement),
    }
}

/// Runs the `update` command: `bulk_write` needs a server of version 8, the command exists in every version.
pub(super) async fn update_message(
    store: &MongoStore,
    operation: &'static str,
    collection: &str,
    statements: &[RawDocumentBuf],
) -> Result<Vec<Fault>, CoredmsError> {
    let mut updates = RawArrayBuf::new();
    statements.iter().for_each(|statement| updates.push(statement.as_ref()));
    let command = rawdoc! {
        "update": collection,
        "updates": updates,
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true },
    };
    let reply = store.call(operation, store.database.run_raw_command(command)).await?;
    let reply =
        Reply::read(&reply).ok_or_else(|| store.refused(operation, format!("unreadable reply {reply}")))?;
    check_reply(store, operation, reply, statements.len())
}

/// Returns the faults that are about a document; other faults are about the server, and fail the message.
fn check_reply(
    store: &MongoStore,
    operation: &'static str,
    reply: Reply,
    documents: usize,
) -> Result<Vec<Fault>, CoredmsError> {
    let Reply { faults, write_concern } = reply;
    // It may or may not have been written: the next attempt finds out.
    let transient =
        faults.iter().find(|fault| is_transient_code(fault.code)).map(|fault| fault.message.clone());
    if let Some(source) = write_concern.or(transient) {
        return Err(CoredmsError::Unavailable {
            address: store.address.clone(),
            operation,
            source: source.into(),
        });
    }
    if let Some(fault) = faults.iter().find(|fault| fault.code == UNAUTHORIZED) {
        return Err(store.refused(operation, fault.message.clone()));
    }
    if faults.len() > documents || faults.iter().any(|fault| fault.index >= documents) {
        return Err(
            store.refused(operation, format!("the reply has faults of more than {documents} documents"))
        );
    }
    Ok(faults)
}

/// Adds the result of a message: a document without a fault is stored, one that exists is a duplicate, the others are
/// rejected.
pub(super) async fn add_result(
    store: &MongoStore,
    collection: &str,
    message: &Message,
    faults: Vec<Fault>,
    written: &mut Written,
) -> Result<(), CoredmsError> {
    written.stored += (message.documents.len() - faults.len()) as u64;
    let unnamed = missing_unnamed_ids(store, collection, message, &faults).await?;
    for (fault_index, fault) in faults.into_iter().enumerate() {
        let position = message.positions[fault.index];
        if fault.code == DUPLICATE_KEY && (names_id(&fault) || !unnamed.contains(&fault_index)) {
            written.duplicates.push(position);
        } else {
            written.rejected.push((position, refusal::reason(&fault)));
        }
    }
    Ok(())
}

/// Returns whether the duplicate key is the `_id`, and not the key of another unique index of the client's.
pub(super) fn names_id(fault: &Fault) -> bool {
    fault.message.contains(" index: _id_ ")
}

/// Among the duplicates whose message does not name the key, returns the positions (in `faults`) of those whose `_id`
/// does not exist. In a reply with thousands of duplicates the server leaves out messages. One command looks up all ids.
async fn missing_unnamed_ids(
    store: &MongoStore,
    collection: &str,
    message: &Message,
    faults: &[Fault],
) -> Result<HashSet<usize>, CoredmsError> {
    let is_unnamed = |fault: &Fault| fault.code == DUPLICATE_KEY && !names_id(fault);
    let (mut fault_indexes, mut ids) = (Vec::new(), Vec::new());
    for (fault_index, fault) in faults.iter().enumerate().filter(|(_, fault)| is_unnamed(fault)) {
        let document = &message.documents[fault.index];
        let id = document.get("_id").map(|id| id.unwrap_or(RawBsonRef::Null)).and_then(Bson::try_from);
        ids.push(id.map_err(|error| store.refused(INSERT, error))?);
        fault_indexes.push(fault_index);
    }
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let missing = audit::missing_ids(store, collection, ids).await?;
    Ok(missing.into_iter().map(|position| fault_indexes[position]).collect())
}

pub(super) fn sort(written: &mut Written) {
    written.duplicates.sort_unstable();
    written.rejected.sort_unstable();
}
