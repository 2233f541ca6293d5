//! The contract between the platform and a client's app: environment, lines on stdout, exit codes.
//!
//! `docs/app-contract.md` describes the same for people who write apps in any language.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::column::ColumnValues;

/// Names of the environment variables that an app gets. It inherits only `PATH` and the TLS trust settings; the app's
/// `env` in the config is added.
pub mod env {
    pub const CLIENT_ID: &str = "MYSIMBDP_CLIENT_ID";
    pub const COREDMS: &str = "MYSIMBDP_COREDMS";
    pub const DATABASE: &str = "MYSIMBDP_DATABASE";
    /// The collection for the app's records, as the config names it.
    pub const COLLECTION: &str = "MYSIMBDP_COLLECTION";
    /// How records get their `_id`: `platform`, `key`, `object` or `none`.
    pub const IDS: &str = "MYSIMBDP_IDS";
    /// With `ids: "key"`: the names of the key fields, separated by commas.
    pub const RECORD_KEY: &str = "MYSIMBDP_RECORD_KEY";

    pub const INGESTION: &str = "MYSIMBDP_INGESTION";
    pub const FILE: &str = "MYSIMBDP_FILE";
    pub const FORMAT: &str = "MYSIMBDP_FORMAT";
    pub const ENCODING: &str = "MYSIMBDP_ENCODING";
    pub const BATCH_INDEX: &str = "MYSIMBDP_BATCH_INDEX";
    pub const BATCH_COUNT: &str = "MYSIMBDP_BATCH_COUNT";
    pub const FIRST_RECORD: &str = "MYSIMBDP_FIRST_RECORD";
    pub const RECORDS: &str = "MYSIMBDP_RECORDS";
    /// Offset of the unit's first byte in the file, not counting the prefix.
    pub const OFFSET: &str = "MYSIMBDP_OFFSET";
    /// Number of bytes on stdin, prefix included.
    pub const LENGTH: &str = "MYSIMBDP_LENGTH";
    /// Size of the whole file in bytes.
    pub const FILE_BYTES: &str = "MYSIMBDP_FILE_BYTES";
    pub const RECEIVED_AT: &str = "MYSIMBDP_RECEIVED_AT";
    pub const ATTEMPT: &str = "MYSIMBDP_ATTEMPT";
    /// `ingest`, or `join` for the unit that commits what the ranges have stored.
    pub const PHASE: &str = "MYSIMBDP_PHASE";
    /// For a CSV file: the types of its columns, as JSON; absent if all of them are text.
    pub const COLUMNS: &str = "MYSIMBDP_COLUMNS";
    /// The time of this run; set only if the run replaces what earlier runs of the content have stored.
    pub const REPLACE: &str = "MYSIMBDP_REPLACE";
    /// `stdin` or `worker`.
    pub const PROTOCOL: &str = "MYSIMBDP_PROTOCOL";

    pub const BROKER: &str = "MYSIMBDP_BROKER";
    pub const TOPIC_FILTER: &str = "MYSIMBDP_TOPIC_FILTER";
    pub const REPORT_TOPIC: &str = "MYSIMBDP_REPORT_TOPIC";
    /// With `/<source>` appended: the topic for that source's receipts, which say how far its messages are stored.
    pub const RECEIPT_TOPIC: &str = "MYSIMBDP_RECEIPT_TOPIC";
    /// How long a number may be missing before it is requested.
    pub const GAP_DELAY_MILLIS: &str = "MYSIMBDP_GAP_DELAY_MILLIS";
    /// Topic for the retained status of this instance, and for its MQTT will.
    pub const INSTANCE_TOPIC: &str = "MYSIMBDP_INSTANCE_TOPIC";
    /// The fixed MQTT client id of the slot.
    pub const INSTANCE: &str = "MYSIMBDP_INSTANCE";
    pub const SLOT: &str = "MYSIMBDP_SLOT";
    pub const REPORT_SECONDS: &str = "MYSIMBDP_REPORT_SECONDS";
    /// Where an instance announces what it has stored; absent if nobody wants to know.
    pub const STORED_TOPIC: &str = "MYSIMBDP_STORED_TOPIC";
    /// Keep-alive of the connection to the broker.
    pub const KEEP_ALIVE_SECONDS: &str = "MYSIMBDP_KEEP_ALIVE_SECONDS";
    pub const BATCH_MESSAGES: &str = "MYSIMBDP_BATCH_MESSAGES";
    pub const BATCH_MILLIS: &str = "MYSIMBDP_BATCH_MILLIS";
    pub const DRAIN_QUIET_MILLIS: &str = "MYSIMBDP_DRAIN_QUIET_MILLIS";
    /// Set in the stream's `env`: the message's own fields that number it, three names separated by commas.
    pub const NUMBER_FIELDS: &str = "MYSIMBDP_NUMBER_FIELDS";
    /// The structure of the client's messages, a JSON Schema; absent if every JSON object is accepted.
    pub const MESSAGE_SCHEMA: &str = "MYSIMBDP_MESSAGE_SCHEMA";
    pub const REJECTED_COLLECTION: &str = "MYSIMBDP_REJECTED_COLLECTION";
}

