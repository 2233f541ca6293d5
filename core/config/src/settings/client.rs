//! A tenant: its rules for files, its apps and streams.

use std::collections::BTreeMap;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::encoding::Encoding;
use mysimbdp_model::units::{ByteSize, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{App, Stream, View};

/// One tenant.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub id: ClientId,
    #[serde(default)]
    pub files: Files,
    /// If present, files larger than a block are split; without it every file is one micro-batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batching: Option<MicroBatching>,
    #[serde(default)]
    pub on_duplicate: OnDuplicate,
    /// Whether its folder may be a symlink that belongs to the platform's user or to root. Otherwise a symlink is ignored.
    #[serde(default)]
    pub folder_may_be_symlink: bool,
    /// Whether `<file>.receipt.json` is written to the client's folder when a file has ended, whatever its outcome. Files with such names are
    /// never taken, even without this.
    #[serde(default)]
    pub receipt: bool,
    /// How long an ingested file is kept in `archive/`; without it the file is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Period>,
    /// How long files that could not be ingested are kept; without it, until a person removes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Batch apps; a file goes to the first one whose `files` match.
    #[serde(default)]
    pub apps: Vec<App>,
    /// Stream apps.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// What coredms itself enforces, by collection.
    #[serde(default)]
    pub collections: BTreeMap<String, Collection>,
    /// Records of both layers in the order of time, as the HTTP server lists them; by name.
    #[serde(default)]
    pub views: BTreeMap<String, View>,
}

/// How long files that could not be ingested are kept. Each removal is logged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// For files in `discarded/`; without it they are kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<Period>,
    /// For files in `held/`; without it they are kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Period>,
}

/// The client's rules for dropped files.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// A file name must match one of these; they also route files that are dropped outside a client's folder.
    #[schemars(length(min = 1))]
    pub globs: Vec<String>,
    /// Regular expression that the whole name must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Allowed extensions, without the dot; compared without case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub extensions: Option<Vec<String>>,
    /// In addition to the generic limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes_max: Option<ByteSize>,
    /// In addition to the generic limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 255))]
    pub file_name_bytes_max: Option<u32>,
    /// Names of the columns that a CSV file must have, in this order. It is then not checked whether the first line looks like a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub header: Option<Vec<String>>,
    pub encoding: Encoding,
    /// Overrides the generic `settle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<Period>,
    /// With `.done`, for example, `x.csv` is taken only when `x.csv.done` is beside it; the latter is then removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^\.[A-Za-z0-9_-]+$"),
        extend("patternErrorMessage" = "a dot and characters of A-Z, a-z, 0-9, - and _")
    )]
    pub sentinel: Option<String>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            globs: vec!["*".to_owned()],
            pattern: None,
            extensions: None,
            file_bytes_max: None,
            file_name_bytes_max: None,
            header: None,
            encoding: Encoding::Utf8,
            settle: None,
            sentinel: None,
        }
    }
}

/// Splitting of large files.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MicroBatching {
    /// Maximum size of a micro-batch, unless a single record is larger. Those of a binary file are whole GridFS chunks of
    /// 261,120 bytes, if at least one fits.
    #[serde(default = "MicroBatching::block_size")]
    pub block_size: ByteSize,
}

impl MicroBatching {
    fn block_size() -> ByteSize {
        ByteSize::bytes(10_000_000)
    }
}

/// What happens to content that has already been ingested for this client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDuplicate {
    /// It is discarded; the reason names the earlier ingestion.
    #[default]
    Discard,
    /// It is run again: this restores what is missing, and adds nothing twice.
    Reload,
    /// It is run again, counts as received when it was dropped this time, and replaces what the same content stored before: for
    /// apps that were repaired, and for tables that are sent as a whole with ids `key`. Documents of other content, such as rows
    /// that are missing from a newer table, stay.
    Replace,
}

/// A collection of the client's database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// MongoDB's `$jsonSchema`; the store itself rejects documents that do not match it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub validator: Option<serde_json::Value>,
    /// Whether an index with `expireAfterSeconds` removes documents. Missing documents then do not count as a difference.
    #[serde(default)]
    pub expires: bool,
}
