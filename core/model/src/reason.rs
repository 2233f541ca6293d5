//! Why a file was discarded or held: `reason.json` beside the file.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The kind of a reason, for programs. The names are stable: `reason.json`, messages and the history use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// A directory, symlink, FIFO, socket or device.
    NotAFile,
    NameNotUtf8,
    NameTooLong,
    /// The name does not match the pattern, or matches none of the globs.
    NameNotAllowed,
    UnknownExtension,
    FileTooLarge,
    /// It is in a folder that belongs to no configured client.
    UnknownClient,
    /// Dropped to be routed by its name, which no client's globs match.
    NoClient,
    /// Dropped to be routed by its name, which the globs of several clients match.
    SeveralClients,
    /// No app of its client processes it.
    NoApp,
    Empty,
    /// A NUL, or bytes that are not text in the encoding of the client's files.
    InvalidEncoding,
    /// A CSV file has a quote where none is allowed, or lacks a required one.
    InvalidQuotes,
    /// The fields of a CSV file are not separated by commas.
    WrongSeparator,
    HeaderTooLarge,
    HeaderMissing,
    /// The header is not the configured one.
    HeaderMismatch,
    HeaderDuplicate,
    /// There are lines before the header.
    HeaderNotFirst,
    /// Not a JSON array, or not NDJSON.
    InvalidJson,
    /// The same content has been ingested before.
    Duplicate,
    /// It was to replace the records stored from its content, and cannot.
    NotReplaceable,
    /// Its writer continued to write after intake had taken it.
    ChangedLater,
    /// The staged bytes are no longer those that were dropped.
    Damaged,
    /// The app reports that the data are wrong.
    DataRefused,
    /// The app failed too often: it crashed, was too slow, or cannot be started.
    AppFailed,
    /// The app's report does not match what was found in the store.
    AppNotBelieved,
    /// More records were rejected than `rejects_max` allows.
    TooManyRejects,
    /// A code of a later version than this one.
    #[serde(other)]
    Other,
}

impl ReasonCode {
    /// The name in documents, messages and metrics.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    pub fn because(self, text: impl Into<String>) -> Objection {
        Objection { code: self, text: text.into() }
    }
}

/// One reason against a file: a code for programs, and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    pub code: ReasonCode,
    pub text: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// All texts in one line.
pub fn joined(objections: &[Objection]) -> String {
    texts(objections).join("; ")
}

pub fn texts(objections: &[Objection]) -> Vec<String> {
    objections.iter().map(|objection| objection.text.clone()).collect()
}

pub fn codes(objections: &[Objection]) -> Vec<ReasonCode> {
    objections.iter().map(|objection| objection.code).collect()
}

/// The file `reason.json`: why validation discarded a file, or the app's failure caused it to be held. Written once; read by
/// people and by `mysimbdp status` and `retry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasonFile {
    /// The name of the dropped file, escaped if it is not plain text.
    pub file: String,
    pub client: Option<String>,
    pub ingestion: Option<String>,
    /// Where `mysimbdp retry` returns the file to, relative to the data root.
    pub dropped_at: String,
    pub bytes: u64,
    pub received_at: Timestamp,
    pub decided_at: Timestamp,
    /// All of them, not just the first.
    pub reasons: Vec<String>,
    /// The kind of each reason, in the same order; empty in files of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<ReasonCode>,
}

impl ReasonFile {
    pub const FILE: &'static str = "reason.json";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_stable_names_and_later_ones_are_readable() {
        let json = serde_json::to_string(&[ReasonCode::NotAFile, ReasonCode::NameNotUtf8]).expect("JSON");
        assert_eq!(json, r#"["not_a_file","name_not_utf8"]"#);
        let later: Vec<ReasonCode> = serde_json::from_str(r#"["from_the_future","empty"]"#).expect("codes");
        assert_eq!(later, [ReasonCode::Other, ReasonCode::Empty]);
    }
}
