//! The messages between the processes over MQTT. `docs/asyncapi.yaml` documents these types.
//!
//! Bytes from outside are validated: [`Staged::parse`], [`Report::parse`] and [`Receipt::parse`] tell what is wrong
//! with them.

use serde::{Deserialize, Serialize};

use crate::client::ClientId;
use crate::ingestion::IngestionId;
use crate::layout::Layout;
use crate::manifest::{Lane, Manifest};
use crate::outcome::{Counts, FinalState};
use crate::reason::ReasonCode;
use crate::source::SourceName;

/// The version that this build writes.
pub const VERSION: u32 = 1;

/// A file has been staged: this notifies batch-manager. Losing it costs latency, never data.
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
    /// The message about a staged file.
    pub fn of(layout: &Layout, manifest: &Manifest) -> Self {
        let path = layout.staged(&manifest.client, manifest.ingestion).join(Layout::MANIFEST);
        Self {
            version: VERSION,
            client_id: manifest.client.clone(),
            ingestion: manifest.ingestion,
            manifest: path.strip_prefix(layout.root()).unwrap_or(&path).display().to_string(),
            micro_batches: manifest.micro_batches.len() as u32,
            bytes: manifest.bytes,
            lane: manifest.lane,
        }
    }

    /// Returns the client and the ingestion to process. A bare client id is accepted too: it means all that is staged for it.
    pub fn parse(payload: &[u8]) -> Result<(ClientId, Option<IngestionId>), MessageError> {
        let text = std::str::from_utf8(payload).map_err(|_| MessageError::NotText)?.trim();
        if text.starts_with('{') {
            let staged: Self = serde_json::from_str(text).map_err(MessageError::Json)?;
            return Ok((staged.client_id, Some(staged.ingestion)));
        }
        let client = text.trim_matches('"').parse().map_err(MessageError::Client)?;
        Ok((client, None))
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
    /// The kinds of the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<ReasonCode>,
}

/// What a stream instance did in one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub client_name: ClientId,
    /// Mean seconds from a message's arrival to its acknowledgement.
    pub average_processing_time: f64,
    pub total_number_of_messages_ingested: u64,
    pub total_size_of_messages_ingested: u64,
    /// Slot of the reporting instance; absent in the array form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Seconds that the report covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<f64>,
    /// Share of the interval in which the instance was storing, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f64>,
    /// Of the ingested messages, those that were new; `duplicates` counts those that were stored already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<u64>,
    #[serde(default)]
    pub rejected: u64,
    /// Messages received and not yet acknowledged.
    #[serde(default)]
    pub backlog: u64,
}

impl Report {
    /// A report covers a day at most, and no message takes longer than a day.
    pub const SECONDS_MAX: f64 = 86_400.0;

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
                stored: None,
                duplicates: None,
                rejected: 0,
                backlog: 0,
            },
            Err(_) => return Err(MessageError::Report),
        };
        report.check()?;
        Ok(report)
    }

    /// Whether each ingested message is either stored or a duplicate. True also if the report does not distinguish them.
    pub fn balances(&self) -> bool {
        match (self.stored, self.duplicates) {
            (Some(stored), Some(duplicates)) => {
                stored.checked_add(duplicates) == Some(self.total_number_of_messages_ingested)
            }
            _ => true,
        }
    }

    fn check(&self) -> Result<(), MessageError> {
        let seconds = |name, value: f64| {
            if (0.0..=Self::SECONDS_MAX).contains(&value) {
                Ok(())
            } else {
                Err(MessageError::Range { name, value })
            }
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

/// How far the messages of a numbered source are stored. Retained; a later one may arrive before an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub version: u32,
    pub client_id: ClientId,
    pub source: SourceName,
    /// In decimal digits, as in the messages: many languages cannot represent a JSON number of 64 bits.
    #[serde(with = "decimal")]
    pub epoch: u64,
    /// All numbers from 1 to this one are stored, rejected or lost for good; 0: none yet.
    pub stored_through: u64,
    /// Numbers after it that are received too, as `[first, last]`, ascending and not touching; the first
    /// [`Receipt::RANGES_MAX`] of them.
    #[serde(default)]
    pub stored: Vec<(u64, u64)>,
    /// Numbers to send again, as `[first, last]`, ascending and not touching.
    #[serde(default)]
    pub missing: Vec<(u64, u64)>,
    /// The highest received number, even after a gap; absent in receipts of older apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
}

impl Receipt {
    /// The most ranges in one receipt; further ones follow in later receipts.
    pub const RANGES_MAX: usize = 256;

    /// Reads a receipt.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if it is not a receipt, or its ranges are not ascending or lie below `stored_through`.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let receipt: Self = serde_json::from_slice(payload).map_err(MessageError::Json)?;
        for ranges in [&receipt.stored, &receipt.missing] {
            let mut before = receipt.stored_through;
            for &(first, last) in ranges {
                if first <= before || last < first {
                    return Err(MessageError::Ranges);
                }
                before = last;
            }
        }
        Ok(receipt)
    }
}

