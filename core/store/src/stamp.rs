//! When and from where a document under a key `_id` came: its field `_ingest`.

use bson::raw::RawBsonRef;
use bson::{DateTime, Document, RawDocument, doc};
use mysimbdp_model::ingestion::IngestionId;

/// Orders two versions of one key: the batch layer over the speed layer, then by time, then by ingestion, run and record.
///
/// Equal stamps belong to the very same record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    layer: Layer,
    received_at: DateTime,
    ingestion: String,
    /// Of a run that replaces: any of them is newer than one that does not.
    run: Option<DateTime>,
    record: i64,
}

/// The runs of an ingestion before one that replaces what they have stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierRuns {
    pub ingestion: IngestionId,
    /// The time of the run that replaces.
    pub run: DateTime,
}

impl EarlierRuns {
    /// MongoDB's filter for the documents that they were the last to write.
    pub(super) fn filter(&self) -> Document {
        doc! {
            "_ingest.layer": "batch",
            "_ingest.ingestion": self.ingestion.to_string(),
            "$or": [{ "_ingest.run": null }, { "_ingest.run": { "$lt": self.run } }],
        }
    }

    /// Whether they were the last to write a document with this stamp.
    pub(super) fn wrote(&self, stamp: &Stamp) -> bool {
        stamp.layer == Layer::Batch
            && stamp.run < Some(self.run)
            && stamp.ingestion == self.ingestion.to_string()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Stream,
    Batch,
}

/// What a document needs to be given to `replace_older`.
pub(super) const NEEDED: &str = "the field _ingest must be {layer: \"batch\", received_at: date, ingestion: string, record: long}, and may have a run: date";

impl Stamp {
    /// The stamp of a document, or `None` where it has none.
    pub(super) fn of(document: &RawDocument) -> Option<Self> {
        let stamp = document.get_document("_ingest").ok()?;
        let layer = match stamp.get_str("layer").ok()? {
            "batch" => Layer::Batch,
            "stream" => Layer::Stream,
            _ => return None,
        };
        let record = match stamp.get("record").ok()?? {
            RawBsonRef::Int64(record) => record,
            // JSON does not tell the two apart.
            RawBsonRef::Int32(record) => i64::from(record),
            _ => return None,
        };
        let run = match stamp.get("run").ok()? {
            None => None,
            Some(RawBsonRef::DateTime(run)) => Some(run),
            Some(_) => return None,
        };
        Some(Self {
            layer,
            received_at: stamp.get_datetime("received_at").ok()?,
            ingestion: stamp.get_str("ingestion").ok()?.to_owned(),
            run,
            record,
        })
    }

    /// The stamp of a document of the batch layer, which alone replaces.
    pub(super) fn of_batch(document: &RawDocument) -> Option<Self> {
        Self::of(document).filter(|stamp| stamp.layer == Layer::Batch)
    }

    /// MongoDB's filter for what a document with this stamp of the batch layer may replace: what is older, and itself.
    pub(super) fn replaceable(&self) -> Document {
        let Self { received_at, ingestion, run, record, .. } = self;
        let same = doc! { "_ingest.received_at": received_at, "_ingest.ingestion": ingestion };
        let of_same = |more: Document| same.clone().into_iter().chain(more).collect::<Document>();
        let mut older = vec![
            doc! { "_ingest.layer": { "$ne": "batch" } },
            doc! { "_ingest.received_at": { "$lt": received_at } },
            doc! { "_ingest.received_at": received_at, "_ingest.ingestion": { "$lt": ingestion } },
            of_same(doc! { "_ingest.run": run, "_ingest.record": { "$lte": record } }),
        ];
        if let Some(run) = run {
            older.push(of_same(doc! { "_ingest.run": null }));
            older.push(of_same(doc! { "_ingest.run": { "$lt": run } }));
        }
        doc! { "$or": older }
    }
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    fn stamp(layer: &str, millis: i64, ingestion: &str, record: i64) -> Option<Stamp> {
        stamp_of_run(layer, millis, ingestion, None, record)
    }

    fn stamp_of_run(
        layer: &str,
        millis: i64,
        ingestion: &str,
        run: Option<i64>,
        record: i64,
    ) -> Option<Stamp> {
        let received_at = DateTime::from_millis(millis);
        let mut stamp =
            doc! { "layer": layer, "received_at": received_at, "ingestion": ingestion, "record": record };
        if let Some(run) = run {
            stamp.insert("run", DateTime::from_millis(run));
        }
        Stamp::of(&RawDocumentBuf::try_from(&doc! { "_id": 1, "_ingest": stamp }).expect("encodable"))
    }

    #[test]
    fn layer_goes_before_time_before_ingestion_before_run_before_record() {
        let ascending = [
            stamp("stream", 9, "f", 9),
            stamp("batch", 1, "f", 9),
            stamp("batch", 2, "a", 9),
            stamp("batch", 2, "b", 1),
            stamp("batch", 2, "b", 2),
            stamp_of_run("batch", 2, "b", Some(5), 1),
            stamp_of_run("batch", 2, "b", Some(6), 0),
            stamp_of_run("batch", 2, "b", Some(6), 1),
            stamp("batch", 3, "a", 0),
        ];
        for pair in ascending.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        assert_eq!(stamp("cloud", 1, "a", 1), None);
    }
}
