//! The result of one work unit: `staging/<client>/<ingestion>/outcomes/NNNNN.json`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::app::Ids;
use crate::column::Column;
use crate::ingestion::IngestionId;
use crate::manifest::Lane;
use crate::reason::ReasonCode;

/// The result of a work unit that an app has finished. Always `received = stored + duplicates + rejected`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub version: u32,
    /// Index of the work unit: that of the micro-batch, if the app's unit is the micro-batch.
    pub index: u32,
    pub attempt: u32,
    #[serde(flatten)]
    pub counts: Counts,
    pub bytes: u64,
    pub seconds: f64,
    pub finished_at: Timestamp,
    /// Whether the app's count of stored records was verified in coredms; this is impossible if the app uses its own ids.
    pub audited: bool,
    /// XXH3 of the file with the unit's rejects, if it has any. Neither file is synced, so a power cut may destroy one of them
    /// and keep the other; they are trusted only together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects_xxh3: Option<String>,
}

/// The numbers of records by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub received: u64,
    pub stored: u64,
    /// Already stored before this run. Records that an earlier attempt of the same run stored count as `stored`.
    pub duplicates: u64,
    pub rejected: u64,
}

impl Counts {
    pub fn balances(&self) -> bool {
        self.stored.checked_add(self.duplicates).and_then(|sum| sum.checked_add(self.rejected))
            == Some(self.received)
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.rejected += other.rejected;
    }
}

/// How an ingestion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalState {
    Ingested,
    Held,
    Discarded,
    /// It was held, and then removed (or returned to the archive, if it was to replace stored records), because its retention
    /// was over or a person requested it.
    Purged,
}

impl FinalState {
    /// The name in documents and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingested => "ingested",
            Self::Held => "held",
            Self::Discarded => "discarded",
            Self::Purged => "purged",
        }
    }
}

/// The history document of one run, in the platform's database, collection `ingestions`.
///
/// Its `_id` is [`Run::id`], which follows from the manifest, so writing it again changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    #[serde(rename = "_id")]
    pub id: String,
    pub ingestion: String,
    pub client: String,
    pub app: String,
    pub lane: Lane,
    pub file: String,
    pub bytes: u64,
    pub blake3: String,
    pub micro_batches: u32,
    pub received: i64,
    pub stored: i64,
    pub duplicates: i64,
    pub rejected: i64,
    /// False if the app uses its own ids, so that its stored records could not be counted.
    pub audited: bool,
    pub state: FinalState,
    pub received_at: bson::DateTime,
    pub staged_at: bson::DateTime,
    pub finished_at: bson::DateTime,
    pub seconds: f64,
    /// The columns of a CSV file, as in its manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    /// Whether it replaced what earlier runs of the content had stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// The collection of its records. This and `ids` are `None` in runs of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Ids>,
    /// Why it was held; `codes` has the kind of each reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<ReasonCode>,
}

impl Run {
    /// The id consists of the ingestion and the time of staging: the same content staged again is another run.
    pub fn id(ingestion: IngestionId, staged_at: Timestamp) -> String {
        format!("{ingestion}-{}", staged_at.strftime("%Y%m%dT%H%M%S%.3fZ"))
    }

    /// The ingestion of the run with this id; `None` if it is not the id of a run.
    pub fn ingestion_of(id: &str) -> Option<IngestionId> {
        let (ingestion, staged_at) = id.split_once('-')?;
        DateTime::strptime("%Y%m%dT%H%M%S%.fZ", staged_at).ok()?;
        ingestion.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_a_run_yields_its_ingestion() {
        let ingestion = IngestionId::of_object([7; 16]);
        let id = Run::id(ingestion, Timestamp::UNIX_EPOCH);
        assert_eq!(Run::ingestion_of(&id), Some(ingestion), "{id}");
        let late = format!("{ingestion}-late-1f");
        for other in [&ingestion.to_string(), &late, &id[1..], &format!("{id}Z"), &format!("{ingestion}-")] {
            assert_eq!(Run::ingestion_of(other), None, "{other}");
        }
    }
}
