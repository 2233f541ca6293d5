//! The raw contents of `config.json`. The parser and `docs/config.schema.json` are generated from these types.

mod app;
mod arrival;
mod client;
mod serving;
mod stream;
mod view;

use std::time::Duration;

use mysimbdp_model::units::{ByteSize, Period};
use mysimbdp_telemetry::logging::Logs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use app::App;
pub use arrival::{ArrivalContract, WeekdayName};
pub use client::{Client, Collection, Files, MicroBatching, OnDuplicate};
pub use serving::{Serving, Tls};
pub use stream::{Instances, Policy, Scaling, Stream, Target, Thresholds};
pub use view::{PublishedWindows, SourceType, TimeType, View, ViewWindows};

/// Configuration of mysimbdp.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Path of this schema, for editors.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The directory that holds all others; by default the folder of this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_root: Option<String>,
    #[serde(default)]
    pub broker: Broker,
    #[serde(default)]
    pub coredms: Coredms,
    #[serde(default)]
    pub rules: Rules,
    #[serde(default)]
    pub fetchdata: Fetchdata,
    #[serde(default)]
    pub batch_manager: BatchManager,
    #[serde(default)]
    pub stream_manager: StreamManager,
    #[serde(default)]
    pub serving: Serving,
    #[serde(default)]
    pub logs: Logs,
    /// The tenants.
    #[schemars(length(min = 1))]
    pub clients: Vec<Client>,
}

/// The MQTT broker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// `mqtt://host:port` or `mqtts://host:port`, with `user:password@` if needed. Without it `up` starts the embedded broker. The environment variable `MYSIMBDP_BROKER` takes precedence over it, and `MYSIMBDP_BROKER_PASSWORD` over the password in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// First levels of all topics of the platform.
    #[schemars(
        regex(pattern = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"),
        extend("patternErrorMessage" = "levels of A-Z, a-z, 0-9, - and _, with / between them")
    )]
    pub topic_prefix: String,
    /// Either side notices a connection that has died silently after at most twice this time. Less than 5 s counts as 5 s.
    pub keep_alive: Period,
}

impl Default for Broker {
    fn default() -> Self {
        Self { url: None, topic_prefix: "mysimbdp".to_owned(), keep_alive: Period::seconds(10) }
    }
}

/// The core data store.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Coredms {
    /// `mongodb://…`, `mongodb+srv://…`, or `sqlite:<directory>`. Without it the embedded store below `state/` is used. The environment variable `MYSIMBDP_COREDMS` takes precedence over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The platform's own database; each client has `<database>_<client id>`.
    #[schemars(
        regex(pattern = r"^[a-z][a-z0-9_-]{0,29}$"),
        extend("patternErrorMessage" = "1 to 30 characters of a-z, 0-9, - and _, the first a letter")
    )]
    pub database: String,
}

impl Default for Coredms {
    fn default() -> Self {
        Self { url: None, database: "mysimbdp".to_owned() }
    }
}

/// Rules for every file, before the client's own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Larger files are discarded.
    pub file_bytes_max: ByteSize,
    /// Files with longer names are discarded; in bytes.
    #[schemars(range(min = 1, max = 255))]
    pub file_name_bytes_max: u32,
    /// Regular expression that the whole name must match.
    pub file_name_pattern: String,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            file_bytes_max: ByteSize::bytes(100_000_000),
            file_name_bytes_max: 128,
            file_name_pattern: r"[A-Za-z0-9][A-Za-z0-9 ()._+-]*".to_owned(),
        }
    }
}

/// Settling, splitting and staging.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fetchdata {
    /// A file is taken once it has not changed for this long.
    pub settle: Period,
    /// The drop directory is scanned this often, whatever the watcher reports.
    pub scan_every: Period,
    /// Files that are validated, split and staged at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub files_in_parallel: u32,
    pub staging_parts: StagingParts,
    /// If staging holds this much, over all clients, no more files are taken. A client that has nothing staged may still have one file staged, of whatever size.
    pub staged_bytes_max: ByteSize,
    /// If the file system of staging, state or logs has less free space than this, no more files are taken.
    pub free_space_min: ByteSize,
}