/// What an app gets at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitKind {
    /// The prefix and one micro-batch.
    #[default]
    MicroBatch,
    /// The whole file, byte for byte.
    File,
    /// Raw ranges at multiples of the GridFS chunk size, in parallel; then one more unit with the phase `join`.
    Range,
}

/// How a unit reaches the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// One process per unit; the unit arrives on stdin.
    #[default]
    Stdin,
    /// One process gets unit after unit, each as a JSON header line followed by exactly `length` bytes.
    Worker,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Worker => "worker",
        }
    }
}

/// Where the `_id` of a record comes from, which decides what a repeat does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// Ingestion and record number: each record exactly once.
    #[default]
    Platform,
    /// The client's `record_key` fields: a newer record replaces an older one, never the reverse.
    Key,
    /// A GridFS file whose id is the ingestion.
    Object,
    /// The app's own ids: stored at least once, and the history says `audited: false`.
    None,
}

impl Ids {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Key => "key",
            Self::Object => "object",
            Self::None => "none",
        }
    }
}

/// Which part of the work a unit requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    #[default]
    Ingest,
    Join,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Join => "join",
        }
    }
}

/// Describes a unit: in the environment of a `stdin` app, or in the header line for a `worker`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitHeader {
    pub client_id: String,
    pub ingestion: String,
    pub file: String,
    pub format: crate::manifest::Format,
    pub encoding: String,
    pub batch_index: u32,
    pub batch_count: u32,
    pub first_record: u64,
    pub records: u64,
    pub offset: u64,
    /// Number of bytes that follow: prefix and range.
    pub length: u64,
    pub file_bytes: u64,
    pub received_at: jiff::Timestamp,
    pub attempt: u32,
    pub phase: Phase,
    /// The types of a CSV file's columns, by position; a column that is not listed is text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnValues>,
    /// The time of this run, if it replaces what earlier runs of the content have stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<jiff::Timestamp>,
}

impl UnitHeader {
    /// The header as environment variables.
    pub fn to_env(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            (env::CLIENT_ID, self.client_id.clone()),
            (env::INGESTION, self.ingestion.clone()),
            (env::FILE, self.file.clone()),
            (env::FORMAT, self.format.as_str().to_owned()),
            (env::ENCODING, self.encoding.clone()),
            (env::BATCH_INDEX, self.batch_index.to_string()),
            (env::BATCH_COUNT, self.batch_count.to_string()),
            (env::FIRST_RECORD, self.first_record.to_string()),
            (env::RECORDS, self.records.to_string()),
            (env::OFFSET, self.offset.to_string()),
            (env::LENGTH, self.length.to_string()),
            (env::FILE_BYTES, self.file_bytes.to_string()),
            (env::RECEIVED_AT, self.received_at.to_string()),
            (env::ATTEMPT, self.attempt.to_string()),
            (env::PHASE, self.phase.as_str().to_owned()),
        ];
        if !self.columns.is_empty() {
            let json = serde_json::to_string(&self.columns).expect("a list of words is JSON");
            pairs.push((env::COLUMNS, json));
        }
        pairs.extend(self.replace.map(|run| (env::REPLACE, run.to_string())));
        pairs
    }
}

/// One line that an app writes to stdout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Line {
    /// The records so far; for people.
    Progress {
        #[serde(default)]
        records: u64,
    },
    /// One record could not be stored; `record` is its number in the whole file.
    Reject { record: u64, reason: String },
    /// With `ids: "key"`: the keys of records that were stored or found, each once per record. Each is relaxed Extended JSON:
    /// the value itself, or an object of the key fields in configured order.
    Keys { keys: Vec<serde_json::Value> },
    /// The last line: the unit is durable.
    Done {
        stored: u64,
        #[serde(default)]
        duplicates: u64,
        #[serde(default)]
        rejected: u64,
    },
    /// Worker only, instead of `done`: this unit failed. With `retry` it is handled like exit 75, otherwise like exit 65.
    Failed { retry: bool, reason: String },
}
