//! Additions to documents, as many in one command as fit.

use bson::RawDocumentBuf;

use super::super::{CoredmsError, Merge};
use super::MongoStore;
use super::failure::DUPLICATE_KEY;
use super::message::messages;
use super::write::update_message;

const MERGE: &str = "merge into documents";

/// If two writers create the same document at once, one of them fails, and finds it at the next attempt.
const ATTEMPTS_MAX: usize = 5;

pub(super) async fn merge(
    store: &MongoStore,
    collection: &str,
    merges: &[Merge],
) -> Result<(), CoredmsError> {
    let statements = merges
        .iter()
        .map(|merge| RawDocumentBuf::try_from(&merge.statement()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| store.refused(MERGE, error))?;
    for message in messages(statements.into_iter().enumerate().collect(), 0) {
        let mut remaining = message.documents;
        for _ in 0..ATTEMPTS_MAX {
            remaining = update(store, collection, remaining).await?;
            if remaining.is_empty() {
                break;
            }
        }
        if !remaining.is_empty() {
            return Err(CoredmsError::Unavailable {
                address: store.address.clone(),
                operation: MERGE,
                source: "other writers keep creating the same documents".into(),
            });
        }
    }
    Ok(())
}

/// Returns the statements to try again.
async fn update(
    store: &MongoStore,
    collection: &str,
    statements: Vec<RawDocumentBuf>,
) -> Result<Vec<RawDocumentBuf>, CoredmsError> {
    let faults = update_message(store, MERGE, collection, &statements).await?;
    if let Some(fault) = faults.iter().find(|fault| fault.code != DUPLICATE_KEY) {
        return Err(store.refused(MERGE, fault.message.clone()));
    }
    Ok(faults.into_iter().map(|fault| statements[fault.index].clone()).collect())
}