impl Default for Fetchdata {
    fn default() -> Self {
        Self {
            settle: Period::seconds(1),
            scan_every: Period::seconds(30),
            files_in_parallel: 2,
            staging_parts: StagingParts::Ranges,
            staged_bytes_max: ByteSize::bytes(10 << 30),
            free_space_min: ByteSize::bytes(1 << 30),
        }
    }
}

/// How micro-batches are stored in staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StagingParts {
    /// As ranges of the file, which is moved and not copied (if staging is on another file system: as files).
    Ranges,
    /// As one file each.
    Files,
}

/// Running the clients' batch apps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchManager {
    /// App processes that work at the same time, over all clients.
    #[schemars(range(min = 1, max = 256))]
    pub units_in_parallel: u32,
    /// Staging is scanned this often, whatever the broker reports.
    pub scan_every: Period,
    /// A file of which a unit has failed this often is held.
    #[schemars(range(min = 1, max = 100))]
    pub attempts_max: u32,
    /// Wait after the first failure; it doubles with each further one.
    pub backoff_first: Period,
    pub backoff_max: Period,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace: Period,
}

impl Default for BatchManager {
    fn default() -> Self {
        Self {
            units_in_parallel: 4,
            scan_every: Period::seconds(10),
            attempts_max: 5,
            backoff_first: Period::seconds(1),
            backoff_max: Period::seconds(60),
            stop_grace: Period::seconds(10),
        }
    }
}

/// One report may be late and another one lost; this many in a row are neither.
const SILENT_REPORTS_MAX: u32 = 5;
/// An app that reports often must not be ended because a busy machine delays its reports.
const SILENCE_MAX_MIN: Duration = Duration::from_secs(300);

/// Shorter keep-alives are raised to this.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);

/// Running the clients' stream apps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamManager {
    /// Each instance reports this often.
    pub report_every: Period,
    /// Maximum number of instances, over all clients.
    #[schemars(range(min = 1, max = 1024))]
    pub instances_max: u32,
    /// Wait before a crashed instance is restarted; it doubles with each further crash.
    pub backoff_first: Period,
    pub backoff_max: Period,
    /// A slot that has crashed this often without once living for `backoff_max` is given up until `start` or `scale`.
    #[schemars(range(min = 1, max = 1000))]
    pub restarts_max: u32,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace: Period,
    /// A draining instance ends when no message has arrived for this long.
    pub drain_quiet: Period,
    /// An instance that sends no report for this long, although the broker is available, hangs: it is ended and restarted. By default five times `report_every`, and at least 5 min; `"0s"`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_max: Option<Period>,
}

impl Settings {
    /// How long a stream instance may send no report while the broker is available; zero: for ever.
    pub fn silence_max(&self) -> Duration {
        let reports = self.stream_manager.report_every.duration() * SILENT_REPORTS_MAX;
        let default = reports.max(SILENCE_MAX_MIN).max(self.silence_max_min());
        self.stream_manager.silence_max.map_or(default, Period::duration)
    }

    /// The least valid `silence_max`: within this time, a broker that was lost silently still counts as available.
    pub fn silence_max_min(&self) -> Duration {
        2 * (self.stream_manager.report_every.duration()
            + self.broker.keep_alive.duration().max(KEEP_ALIVE_MIN))
    }
}

impl Default for StreamManager {
    fn default() -> Self {
        Self {
            report_every: Period::seconds(60),
            instances_max: 16,
            backoff_first: Period::seconds(1),
            backoff_max: Period::seconds(60),
            restarts_max: 10,
            stop_grace: Period::seconds(10),
            drain_quiet: Period::seconds(2),
            silence_max: None,
        }
    }
}
