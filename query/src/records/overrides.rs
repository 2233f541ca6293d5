//! Which records of the speed layer the batch layer overrides.

use std::sync::Arc;

use bson::raw::RawBsonRef;
use bson::{Bson, Document, RawDocument, RawDocumentBuf};
use futures::{StreamExt, TryStreamExt, stream};
use mysimbdp_store::{Coredms, CoredmsError};

/// Lookups by fields at the same time.
const LOOKUPS_MAX: usize = 16;

/// Looks up keys in the collection of the batch layer.
pub(super) struct Overrides {
    store: Arc<dyn Coredms>,
    collection: String,
    key: Vec<String>,
}

impl Overrides {
    pub(super) fn new(store: Arc<dyn Coredms>, collection: String, key: Vec<String>) -> Self {
        Self { store, collection, key }
    }

    pub(super) fn key(&self) -> &[String] {
        &self.key
    }

    /// Removes the documents that are overridden; with one command if the key is the `_id`.
    pub(super) async fn remove_from(&self, block: &mut Vec<RawDocumentBuf>) -> Result<(), CoredmsError> {
        let is_kept = if self.key == ["_id"] {
            let ids = block.iter().map(|document| identifying(document, "_id").unwrap_or(Bson::Null));
            let mut is_kept = vec![false; block.len()];
            let missing = self.store.missing_ids(&self.collection, ids.collect()).await?;
            missing.into_iter().for_each(|position| is_kept[position] = true);
            is_kept
        } else {
            let keys: Vec<Option<Document>> = block.iter().map(|document| self.key_of(document)).collect();
            let lookups = stream::iter(keys).map(|key| async {
                let Some(key) = key else { return Ok(true) };
                Ok::<_, CoredmsError>(self.store.find(&self.collection, key, 1).await?.is_empty())
            });
            lookups.buffered(LOOKUPS_MAX).try_collect().await?
        };
        let mut is_kept = is_kept.into_iter();
        block.retain(|_| is_kept.next().unwrap_or(true));
        Ok(())
    }

    /// Returns the key of a document; `None` if it has none.
    fn key_of(&self, document: &RawDocument) -> Option<Document> {
        self.key.iter().map(|name| Some((name.clone(), identifying(document, name)?))).collect()
    }
}

/// Returns the value of a field of the key, unless it is one that identifies nothing.
fn identifying(document: &RawDocument, name: &str) -> Option<Bson> {
    let value = document.get(name).ok()??;
    let identifies = match value {
        RawBsonRef::Double(number) => !number.is_nan(),
        RawBsonRef::String(_)
        | RawBsonRef::Int32(_)
        | RawBsonRef::Int64(_)
        | RawBsonRef::Decimal128(_)
        | RawBsonRef::Boolean(_)
        | RawBsonRef::DateTime(_)
        | RawBsonRef::ObjectId(_)
        | RawBsonRef::Binary(_)
        | RawBsonRef::Timestamp(_) => true,
        // Whatever it is: each document has another one.
        _ => name == "_id",
    };
    Bson::try_from(value).ok().filter(|_| identifies)
}