/// A number of 64 bits as a JSON string of decimal digits.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            de::Error::custom(format_args!("invalid number {text:?}: expected an unsigned 64-bit integer"))
        })
    }
}

/// The payload is not valid for its topic; it is ignored.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("payload is not UTF-8")]
    NotText,
    #[error("cannot parse the payload")]
    Json(#[source] serde_json::Error),
    #[error("payload names no client")]
    Client(#[source] crate::client::ClientIdError),
    #[error(
        "payload is not a report: expected an object with client_name, average_processing_time, \
         total_number_of_messages_ingested and total_size_of_messages_ingested, or an array of these four values"
    )]
    Report,
    #[error("ranges are not ascending, or lie below the stored numbers")]
    Ranges,
    #[error("{name} is {value}, which is out of range")]
    Range { name: &'static str, value: f64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_accepted_in_both_forms() {
        let array = Report::parse(br#"["client1", 0.25, 10, 2000]"#).expect("array");
        let object = Report::parse(
            br#"{"client_name":"client1","average_processing_time":0.25,
                "total_number_of_messages_ingested":10,"total_size_of_messages_ingested":2000}"#,
        )
        .expect("object");
        assert_eq!(array, object);
    }

    #[test]
    fn a_report_balances_or_does_not() {
        let report = |counts: &str| {
            let text = format!(
                r#"{{"client_name":"client1","average_processing_time":0.25,
                    "total_number_of_messages_ingested":10,"total_size_of_messages_ingested":2000{counts}}}"#
            );
            Report::parse(text.as_bytes()).expect("object")
        };
        for (counts, balances) in [
            ("", true),
            (r#","stored":7,"duplicates":3"#, true),
            (r#","stored":7"#, true),
            (r#","stored":7,"duplicates":2"#, false),
            (r#","stored":18446744073709551615,"duplicates":11"#, false),
        ] {
            assert_eq!(report(counts).balances(), balances, "{counts}");
        }
    }

    #[test]
    fn invalid_reports_are_refused() {
        for invalid in [
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
            assert!(Report::parse(invalid.as_bytes()).is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_valid_receipt_is_read_and_an_invalid_one_is_refused() {
        let text = r#"{"version":1,"client_id":"a","source":"s","epoch":"18446744073709551615",
            "stored_through":7,"stored":[[9,9],[12,20]],"missing":[[8,8],[10,11]]}"#;
        let receipt = Receipt::parse(text.as_bytes()).expect("receipt");
        assert_eq!((receipt.epoch, receipt.stored_through, receipt.seen), (u64::MAX, 7, None));
        let with_seen = text.replacen(r#""missing""#, r#""seen":4711,"missing""#, 1);
        assert_eq!(Receipt::parse(with_seen.as_bytes()).expect("receipt").seen, Some(4711));
        let written = serde_json::to_vec(&receipt).expect("JSON");
        assert_eq!(Receipt::parse(&written).expect("its own form"), receipt);
        for (good, invalid) in [
            (r#""18446744073709551615""#, "1"),
            (r#""18446744073709551615""#, r#""-1""#),
            (r#""source":"s""#, r#""source":"a/b""#),
            ("[[9,9]", "[[7,9]"),
            ("[[8,8]", "[[9,8]"),
            ("[10,11]", "[8,11]"),
            (r#""missing""#, r#""seen":-1,"missing""#),
            (r#""stored_through":7,"#, ""),
        ] {
            assert!(Receipt::parse(text.replacen(good, invalid, 1).as_bytes()).is_err(), "{invalid}");
        }
    }

    #[test]
    fn staged_is_accepted_as_an_object_or_a_bare_client_id() {
        for payload in ["client1", "\"client1\"", " client1\n"] {
            let (client, ingestion) = Staged::parse(payload.as_bytes()).expect(payload);
            assert_eq!((client.as_str(), ingestion), ("client1", None));
        }
        let ingestion = "00112233445566778899aabbccddeeff";
        let text = format!(
            r#"{{"version":1,"client_id":"client1","ingestion":"{ingestion}","manifest":"m","micro_batches":1,
                "bytes":1,"lane":"live"}}"#
        );
        let (client, named) = Staged::parse(text.as_bytes()).expect("an object");
        assert_eq!((client.as_str(), named), ("client1", ingestion.parse().ok()));
        for invalid in ["", "../x", "{}", "{\"client_id\":\"a\"}", "#"] {
            assert!(Staged::parse(invalid.as_bytes()).is_err(), "{invalid}");
        }
    }
}
