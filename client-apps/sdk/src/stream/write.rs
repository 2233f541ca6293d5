//! Writes a batch until it is durable, however long the store is unavailable.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::{Bson, Document, RawDocumentBuf, doc};
use mysimbdp_broker::consumer::AckToken;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_platform::backoff::Backoff;
use mysimbdp_platform::failpoint;
use mysimbdp_store::rejected::{INLINE_BYTES_MAX, RejectedBytes, object_id_for, put_object};
use mysimbdp_store::{Coredms, CoredmsError, Object, Written};

use super::durable::{DurableBySource, note_lost, note_received};
use super::message::{Disposition, Item, RepeatId, reject_document};
use crate::failure::{Failure, shortened};
use crate::identity::ID;

/// Known messages (see [`Target::write`]) that are looked up with one command: a whole batch, unless the batch setting
/// is above the default.
const LOOKUPS_MAX: usize = 1000;

/// The collections that a stream writes to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) client: ClientId,
    pub(crate) coredms: Arc<dyn Coredms>,
    pub(crate) collection: String,
    pub(crate) rejected: String,
    /// Whether the documents that are stored are returned with a batch.
    pub(crate) is_announced: bool,
    /// Whether the store was unavailable at the last operation of any batch.
    pub(crate) is_unavailable: Arc<AtomicBool>,
}

/// A durable batch: its messages may be acknowledged.
#[derive(Debug, Default)]
pub(crate) struct DurableBatch {
    pub(crate) acks: Vec<AckToken>,
    /// Arrival times of its records. Messages about numbers that their source has lost are not records.
    pub(crate) arrivals: Vec<std::time::Instant>,
    pub(crate) bytes: u64,
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    pub(crate) rejected: u64,
    /// The documents that were not there before, to be announced.
    pub(crate) new_documents: Vec<RawDocumentBuf>,
    /// The numbers of its messages, for their receipts.
    pub(crate) durable: DurableBySource,
}

impl Target {
    /// Stores the messages, and writes a reject for each one that cannot be stored.
    ///
    /// A message is *known* if the store already has a document with its `_id`. It is a duplicate; or a reject, if its
    /// `_id` is a number or its own and the content differs.
    ///
    /// Returns only when everything is durable. Dropping the future before that is harmless: nothing has been
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// The store refuses the operation as a whole, for example because of wrong credentials.
    pub(crate) async fn write(self, items: Vec<Item>) -> Result<DurableBatch, Failure> {
        let mut documents = Vec::new();
        let mut stored = Vec::new();
        let mut rejects = Vec::new();
        for (position, item) in items.iter().enumerate() {
            match &item.disposition {
                Disposition::Store { document, .. } => {
                    documents.push(document.clone());
                    stored.push(position);
                }
                Disposition::Reject { reason } => rejects.push((position, reason.clone().into())),
                // Recorded separately: the source repeats the message until a receipt passes these numbers.
                Disposition::Lost(_) => {}
            }
        }
        failpoint::hit("stream-app.batch-taken");
        let written = self.insert(&self.collection, documents).await?;
        failpoint::hit("stream-app.batch-stored");
        rejects.extend(written.rejected.into_iter().map(|(index, reason)| (stored[index], reason)));
        let known: Vec<usize> = written.duplicates.into_iter().map(|index| stored[index]).collect();
        let conflicts = self.conflicts(&items, &known).await?;
        let duplicates = (known.len() - conflicts.len()) as u64;
        rejects.extend(conflicts);
        self.reject(&items, &rejects).await?;
        failpoint::hit("stream-app.batch-completed");
        let new_documents = match self.is_announced {
            true => new_documents(&items, known.iter().chain(rejects.iter().map(|(position, _)| position))),
            false => Vec::new(),
        };
        let bytes = items.iter().map(|item| item.message.payload.len() as u64).sum();
        let rejected = rejects.len() as u64;
        let mut batch = DurableBatch {
            bytes,
            stored: written.stored,
            duplicates,
            rejected,
            new_documents,
            ..DurableBatch::default()
        };
        items.into_iter().for_each(|item| batch.add(item));
        Ok(batch)
    }

