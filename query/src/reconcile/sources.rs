//! Compares the messages of a client's streams. For numbered sources: is every number that counts as received stored,
//! rejected or lost? Other messages are only counted, because it is unknown how many there must be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Binary, Bson, Document, doc};
use mysimbdp_config::{Client, REJECTED};
use mysimbdp_model::app::Ids;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::RecordId;
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::FIRST;
use mysimbdp_store::sequences::{LOSSES, Sequences, SourceWatermark};
use mysimbdp_store::{Coredms, CoredmsError};

use super::ReconcileReport;
use super::compare::Numbers;
use crate::error::QueryError;

/// Documents that are read at a time.
const PAGE: i64 = 1000;
/// Numbers are marked some milliseconds after their data is stored; with a slow store it takes longer.
const MARKED_WITHIN: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(100);
/// The `_id` of a rejected message is its number's id (16 bytes) and this many bytes of its payload's hash.
const CONTENT_BYTES: usize = 8;

/// Adds all sources of the client to the report.
pub(super) async fn compare(
    client: &Client,
    store: &Arc<dyn Coredms>,
    report: &mut ReconcileReport,
) -> Result<(), QueryError> {
    let mut numbered = BTreeMap::<String, u64>::new();
    for known in Sequences::sources(store.as_ref()).await? {
        let stream = client.streams.iter().find(|stream| stream.collection == known.collection);
        let counts = stream.is_some_and(|stream| {
            stream.settings.ids == Ids::Platform && !client.expires(&stream.collection)
        });
        let numbering = Numbering { store, client: &client.id, known: &known, counts };
        let (numbers, gaps) = numbering.count_when_marked().await?;
        report.source(&client.id, &known, &numbers, gaps);
        if counts {
            *numbered.entry(known.collection.clone()).or_default() += numbering.stored(0, u64::MAX).await?;
        }
    }
    for stream in &client.streams {
        // Counted last, so that all numbered documents are included.
        let documents = store.count(&stream.collection).await?;
        let has_files = client.apps.iter().any(|app| app.collection == stream.collection);
        let are_distinguishable = stream.settings.ids == Ids::Platform && !has_files;
        let numbered = are_distinguishable.then(|| numbered.get(&stream.collection).copied().unwrap_or(0));
        report.messages(&client.id, stream, documents, numbered);
    }
    Ok(())
}

/// One epoch of a source.
struct Numbering<'a> {
    store: &'a Arc<dyn Coredms>,
    client: &'a ClientId,
    known: &'a SourceWatermark,
    /// Whether the `_id` of its documents is their number.
    counts: bool,
}

