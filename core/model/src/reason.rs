//! Why a file is where it is: `reason.json` beside a discarded or held file.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of reason it is, for programs. The names are stable: `reason.json`, messages and the history have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// A directory, symlink, FIFO, socket or device.
    NotAFile,
    NameNotUtf8,
    NameTooLong,
    /// The name matches neither the pattern nor a glob that it must match.
    NameNotAllowed,
    UnknownExtension,
    FileTooLarge,
    /// It lies in a folder that is no configured client's.
    UnknownClient,
    /// Dropped by its name, which no client's globs match.
    NoClient,
    /// Dropped by its name, which the globs of several clients match.
    SeveralClients,
    /// No app of its client takes it.
    NoApp,
    Empty,
    /// A NUL, or bytes that are not text in the encoding of the client's files.
    InvalidEncoding,
    /// A quote in a CSV file where none may be, or none where one must be.
    InvalidQuotes,
    /// The fields of a CSV file are separated by something else than commas.
    WrongSeparator,
    HeaderTooLarge,
    HeaderMissing,
    /// The header is not the one that the config names.
    HeaderMismatch,
    HeaderDuplicate,
    /// Lines come before the header.
    HeaderNotFirst,
    /// Not a JSON array, or not NDJSON.
    InvalidJson,
    /// The same content has been ingested before.
    Duplicate,
    /// It was to replace what its content has stored, and cannot.
    NotReplaceable,
    /// Its writer went on after it was taken.
    ChangedLater,
    /// What is staged is not what was dropped any more.
    Damaged,
    /// The app says that the data are wrong.
    DataRefused,
    /// The app failed too often: it crashed, was too slow, or cannot be started.
    AppFailed,
    /// What the app says it did is not what was found.
    AppNotBelieved,
    /// More records were rejected than `rejects_max` allows.
    TooManyRejects,
    /// By a later version than this one.
    #[serde(other)]
    Other,
}

impl ReasonCode {
    pub fn because(self, text: impl Into<String>) -> Objection {
        Objection { code: self, text: text.into() }
    }
}

/// One reason against a file: for programs, and for people.
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

/// All of them in one line.
pub fn joined(objections: &[Objection]) -> String {
    texts(objections).join("; ")
}

pub fn texts(objections: &[Objection]) -> Vec<String> {
    objections.iter().map(|objection| objection.text.clone()).collect()
}

pub fn codes(objections: &[Objection]) -> Vec<ReasonCode> {
    objections.iter().map(|objection| objection.code).collect()
}

/// What validation, or the app, had to say. Written once, read by people and by `mysimbdp status` and `retry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The name under which it was dropped, escaped where it is not plain text.
    pub file: String,
    pub client: Option<String>,
    pub ingestion: Option<String>,
    /// Where `mysimbdp retry` returns it to, relative to the data root.
    pub dropped_at: String,
    pub bytes: u64,
    pub received_at: Timestamp,
    pub decided_at: Timestamp,
    /// All of them, not just the first.
    pub reasons: Vec<String>,
    /// The kind of each, in the same order; none in those of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<ReasonCode>,
}

impl Reason {
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