    /// Finds known messages whose content differs from what is stored. The same number with other content is not a duplicate:
    /// treating it as one would lose a message.
    ///
    /// After an outage a source may send thousands of messages again, and a shared subscription scatters them over the
    /// instances. So all known messages of a batch are looked up together: a repeat costs a part of one command, whatever
    /// came before it.
    async fn conflicts(&self, items: &[Item], known: &[usize]) -> Result<Vec<(usize, String)>, Failure> {
        let mut conflicts = Vec::new();
        for known in known.chunks(LOOKUPS_MAX) {
            let repeat_id = |&position: &usize| Some((position, items[position].repeat_id()?));
            let known: Vec<(usize, &RepeatId)> = known.iter().filter_map(repeat_id).collect();
            if known.is_empty() {
                continue;
            }
            let ids = || known.iter().map(|(_, repeat_id)| repeat_id.id()).collect();
            let find = || self.coredms.find_by_ids(&self.collection, ids());
            let stored = self.until_available("find", find).await?;
            let key_of = |document: &Document| key(document.get(ID)?.clone());
            let stored: HashMap<Vec<u8>, &Document> =
                stored.iter().filter_map(|document| Some((key_of(document)?, document))).collect();
            for (position, repeat_id) in known {
                let stored = key(repeat_id.id()).and_then(|key| stored.get(&key).copied());
                if let Some(reason) = conflict(&items[position], repeat_id, stored)? {
                    conflicts.push((position, reason));
                }
            }
        }
        Ok(conflicts)
    }

    async fn reject(&self, items: &[Item], rejects: &[(usize, String)]) -> Result<(), Failure> {
        let mut documents = Vec::with_capacity(rejects.len());
        let mut reasons: HashMap<&str, (usize, u64)> = HashMap::new();
        for (position, reason) in rejects {
            let kept = self.keep(&items[*position]).await?;
            documents.push(reject_document(&self.client, &items[*position], reason, kept)?);
            reasons.entry(reason).or_insert((*position, 0)).1 += 1;
        }
        let written = self.insert(&self.rejected, documents).await?;
        if let Some((_, reason)) = written.rejected.first() {
            return Err(Failure::Internal(format!(
                "collection {:?} refuses a reject: {reason}",
                self.rejected
            )));
        }
        // One log line per reason and batch: a flood of bad messages must not become a flood of lines.
        for (reason, (position, messages)) in reasons {
            let reason = shortened(reason.to_owned());
            tracing::warn!(topic = items[position].message.topic, reason, messages, "rejected");
        }
        Ok(())
    }

    /// Keeps the whole payload, in an object if it does not fit in a document. The object's id is made of the content, so a
    /// repeat writes the same object.
    async fn keep(&self, Item { message, .. }: &Item) -> Result<RejectedBytes, Failure> {
        let payload = &message.payload;
        let bytes = payload.len() as u64;
        if bytes <= INLINE_BYTES_MAX {
            return Ok(RejectedBytes::Inline(payload.to_vec()));
        }
        let id = object_id_for(payload);
        let object = Object { id, name: message.topic.clone(), bytes, metadata: Document::new() };
        let put = || {
            put_object(self.coredms.as_ref(), &self.rejected, &object, |offset, length| {
                let piece = payload.slice(offset as usize..(offset + length) as usize);
                std::future::ready(Ok::<_, CoredmsError>(piece))
            })
        };
        self.until_available("store a rejected message", put).await?;
        failpoint::hit("stream-app.payload-stored-beside");
        Ok(RejectedBytes::Object(id))
    }

