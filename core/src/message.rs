//! What the processes tell each other over MQTT. `docs/asyncapi.yaml` documents these types.
//!
//! All of it comes from outside: [`Staged::parse`] and [`Report::parse`] take bytes and say what is wrong with them.

use serde::{Deserialize, Serialize};

use crate::client::ClientId;
use crate::ingestion::IngestionId;
use crate::manifest::Lane;
use crate::outcome::{Counts, FinalState};

/// The version that this build writes.
pub const VERSION: u32 = 1;

/// A file has been staged: the bell that batch-manager hears. Losing it costs latency, never data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Staged {
    pub version: u32,
    pub client_id: ClientId,
    pub ingestion: IngestionId,
    /// Path of the manifest, relative to the data root.
    pub manifest: String,
    pub micro_batches: u32,
    pub bytes: u64,
    pub lane: Lane,
}

impl Staged {
    /// The client to look at. A bare client id is accepted too: look at that client now.
    pub fn parse(payload: &[u8]) -> Result<ClientId, MessageError> {
        let text = std::str::from_utf8(payload).map_err(|_| MessageError::NotText)?.trim();
        if text.starts_with('{') {
            let staged: Self = serde_json::from_str(text).map_err(MessageError::Json)?;
            return Ok(staged.client_id);
        }
        text.trim_matches('"').parse().map_err(MessageError::Client)
    }
}

/// An ingestion has ended. Published at least once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub version: u32,
    pub client_id: ClientId,
    pub ingestion: IngestionId,
    pub file: String,
    pub bytes: u64,
    pub micro_batches: u32,
    #[serde(flatten)]
    pub counts: Counts,
    pub seconds: f64,
    pub state: FinalState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a stream instance did in one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub client_name: ClientId,
    /// Mean seconds from a message's arrival to its acknowledgement.
    pub average_processing_time: f64,
    pub total_number_of_messages_ingested: u64,
    pub total_size_of_messages_ingested: u64,
    /// Slot of the instance that reports; absent in the array form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Seconds that the report covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<f64>,
    /// Share of the interval in which the instance was storing, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f64>,
    #[serde(default)]
    pub rejected: u64,
    /// Messages received and not yet acknowledged.
    #[serde(default)]
    pub backlog: u64,
}

impl Report {
    /// Reads either form: the object, or the array `[client_name, avg seconds, messages, bytes]`.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Object(Report),
            Array(ClientId, f64, u64, u64),
        }
        let report = match serde_json::from_slice(payload) {
            Ok(Form::Object(report)) => report,
            Ok(Form::Array(client_name, average_processing_time, messages, bytes)) => Self {
                client_name,
                average_processing_time,
                total_number_of_messages_ingested: messages,
                total_size_of_messages_ingested: bytes,
                instance: None,
                interval: None,
                utilization: None,
                rejected: 0,
                backlog: 0,
            },
            Err(_) => return Err(MessageError::Report),
        };
        report.check()?;
        Ok(report)
    }

    fn check(&self) -> Result<(), MessageError> {
        let seconds = |name, value: f64| {
            if (0.0..=86_400.0).contains(&value) { Ok(()) } else { Err(MessageError::Range { name, value }) }
        };
        seconds("average_processing_time", self.average_processing_time)?;
        seconds("interval", self.interval.unwrap_or(0.0))?;
        match self.utilization {
            Some(value) if !(0.0..=1.0).contains(&value) => {
                Err(MessageError::Range { name: "utilization", value })
            }
            _ => Ok(()),
        }
    }
}

/// The payload is not what its topic promises; it changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("payload is not UTF-8")]
    NotText,
    #[error("payload is not valid JSON of its kind")]
    Json(#[source] serde_json::Error),
    #[error("payload names no client")]
    Client(#[source] crate::client::ClientIdError),
    #[error(
        "payload is no report: allowed are an object with client_name, average_processing_time, \
         total_number_of_messages_ingested and total_size_of_messages_ingested, or the array of these four"
    )]
    Report,
    #[error("{name} is {value}, which is out of range")]
    Range { name: &'static str, value: f64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_taken_in_both_forms() {
        let array = Report::parse(br#"["client1", 0.25, 10, 2000]"#).expect("array");
        let object = Report::parse(
            br#"{"client_name":"client1","average_processing_time":0.25,
                "total_number_of_messages_ingested":10,"total_size_of_messages_ingested":2000}"#,
        )
        .expect("object");
        assert_eq!(array, object);
    }

    #[test]
    fn forged_reports_are_refused() {
        for forged in [
            "",
            "[]",
            "{}",
            "null",
            r#"["client1", -1, 10, 2000]"#,
            r#"["client1", 1e400, 10, 2000]"#,
            r##"["#", 0.1, 10, 2000]"##,
            r#"["client1", 0.1, -10, 2000]"#,
            "__import__('os')",
            r#"["client1", 0.1, 10]"#,
        ] {
            assert!(Report::parse(forged.as_bytes()).is_err(), "{forged}");
        }
    }

    #[test]
    fn staged_is_taken_as_an_object_or_a_bare_client_id() {
        for payload in ["client1", "\"client1\"", " client1\n"] {
            assert_eq!(Staged::parse(payload.as_bytes()).map(String::from).ok().as_deref(), Some("client1"));
        }
        for forged in ["", "../x", "{}", "{\"client_id\":\"a\"}", "#"] {
            assert!(Staged::parse(forged.as_bytes()).is_err(), "{forged}");
        }
    }
}
