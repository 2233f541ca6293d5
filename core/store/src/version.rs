//! The version of a document under a key `_id`: its field `_ingest` records the layer, the time and the record.

use bson::raw::RawBsonRef;
use bson::{DateTime, Document, RawDocument, doc};
use mysimbdp_model::ingestion::IngestionId;

/// The version of a document under a key. Versions are ordered: the batch layer over the speed layer, then by time, then
/// by ingestion, run and record.
///
/// Equal versions belong to the very same record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    layer: Layer,
    received_at: DateTime,
    ingestion: String,
    /// Set by a run that replaces; such a run is newer than one without a time.
    run: Option<DateTime>,
    record: i64,
}

/// The runs of an ingestion before the run that replaces what they stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierRuns {
    pub ingestion: IngestionId,
    /// The time of the replacing run.
    pub run: DateTime,
}

impl EarlierRuns {
    /// Returns MongoDB's filter for the documents that were last written by these runs.
    pub(super) fn filter(&self) -> Document {
        doc! {
            "_ingest.layer": "batch",
            "_ingest.ingestion": self.ingestion.to_string(),
            "$or": [{ "_ingest.run": null }, { "_ingest.run": { "$lt": self.run } }],
        }
    }

    /// Returns whether a document with this version was last written by one of these runs.
    pub(super) fn wrote(&self, version: &Version) -> bool {
        version.layer == Layer::Batch
            && version.run < Some(self.run)
            && version.ingestion == self.ingestion.to_string()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Stream,
    Batch,
}

/// What a document needs for `replace_older`.
pub(super) const EXPECTED: &str = "the field _ingest must be {layer: \"batch\", received_at: date, ingestion: string, record: long}, and may have a run: date";

impl Version {
    /// Returns the version of a document, or `None` if it has none.
    pub(super) fn of(document: &RawDocument) -> Option<Self> {
        let version = document.get_document("_ingest").ok()?;
        let layer = match version.get_str("layer").ok()? {
            "batch" => Layer::Batch,
            "stream" => Layer::Stream,
            _ => return None,
        };
        let record = match version.get("record").ok()?? {
            RawBsonRef::Int64(record) => record,
            // JSON does not distinguish the two.
            RawBsonRef::Int32(record) => i64::from(record),
            _ => return None,
        };
        let run = match version.get("run").ok()? {
            None => None,
            Some(RawBsonRef::DateTime(run)) => Some(run),
            Some(_) => return None,
        };
        Some(Self {
            layer,
            received_at: version.get_datetime("received_at").ok()?,
            ingestion: version.get_str("ingestion").ok()?.to_owned(),
            run,
            record,
        })
    }

    /// Returns the version of a document of the batch layer; only that layer replaces documents.
    pub(super) fn of_batch(document: &RawDocument) -> Option<Self> {
        Self::of(document).filter(|version| version.layer == Layer::Batch)
    }

    /// Returns MongoDB's filter for the documents that a document of the batch layer with this version may replace: older
    /// ones, and itself.
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

    fn version(layer: &str, millis: i64, ingestion: &str, record: i64) -> Option<Version> {
        version_of_run(layer, millis, ingestion, None, record)
    }

    fn version_of_run(
        layer: &str,
        millis: i64,
        ingestion: &str,
        run: Option<i64>,
        record: i64,
    ) -> Option<Version> {
        let received_at = DateTime::from_millis(millis);
        let mut version =
            doc! { "layer": layer, "received_at": received_at, "ingestion": ingestion, "record": record };
        if let Some(run) = run {
            version.insert("run", DateTime::from_millis(run));
        }
        Version::of(&RawDocumentBuf::try_from(&doc! { "_id": 1, "_ingest": version }).expect("encodable"))
    }

    #[test]
    fn versions_are_ordered_by_layer_time_ingestion_run_and_record() {
        let ascending = [
            version("stream", 9, "f", 9),
            version("batch", 1, "f", 9),
            version("batch", 2, "a", 9),
            version("batch", 2, "b", 1),
            version("batch", 2, "b", 2),
            version_of_run("batch", 2, "b", Some(5), 1),
            version_of_run("batch", 2, "b", Some(6), 0),
            version_of_run("batch", 2, "b", Some(6), 1),
            version("batch", 3, "a", 0),
        ];
        for pair in ascending.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        assert_eq!(version("cloud", 1, "a", 1), None);
    }
}