    async fn insert(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<Written, Failure> {
        if documents.is_empty() {
            return Ok(Written::default());
        }
        self.until_available("insert", || self.coredms.insert_many(collection, documents.clone())).await
    }

    /// Repeats `operation` until the store is available, with back-off and jitter. Logs one WARN per outage and one INFO at
    /// its end, however many batches wait.
    async fn until_available<T, F: Future<Output = Result<T, CoredmsError>>>(
        &self,
        what: &'static str,
        mut operation: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let mut backoff = Backoff::default();
        loop {
            match operation().await {
                Ok(value) => {
                    if self.is_unavailable.swap(false, Ordering::Relaxed) {
                        tracing::info!(operation = what, "store is available again");
                    }
                    return Ok(value);
                }
                Err(error) if error.is_retryable() => {
                    if !self.is_unavailable.swap(true, Ordering::Relaxed) {
                        tracing::warn!(operation = what, error = %error_chain(&error), "store is unavailable, messages wait unacknowledged");
                    }
                    tokio::time::sleep(backoff.wait()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl DurableBatch {
    fn add(&mut self, item: Item) {
        self.acks.push(item.ack);
        if let Disposition::Lost(lost_numbers) = item.disposition {
            note_lost(&mut self.durable, lost_numbers);
            return;
        }
        self.arrivals.push(item.received_at);
        if let Some(number) = &item.number {
            note_received(&mut self.durable, number);
        }
    }
}

/// Returns the documents of the items except those at these positions.
fn new_documents<'p>(items: &[Item], except: impl Iterator<Item = &'p usize>) -> Vec<RawDocumentBuf> {
    let except: HashSet<usize> = except.copied().collect();
    let document = |(position, item): (usize, &Item)| match &item.disposition {
        Disposition::Store { document, .. } if !except.contains(&position) => Some(document.clone()),
        _ => None,
    };
    items.iter().enumerate().filter_map(document).collect()
}

/// Returns why an item is not a repeat of the document stored under its `_id`, or `None` if it is one.
fn conflict(item: &Item, repeat_id: &RepeatId, stored: Option<&Document>) -> Result<Option<String>, Failure> {
    let differs = match stored {
        Some(stored) => differs(item, stored)?,
        // If the document of a number was removed in the meantime, there is no conflict. If the store already has an
        // `_id` that is not found, it has the id with another type, such as 5.0 for 5.
        None => matches!(repeat_id, RepeatId::OwnId(_)),
    };
    Ok(differs.then(|| match repeat_id {
        RepeatId::Number(number) => {
            format!("number {} of this source is already stored with other content", number.number())
        }
        RepeatId::OwnId(id) => format!("_id {id} is already stored with other content"),
    }))
}

/// Returns bytes that are equal for equal ids, whatever the width of their integers; `None` if the value cannot be an id.
fn key(id: Bson) -> Option<Vec<u8>> {
    RawDocumentBuf::try_from(&doc! { ID: widened(id) }).ok().map(|document| document.as_bytes().to_vec())
}

/// Widens all integers, because the embedded store does not keep their width.
fn widened(value: Bson) -> Bson {
    match value {
        Bson::Int32(narrow) => Bson::Int64(narrow.into()),
        Bson::Document(fields) => {
            Bson::Document(fields.into_iter().map(|(name, value)| (name, widened(value))).collect())
        }
        Bson::Array(values) => Bson::Array(values.into_iter().map(widened).collect()),
        other => other,
    }
}

fn differs(item: &Item, known: &Document) -> Result<bool, Failure> {
    let Disposition::Store { document, .. } = &item.disposition else { return Ok(false) };
    // Not decoded through serde, which would take a field such as `$date` for a date.
    let ours = Document::try_from(document.as_ref())
        .map_err(|error| Failure::Internal(format!("the app's document is invalid BSON: {error}")))?;
    Ok(!is_same(known, &ours))
}

/// Whether two documents have the same content. Integers are compared by value, because the embedded store does not keep
/// their width.
fn is_same(left: &Document, right: &Document) -> bool {
    left.len() == right.len()
        && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| is_same_value(value, other)))
}

fn is_same_value(left: &Bson, right: &Bson) -> bool {
    match (left, right) {
        (Bson::Document(left), Bson::Document(right)) => is_same(left, right),
        (Bson::Array(left), Bson::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| is_same_value(left, right))
        }
        (Bson::Int32(narrow), Bson::Int64(wide)) | (Bson::Int64(wide), Bson::Int32(narrow)) => {
            i64::from(*narrow) == *wide
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn content_is_compared_by_value_and_not_by_width_or_order() {
        let known = doc! { "a": 5_i32, "b": [1_i64, { "c": 0.5 }] };
        assert!(is_same(&known, &doc! { "b": [1_i32, { "c": 0.5 }], "a": 5_i64 }));
        for other in [
            doc! { "a": 6, "b": [1, { "c": 0.5 }] },
            doc! { "a": 5, "b": [1] },
            doc! { "a": 5 },
            doc! { "a": 5.0, "b": [1, { "c": 0.5 }] },
            doc! { "a": 5, "b": [1, { "c": 0.5 }], "d": null },
        ] {
            assert!(!is_same(&known, &other) && !is_same(&other, &known), "{other}");
        }
    }
}
