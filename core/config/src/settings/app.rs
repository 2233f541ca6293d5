//! A batch app.

use std::collections::BTreeMap;

use mysimbdp_model::app::{Ids, Protocol, UnitKind};
use mysimbdp_model::manifest::Format;
use mysimbdp_model::rejects::RejectsMax;
use mysimbdp_model::units::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ArrivalContract;

/// A batch app: any program that fulfils the contract.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Unique among the client's apps.
    #[schemars(
        regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,31}$"),
        extend("patternErrorMessage" = "1 to 32 characters of a-z, 0-9, - and _, the first a letter or a digit")
    )]
    pub name: String,
    /// Globs of the file names that it processes.
    #[serde(default = "App::all_files")]
    #[schemars(length(min = 1))]
    pub files: Vec<String>,
    /// By default the extension decides: csv; ndjson, jsonl; json; anything else is binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Program and arguments. A program without a slash is looked up beside this executable, then on the PATH; a path with one is relative to the data root.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    #[serde(default)]
    pub unit: UnitKind,
    #[serde(default)]
    pub protocol: Protocol,
    #[serde(default)]
    pub ids: Ids,
    /// With `ids: "key"`: the fields that identify a record.
    #[serde(default)]
    pub record_key: Vec<String>,
    /// The collection for the records; by default named after the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"),
        extend("patternErrorMessage" = "1 to 64 characters of A-Z, a-z, 0-9, - and _, the first a letter")
    )]
    pub collection: Option<String>,
    /// Units of this app that run at the same time.
    #[serde(default = "App::concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: u32,
    /// Whether units run one after the other, in file order.
    #[serde(default)]
    pub ordered: bool,
    /// A unit that takes longer is stopped and counts as failed.
    #[serde(default = "App::timeout")]
    pub timeout: Period,
    /// If more records of a file are rejected, it is held, and counts as not ingested.
    #[serde(default)]
    pub rejects_max: RejectsMax,
    /// Which of its files are expected when. Each due time at which none has come is reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<ArrivalContract>,
    /// Additional environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl App {
    fn all_files() -> Vec<String> {
        vec!["*".to_owned()]
    }

    fn concurrency() -> u32 {
        2
    }

    fn timeout() -> Period {
        Period::seconds(600)
    }
}
