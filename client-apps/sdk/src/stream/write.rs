//! Writes a batch until it is durable, however long the store is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bson::{Binary, Bson, Document, RawDocumentBuf, doc};
use mysimbdp_core::chain;
use mysimbdp_core::io::broker::consumer::AckToken;
use mysimbdp_core::io::coredms::{Coredms, CoredmsError, Written};
use mysimbdp_core::io::random;

use super::message::{Fate, Item, reject_document};
use crate::failure::{Failure, shortened};

/// Waits between attempts while the store is away; doubled from the first to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The collections that a stream writes to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) coredms: Arc<dyn Coredms>,
    pub(crate) collection: String,
    pub(crate) rejected: String,
}

/// A batch that is durable: its messages may be acknowledged.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) acks: Vec<AckToken>,
    pub(crate) arrivals: Vec<std::time::Instant>,
    pub(crate) bytes: u64,
    pub(crate) rejected: u64,
}

impl Target {
    /// Stores the messages, and lists those that cannot be in the rejects.
    ///
    /// Returns only when all of it is durable. Dropping it in between is harmless: nothing has been acknowledged.
    ///
    /// # Errors
    ///
    /// Where the store refuses altogether, as with wrong credentials.
    pub(crate) async fn write(self, items: Vec<Item>) -> Result<Settled, Failure> {
        let mut documents = Vec::new();
        let mut stored = Vec::new();
        let mut rejects = Vec::new();
        for (position, item) in items.iter().enumerate() {
            match &item.fate {
                Fate::Store { document, .. } => {
                    documents.push(document.clone());
                    stored.push(position);
                }
                Fate::Reject { reason } => rejects.push((position, reason.clone())),
            }
        }
        let written = self.insert(&self.collection, documents).await?;
        rejects.extend(written.rejected.into_iter().map(|(index, reason)| (stored[index], reason)));
        for index in written.duplicates {
            let position = stored[index];
            if let Some(reason) = self.conflict(&items[position]).await? {
                rejects.push((position, reason));
            }
        }
        self.reject(&items, &rejects).await?;
        let bytes = items.iter().map(|item| item.message.payload.len() as u64).sum();
        let (acks, arrivals) = items.into_iter().map(|item| (item.ack, item.received_at)).unzip();
        Ok(Settled { acks, arrivals, bytes, rejected: rejects.len() as u64 })
    }

    /// The same number with other content is no duplicate: storing the one would lose the other.
    async fn conflict(&self, item: &Item) -> Result<Option<String>, Failure> {
        let Fate::Store { document, number: Some(number) } = &item.fate else { return Ok(None) };
        let filter = doc! { "_id": Binary::from(*number) };
        let found =
            until_available("find", || self.coredms.find(&self.collection, filter.clone(), 1)).await?;
        let ours: Document = bson::deserialize_from_slice(document.as_bytes())
            .map_err(|error| Failure::Fault(format!("a document of this app is none: {error}")))?;
        // Gone in the meantime: then there is nothing that it contradicts.
        let differs = found.first().is_some_and(|known| !is_same(known, &ours));
        Ok(differs.then(|| format!("number {} of this source is known with other content", number.record())))
    }

    async fn reject(&self, items: &[Item], rejects: &[(usize, String)]) -> Result<(), Failure> {
        let mut documents = Vec::with_capacity(rejects.len());
        let mut reasons: HashMap<&str, (usize, u64)> = HashMap::new();
        for (position, reason) in rejects {
            documents.push(reject_document(&items[*position].message, reason)?);
            reasons.entry(reason).or_insert((*position, 0)).1 += 1;
        }
        let written = self.insert(&self.rejected, documents).await?;
        if let Some((_, reason)) = written.rejected.first() {
            return Err(Failure::Fault(format!("collection {:?} refuses a reject: {reason}", self.rejected)));
        }
        // One line per reason and batch: a flood of bad messages must not become a flood of lines.
        for (reason, (position, messages)) in reasons {
            let reason = shortened(reason.to_owned());
            tracing::warn!(topic = items[position].message.topic, reason, messages, "rejected");
        }
        Ok(())
    }

    async fn insert(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<Written, Failure> {
        if documents.is_empty() {
            return Ok(Written::default());
        }
        until_available("insert", || self.coredms.insert_many(collection, documents.clone())).await
    }
}

/// Repeats `operation` until the store is there, with back-off and jitter. One WARN per outage, one INFO at its end.
async fn until_available<T, F: Future<Output = Result<T, CoredmsError>>>(
    what: &'static str,
    mut operation: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut wait = BACKOFF_FIRST;
    let mut is_away = false;
    loop {
        match operation().await {
            Ok(value) => {
                if is_away {
                    tracing::info!(operation = what, "store is available again");
                }
                return Ok(value);
            }
            Err(error) if error.is_retryable() => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(operation = what, error = %chain(&error), "store is away, messages wait unacknowledged");
                }
                tokio::time::sleep(wait.mul_f64(random::jitter())).await;
                wait = (wait * 2).min(BACKOFF_MAX);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether two documents say the same: integers by their value, as the embedded store does not keep their width.
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