impl Numbering<'_> {
    /// Returns what is received, and how many numbers are missing in between. Waits until stored numbers are marked, at
    /// most [`MARKED_WITHIN`].
    async fn count_when_marked(&self) -> Result<(Numbers, u64), CoredmsError> {
        let SourceWatermark { collection, source, .. } = self.known;
        let sequences = Sequences::new(Arc::clone(self.store), self.client.clone(), collection.clone());
        // Read before the documents, so every number marked now is already stored.
        let progress = sequences.progress(source, 0).await?;
        let lost = self.lost().await?;
        let last = progress.received.last().map_or(progress.through, |range| range.1);
        // Beyond a long gap not every received number has been read.
        let end = if progress.highest > last { last } else { u64::MAX };
        let (through, beyond) = (progress.through, progress.received.count());
        let gaps = progress.missing().count();
        let mut numbers = Numbers { through, beyond, ..Numbers::default() };
        if !self.counts {
            numbers.lost = lost.count();
            return Ok((numbers, gaps));
        }
        let first = self.account(FIRST, through, &lost).await?;
        let second = match through.checked_add(1) {
            Some(next) => self.account(next, end, &lost).await?,
            None => Account::default(),
        };
        numbers.accounted = Some(first.all);
        numbers.accounted_beyond = Some(second.all);
        numbers.lost = first.lost + second.lost;
        let deadline = Instant::now() + MARKED_WITHIN;
        let received = first.all.max(through) + second.all;
        while numbers.unmarked() > 0 && Instant::now() < deadline {
            tokio::time::sleep(POLL_EVERY).await;
            let now = sequences.progress(source, 0).await?;
            if now.through.saturating_add(now.received.count()) >= received {
                // Everything that was counted is marked now.
                numbers.accounted_beyond = Some(beyond.min(second.all));
            }
        }
        Ok((numbers, gaps))
    }

    /// Counts the numbers from `first` to `last` that are stored, rejected, or lost and never came.
    async fn account(&self, first: u64, last: u64, lost: &Ranges) -> Result<Account, CoredmsError> {
        if last < first {
            return Ok(Account::default());
        }
        let stored = self.stored(first, last).await?;
        let (mut rejected, mut lost_for_good) = (0, 0);
        for (from, to) in lost.iter() {
            let (from, to) = (from.max(first), to.min(last));
            if from <= to {
                lost_for_good += to - from + 1 - self.stored(from, to).await?;
            }
        }
        let mut after = rejected_id(self.id(first), 0x00);
        loop {
            let page = self.store.page(REJECTED, Document::new(), Some(after), PAGE).await?;
            let is_last = (page.len() as i64) < PAGE;
            let ids = page.iter().map_while(|document| self.number_of(document, last));
            let mut numbers: Vec<u64> = ids.collect();
            let is_end = is_last || numbers.len() < page.len();
            // Several payloads with the same number may have been rejected.
            numbers.dedup();
            for number in self.without_document(&numbers).await? {
                rejected += 1;
                lost_for_good -= u64::from(lost.contains(number));
            }
            match numbers.last() {
                Some(number) if !is_end => after = rejected_id(self.id(*number), 0xff),
                _ => return Ok(Account { all: stored + rejected + lost_for_good, lost: lost_for_good }),
            }
        }
    }

    /// Returns those of the numbers that no document has.
    async fn without_document(&self, numbers: &[u64]) -> Result<Vec<u64>, CoredmsError> {
        let ids = numbers.iter().map(|number| Binary::from(self.id(*number)).into()).collect();
        let missing = self.store.missing_ids(&self.known.collection, ids).await?;
        Ok(missing.into_iter().filter_map(|position| numbers.get(position).copied()).collect())
    }

    /// Returns the number of a rejected message if it is of this source and at most `last`.
    fn number_of(&self, rejected: &Document, last: u64) -> Option<u64> {
        let Some(Bson::Binary(id)) = rejected.get("_id") else { return None };
        let id = RecordId(id.bytes.get(..16)?.try_into().ok()?);
        (id.0[..8] == self.id(0).0[..8] && id.number() <= last).then(|| id.number())
    }

    async fn stored(&self, first: u64, last: u64) -> Result<u64, CoredmsError> {
        let (collection, end) = (&self.known.collection, self.id(last.saturating_add(1)));
        let stored = self.store.count_ids(collection, self.id(first), end).await?;
        // The end is exclusive, and no number follows the largest.
        let has_largest = last == u64::MAX && self.without_document(&[last]).await?.is_empty();
        Ok(stored + u64::from(has_largest))
    }

    /// Returns the numbers that the source no longer had when they were requested.
    async fn lost(&self) -> Result<Ranges, CoredmsError> {
        let SourceWatermark { collection, source, .. } = self.known;
        let filter = doc! {
            "collection": collection, "source": source.name.as_str(), "epoch": source.epoch.to_string(),
        };
        let (mut lost, mut after) = (Ranges::default(), None);
        loop {
            let page = self.store.page(LOSSES, filter.clone(), after, PAGE).await?;
            for loss in &page {
                if let (Some(first), Some(last)) = (number(loss.get("first")), number(loss.get("last"))) {
                    lost.insert(first, last);
                }
            }
            if (page.len() as i64) < PAGE {
                return Ok(lost);
            }
            after = page.last().and_then(|loss| loss.get("_id")).cloned();
        }
    }

    fn id(&self, number: u64) -> RecordId {
        self.known.source.id(self.client, number)
    }
}

/// How many numbers are accounted for, and how many of those are lost for good.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    all: u64,
    lost: u64,
}

/// Returns an id before (`0x00`) or after (`0xff`) those of all rejected messages with this number.
fn rejected_id(number: RecordId, content: u8) -> Bson {
    let bytes = [number.0.as_slice(), &[content; CONTENT_BYTES]].concat();
    Binary { subtype: bson::spec::BinarySubtype::Generic, bytes }.into()
}

fn number(value: Option<&Bson>) -> Option<u64> {
    match value? {
        Bson::Int32(number) => u64::try_from(*number).ok(),
        Bson::Int64(number) => u64::try_from(*number).ok(),
        Bson::String(digits) => digits.parse().ok(),
        _ => None,
    }
}
