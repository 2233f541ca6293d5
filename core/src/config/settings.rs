//! `config.json` as it is written. From these types come the parser and `docs/config.schema.json`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::{Ids, Protocol, Unit};
use crate::client::ClientId;
use crate::manifest::Format;
use crate::units::{ByteSize, Period};

/// Configuration of mysimbdp.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Path of this schema, for editors.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Where all directories lie; default: the folder of this file.
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
    pub logs: Logs,
    /// The tenants.
    pub clients: Vec<Client>,
}

/// The MQTT broker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// `mqtt://host:port` or `mqtts://host:port`, with `user:password@` where needed. Without it `up` starts the embedded broker. The environment's `MYSIMBDP_BROKER` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// First levels of all topics of the platform.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"))]
    pub topic_prefix: String,
    /// The connection counts as lost after one and a half times this long in silence.
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
    /// `mongodb://…`, `mongodb+srv://…`, or `sqlite:<directory>`. Without it the embedded store below `state/` is used. The environment's `MYSIMBDP_COREDMS` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The platform's own database; each client has `<database>_<client id>`.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_-]{0,29}$"))]
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
    /// Longer names are discarded; in bytes.
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
    /// A file is taken when it has not changed for this long.
    pub settle: Period,
    /// The drop points are walked this often, whatever the watcher says.
    pub scan_every: Period,
    /// Files that are validated, split and staged at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub files_in_parallel: u32,
    pub staging_parts: StagingParts,
}

impl Default for Fetchdata {
    fn default() -> Self {
        Self {
            settle: Period::seconds(1),
            scan_every: Period::seconds(30),
            files_in_parallel: 2,
            staging_parts: StagingParts::Ranges,
        }
    }
}

/// How micro-batches lie in staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StagingParts {
    /// As ranges of the file, which is moved and not copied (on another file system: as files).
    Ranges,
    /// As a file each.
    Files,
}

/// Running the clients' batch apps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchManager {
    /// App processes that work at the same time, over all clients.
    #[schemars(range(min = 1, max = 256))]
    pub units_in_parallel: u32,
    /// Staging is walked this often, whatever the broker says.
    pub scan_every: Period,
    /// A unit that has failed this often is held.
    #[schemars(range(min = 1, max = 100))]
    pub attempts_max: u32,
    /// Wait after the first failure; it doubles with each further one.
    pub backoff_first: Period,
    pub backoff_max: Period,
    /// From SIGTERM to SIGKILL.
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

/// Running the clients' stream apps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamManager {
    /// Each instance reports this often.
    pub report_every: Period,
    /// Instances of all clients together.
    #[schemars(range(min = 1, max = 1024))]
    pub instances_max: u32,
    /// Wait before a crashed instance is started again; it doubles with each further crash.
    pub backoff_first: Period,
    pub backoff_max: Period,
    /// A slot that has crashed this often without once living for `backoff_max` is given up until `start` or `scale`.
    #[schemars(range(min = 1, max = 1000))]
    pub restarts_max: u32,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Period,
    /// A drained instance ends when nothing has come for this long.
    pub drain_quiet: Period,
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
        }
    }
}

/// The log files below `logs/`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    pub level: LogLevel,
    /// Rotated daily, kept this long.
    pub retention: Period,
}

impl Default for Logs {
    fn default() -> Self {
        Self { level: LogLevel::Info, retention: Period::seconds(14 * 86_400) }
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

/// One tenant.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub id: ClientId,
    #[serde(default)]
    pub files: Files,
    /// Where it is given, files larger than a block are split; without it every file is one micro-batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batching: Option<MicroBatching>,
    #[serde(default)]
    pub on_duplicate: OnDuplicate,
    /// Whether `<file>.receipt.json` is written to the drop point at the end.
    #[serde(default)]
    pub receipt: bool,
    /// How long an ingested file is kept in `archive/`; without it the file is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Period>,
    /// Batch apps; a file goes to the first whose `files` match.
    #[serde(default)]
    pub apps: Vec<App>,
    /// Stream apps.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// What coredms itself enforces, by collection.
    #[serde(default)]
    pub collections: BTreeMap<String, Collection>,
}

/// The client's rules for dropped files.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// A name must match one of these; they also route what is dropped without a client's folder.
    pub globs: Vec<String>,
    /// Regular expression that the whole name must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Allowed extensions, without the dot; compared without case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<String>>,
    /// In addition to the generic limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes_max: Option<ByteSize>,
    /// In addition to the generic limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 255))]
    pub file_name_bytes_max: Option<u32>,
    /// Names of the columns that a CSV file must have, in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Vec<String>>,
    pub encoding: Encoding,
    /// In place of the generic `settle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<Period>,
    /// With it `x.csv` is taken only when `x.csv.done` lies beside it, which is then removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\.[A-Za-z0-9_-]+$"))]
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

/// Encoding of the client's text files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Encoding {
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "iso-8859-1")]
    Latin1,
}

