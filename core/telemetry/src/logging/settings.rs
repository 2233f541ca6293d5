//! The settings of the logs in the config.

use mysimbdp_model::units::{ByteSize, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The log files below `logs/`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    pub level: LogLevel,
    /// How long the files, which are rotated daily, are kept.
    pub retention: Period,
    /// The most disk space that one log may use, including its older files: the oldest of them are removed first.
    pub bytes_max: ByteSize,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            retention: Period::seconds(14 * 86_400),
            bytes_max: ByteSize::bytes(256 << 20),
        }
    }
}

/// The least severe level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
