//! A view: the records of both layers as one list in the order of time.

use mysimbdp_model::units::Period;
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
    #[serde(default)]
    pub windows: ViewWindows,
}

/// Windows over the records of a view: when one is closed, and which ones are published.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ViewWindows {
    /// How late records may come: a window is closed once the newest record of the view is this much later than its end.
    pub lateness: Period,
    /// Without newer records, a window is closed this long after its end by the clock, and `lateness`.
    pub idle: Period,
    /// Windows that are published as events once they are closed, while somebody listens to `/events`. Each size once.
    pub publish: Vec<PublishedWindows>,
}

impl Default for ViewWindows {
    fn default() -> Self {
        Self { lateness: Period::seconds(10), idle: Period::seconds(60), publish: Vec::new() }
    }
}

/// Windows of one size that are published.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedWindows {
    /// `1s` to `366d`; whole seconds if `time_type` is `text`.
    pub size: Period,
    /// The fields whose numbers are counted; `a.b` is the field `b` of the object in `a`.
    #[schemars(length(min = 1, max = 20))]
    pub fields: Vec<String>,
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