impl Encoding {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Latin1 => "iso-8859-1",
        }
    }
}

/// Splitting of large files.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MicroBatching {
    /// No micro-batch is larger, unless a single record is.
    #[serde(default = "MicroBatching::block_size")]
    pub block_size: ByteSize,
}

impl MicroBatching {
    fn block_size() -> ByteSize {
        ByteSize::bytes(10_000_000)
    }
}

/// What happens to content that this client has already had ingested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDuplicate {
    /// It is discarded; the reason names the first.
    #[default]
    Discard,
    /// It is run again: restores what is missing, adds nothing twice.
    Reload,
}

/// A batch app: any program that keeps the contract.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Unique among the client's apps.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,31}$"))]
    pub name: String,
    /// Globs of the file names it is for.
    #[serde(default = "App::all_files")]
    pub files: Vec<String>,
    /// By default the extension decides: csv; ndjson, jsonl; json; anything else is binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Program and arguments. Without a slash the program is sought beside this executable, then on the PATH; a path with one is relative to the data root.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    #[serde(default)]
    pub unit: Unit,
    #[serde(default)]
    pub protocol: Protocol,
    #[serde(default)]
    pub ids: Ids,
    /// With `ids: "key"`: the fields that identify a record.
    #[serde(default)]
    pub record_key: Vec<String>,
    /// Where the records go; by default named after the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"))]
    pub collection: Option<String>,
    /// Units of this app that run at the same time.
    #[serde(default = "App::concurrency")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: u32,
    /// One unit after the other, in file order.
    #[serde(default)]
    pub ordered: bool,
    /// A unit that takes longer is stopped and counts as failed.
    #[serde(default = "App::timeout")]
    pub timeout: Period,
    /// Additional environment.
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

/// A stream app: any program that keeps the contract.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Unique among the client's streams.
    #[serde(default = "Stream::name")]
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,31}$"))]
    pub name: String,
    /// Program and arguments, sought as for batch apps.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// What it subscribes to; by default `<topic_prefix>/ingest/<client>/#`.
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
    /// Where the messages go; by default named after the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"))]
    pub collection: Option<String>,
    /// The ingest message structure, a JSON Schema; what does not fit goes to the collection `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_schema: Option<serde_json::Value>,
    /// A batch is written when it holds this many messages …
    #[serde(default = "Stream::batch_messages_max")]
    #[schemars(range(min = 1, max = 10000))]
    pub batch_messages_max: u32,
    /// … or when its first message is this old.
    #[serde(default = "Stream::batch_wait_max")]
    pub batch_wait_max: Period,
    /// Additional environment.
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
        Period::millis(20)
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

/// When instances are added and taken away.
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
    /// So many that each is busy for the target share of its time.
    #[default]
    Target,
    /// One more or one less when a report crosses a threshold.
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
    /// Scaled down only to the most that was wanted within this time.
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

/// Up when slow or little was ingested, down when quick or much was; both at once holds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Up above this mean processing time.
    pub up_processing_time: Period,
    /// Up below this many messages per report.
    pub up_messages: u64,
    /// Down below this mean processing time.
    pub down_processing_time: Period,
    /// Down above this many messages per report.
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

/// A collection of the client's database.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// MongoDB's `$jsonSchema`; a document that does not fit is rejected by the store itself.
    pub validator: serde_json::Value,
}
