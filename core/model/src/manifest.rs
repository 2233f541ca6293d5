//! What a staged file was split into: `staging/<client>/<ingestion>/manifest.json`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::ClientId;
use crate::column::Column;
use crate::ingestion::IngestionId;

/// The version that this build writes and reads.
pub const VERSION: u32 = 1;

/// A staged file and its micro-batches.
///
/// `prefix` and the micro-batches cover the content exactly, in order, with nothing between them: their concatenation
/// is the file. The same content with the same settings always gives the same micro-batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub ingestion: IngestionId,
    pub client: ClientId,
    pub lane: Lane,
    /// The name of the dropped file.
    pub file: String,
    pub bytes: u64,
    pub records: u64,
    /// The hash of the content alone, without the client; hexadecimal.
    pub blake3: String,
    pub format: Format,
    /// Byte order mark and CSV header: fed to the app in front of each micro-batch.
    pub prefix: Prefix,
    /// Name of the app in the client's `apps`.
    pub app: String,
    /// When the file arrived in the drop directory. Of two documents with the same key, the one from the later file is newer.
    pub received_at: Timestamp,
    /// When it had settled and intake took it; its ingestion time is measured from here. `None` in manifests of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    pub staged_at: Timestamp,
    pub micro_batches: Vec<MicroBatch>,
    /// The columns of a CSV file and their types, decided from all of its rows. Empty if the app does not read records, and in
    /// manifests of earlier builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    /// Whether this run replaces what earlier runs of the content have stored, and removes what it does not store again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

/// The first bytes of the file, which belong to every micro-batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    pub offset: u64,
    pub length: u64,
}

/// A range of the file that begins and ends on a record boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MicroBatch {
    pub index: u32,
    /// Relative to the manifest: the file's own name, or `parts/NNNNN` if each micro-batch has a file of its own.
    pub path: String,
    /// The offset of its first byte in the whole file; a part file holds exactly this range.
    pub offset: u64,
    pub length: u64,
    /// The number of its first record in the whole file, from 0.
    pub first_record: u64,
    pub records: u64,
    /// XXH3-64 of the range, hexadecimal.
    pub xxh3: String,
}

/// How records are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Comma-separated values with a header line; quoted fields may hold line breaks.
    Csv,
    /// One JSON value per line.
    Ndjson,
    /// One JSON array whose elements are the records.
    Json,
    /// Bytes; the whole file counts as one record.
    Binary,
}

impl Format {
    /// The format that a file name stands for: `csv`, `ndjson` or `jsonl`, `json`; anything else is binary.
    pub fn of_file_name(name: &str) -> Self {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref() {
            Some("csv") => Self::Csv,
            Some("ndjson" | "jsonl") => Self::Ndjson,
            Some("json") => Self::Json,
            _ => Self::Binary,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Json => "json",
            Self::Binary => "binary",
        }
    }
}

/// Which queue a file waits in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    #[default]
    Live,
    Backfill,
    Retry,
}

impl Lane {
    pub const ALL: [Self; 3] = [Self::Live, Self::Backfill, Self::Retry];

    /// The name in manifests and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
            Self::Retry => "retry",
        }
    }
}

/// The fields that manifests of all versions have.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Manifest {
    /// The manifest as `manifest.json` holds it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("all keys of a manifest are strings");
        json.push(b'\n');
        json
    }

    /// Reads a manifest and checks what the type cannot: the version, and that prefix and micro-batches cover the file.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = match (serde_json::from_slice(json), serde_json::from_slice(json)) {
            // Another version may have other fields, and is not damaged.
            (_, Ok(Versioned { version })) if version != VERSION => {
                return Err(ManifestError::Version(version));
            }
            (manifest, _) => manifest.map_err(ManifestError::Json)?,
        };
        manifest.check_cover()?;
        Ok(manifest)
    }

    fn check_cover(&self) -> Result<(), ManifestError> {
        let mut offset = self.prefix.length;
        let mut record: u64 = 0;
        for (position, batch) in self.micro_batches.iter().enumerate() {
            if batch.index as usize != position || batch.offset != offset || batch.first_record != record {
                return Err(ManifestError::Gap { index: batch.index });
            }
            if !path_is_inside(&batch.path) {
                return Err(ManifestError::Path(batch.path.clone()));
            }
            // No file has sums that overflow.
            let end = (offset.checked_add(batch.length), record.checked_add(batch.records));
            let (Some(end), Some(records)) = end else {
                return Err(ManifestError::Cover { covered: u64::MAX, bytes: self.bytes });
            };
            (offset, record) = (end, records);
        }
        if self.prefix.offset != 0 || offset != self.bytes || record != self.records {
            return Err(ManifestError::Cover { covered: offset, bytes: self.bytes });
        }
        Ok(())
    }
}

/// Whether the path is neither absolute nor leads upwards: a manifest can name only files in its own directory.
fn path_is_inside(path: &str) -> bool {
    use std::path::Component;
    !path.is_empty()
        && std::path::Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The bytes are not a manifest of this version.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot parse the manifest")]
    Json(#[source] serde_json::Error),
    #[error("manifest has version {0}, this build reads version {VERSION}")]
    Version(u32),
    #[error("micro-batch {index} does not follow the one before it")]
    Gap { index: u32 },
    #[error("micro-batches cover {covered} of {bytes} bytes, or not all records")]
    Cover { covered: u64, bytes: u64 },
    #[error("micro-batch path {0:?} leads out of the staged directory")]
    Path(String),
}
