//! When and from where a document under a key `_id` came: its field `_ingest`.

use bson::raw::RawBsonRef;
use bson::{DateTime, Document, RawDocument, doc};

/// Orders two versions of one key: the batch layer over the speed layer, then by time, then by ingestion and record.
///
/// Equal stamps belong to the very same record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    layer: Layer,
    received_at: DateTime,
    ingestion: String,
    record: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Stream,
    Batch,
}

/// What a document needs to be given to `replace_older`.
pub(super) const NEEDED: &str =
    "the field _ingest must be {layer: \"batch\", received_at: date, ingestion: string, record: long}";

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
        Some(Self {
            layer,
            received_at: stamp.get_datetime("received_at").ok()?,
            ingestion: stamp.get_str("ingestion").ok()?.to_owned(),
            record,
        })
    }

    /// The stamp of a document of the batch layer, which alone replaces.
    pub(super) fn of_batch(document: &RawDocument) -> Option<Self> {
        Self::of(document).filter(|stamp| stamp.layer == Layer::Batch)
    }

    /// MongoDB's filter for what a document with this stamp of the batch layer may replace: what is older, and itself.
    pub(super) fn replaceable(&self) -> Document {
        let Self { received_at, ingestion, record, .. } = self;
        doc! { "$or": [
            { "_ingest.layer": { "$ne": "batch" } },
            { "_ingest.received_at": { "$lt": received_at } },
            { "_ingest.received_at": received_at, "_ingest.ingestion": { "$lt": ingestion } },
            { "_ingest.received_at": received_at, "_ingest.ingestion": ingestion, "_ingest.record": { "$lte": record } },
        ] }
    }
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    fn stamp(layer: &str, millis: i64, ingestion: &str, record: i64) -> Option<Stamp> {
        let received_at = DateTime::from_millis(millis);
        let stamp =
            doc! { "layer": layer, "received_at": received_at, "ingestion": ingestion, "record": record };
        Stamp::of(&RawDocumentBuf::try_from(&doc! { "_id": 1, "_ingest": stamp }).expect("encodable"))
    }

    #[test]
    fn layer_goes_before_time_before_ingestion_before_record() {
        let ascending = [
            stamp("stream", 9, "f", 9),
            stamp("batch", 1, "f", 9),
            stamp("batch", 2, "a", 9),
            stamp("batch", 2, "b", 1),
            stamp("batch", 2, "b", 2),
        ];
        for pair in ascending.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        assert_eq!(stamp("cloud", 1, "a", 1), None);
    }
}
