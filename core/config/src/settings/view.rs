//! A view: the records of both layers as one list in the order of time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Records of the batch layer, of the speed layer or of both, in the order of a time that is in each of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// A collection of the client's batch apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// A collection of the client's streams. At least one of `batch` and `stream` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The field by which records are ordered; `a.b` is the field `b` of the object in `a`. A record without a time there is not in the view.
    pub time: String,
    #[serde(default)]
    pub time_type: TimeType,
    /// The field that says which sensor, station or device a record is from. MongoDB then rejects a record in which both this and `time` are lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default)]
    pub source_type: SourceType,
    /// The fields that identify a record: a record of `batch` overrides those of `stream` with the same values. By default `["_id"]` if the
    /// apps of both collections have ids `key` with the same `record_key`. Without a key, the view has all records of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub key: Option<Vec<String>>,
}

/// How the times of a view are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeType {
    /// A date of BSON.
    #[default]
    Date,
    /// Text of RFC 3339 in UTC, all with equally many digits, so that it sorts as text.
    Text,
    /// Seconds since 1970, a number.
    Seconds,
    /// Milliseconds since 1970, a number.
    Milliseconds,
}

/// What the values of a view's `source` are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceType {
    #[default]
    Text,
    Number,
}
