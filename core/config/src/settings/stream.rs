//! A stream app, and when instances of it are added and removed.

use std::collections::BTreeMap;

use mysimbdp_model::app::Ids;
use mysimbdp_model::units::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stream app: any program that fulfils the contract.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Unique among the client's streams.
    #[serde(default = "Stream::name")]
    #[schemars(
        regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,31}$"),
        extend("patternErrorMessage" = "1 to 32 characters of a-z, 0-9, - and _, the first a letter or a digit")
    )]
    pub name: String,
    /// Program and arguments, looked up as for batch apps.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The MQTT topic filter that it subscribes to; by default `<topic_prefix>/ingest/<client>/#`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_filter: Option<String>,
    #[serde(default)]
    pub instances: Instances,
    #[serde(default)]
    pub scaling: Scaling,
    #[serde(default)]
    pub ids: Ids,
    /// With `ids: "key"`: the fields that identify a message.
    #[serde(default)]
    pub record_key: Vec<String>,
    /// The collection for the messages; by default named after the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"),
        extend("patternErrorMessage" = "1 to 64 characters of A-Z, a-z, 0-9, - and _, the first a letter")
    )]
    pub collection: Option<String>,
    /// The structure of messages, a JSON Schema; messages that do not match it go to the collection `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub message_schema: Option<serde_json::Value>,
    /// A batch is written when it holds this many messages …
    #[serde(default = "Stream::batch_messages_max")]
    #[schemars(range(min = 1, max = 10000))]
    pub batch_messages_max: u32,
    /// … or when its first message is this old and no other batch is being written.
    #[serde(default = "Stream::batch_wait_max")]
    pub batch_wait_max: Period,
    /// A message of a numbered source that is missing for this long is requested.
    #[serde(default = "Stream::gap_delay")]
    pub gap_delay: Period,
    /// Additional environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Stream {
    fn name() -> String {
        "stream".to_owned()
    }

    fn batch_messages_max() -> u32 {
        1000
    }

    fn batch_wait_max() -> Period {
        Period::millis(2)
    }

    fn gap_delay() -> Period {
        Period::seconds(2)
    }
}

/// How many instances a stream may have.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Instances {
    #[schemars(range(max = 64))]
    pub min: u32,
    #[schemars(range(min = 1, max = 64))]
    pub max: u32,
}

impl Default for Instances {
    fn default() -> Self {
        Self { min: 1, max: 4 }
    }
}

/// When instances are added and removed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    pub policy: Policy,
    /// Used by the policy `target`.
    pub target: Target,
    /// Used by the policy `thresholds`.
    pub thresholds: Thresholds,
}

/// How the number of instances is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// As many instances as keep each one busy for the target share of its time.
    #[default]
    Target,
    /// One instance more or less when a report crosses a threshold.
    Thresholds,
}

/// `desired = ceil(current * utilization / target)`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Share of its time that an instance should be busy, in percent.
    #[schemars(range(min = 1, max = 100))]
    pub utilization_percent: u32,
    /// A difference of this many percent of the target changes nothing.
    #[schemars(range(max = 90))]
    pub tolerance_percent: u32,
    /// Time between two changes.
    pub cooldown: Period,
    /// Scales down only to the largest number of instances that was desired within this time.
    pub stabilization: Period,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            utilization_percent: 70,
            tolerance_percent: 10,
            cooldown: Period::seconds(60),
            stabilization: Period::seconds(300),
        }
    }
}

/// Scales up if ingestion was slow or few messages were ingested, down if it was quick or many were. Quick and few means idle: down. Slow and many: no change.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Scales up above this mean processing time.
    pub up_processing_time: Period,
    /// Scales up below this many messages per report.
    #[schemars(range(max = 1_000_000_000_000u64))]
    pub up_messages: u64,
    /// Scales down below this mean processing time.
    pub down_processing_time: Period,
    /// Scales down above this many messages per report.
    #[schemars(range(max = 1_000_000_000_000u64))]
    pub down_messages: u64,
    /// Time between two changes.
    pub cooldown: Period,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            up_processing_time: Period::millis(50),
            up_messages: 600_000,
            down_processing_time: Period::millis(5),
            down_messages: 6_000_000,
            cooldown: Period::seconds(60),
        }
    }
}
