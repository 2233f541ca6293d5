//! What a stream instance announces about the documents that it has stored, so that readers need not ask the store.
//!
//! Announcements may be lost. Each process numbers its own, so whoever reads them notices: a number is missing, or a process
//! is heard for the first time, or no longer at least every [`ANNOUNCE_EVERY`].

use std::time::Duration;

use bson::{RawDocument, RawDocumentBuf};
use serde::{Deserialize, Serialize};

/// A process that has nothing to announce shows this often that it still would.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);

/// The most bytes of documents in an announcement: with the rest it is below the limit for signals.
pub const ANNOUNCED_BYTES_MAX: usize = 60 * 1024;

/// The version that this build writes.
const VERSION: i32 = 1;

/// Documents that are durable. The message is one BSON document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    pub version: i32,
    /// Identifies the process: a new one for each start.
    pub process: String,
    /// Counts the announcements of the process, from 1. One that could not be sent has a number too.
    pub number: i64,
    /// As they are stored, in the order in which they were written.
    pub documents: Vec<RawDocumentBuf>,
}

impl Announcement {
    pub fn new(process: impl Into<String>, number: i64, documents: Vec<RawDocumentBuf>) -> Self {
        Self { version: VERSION, process: process.into(), number, documents }
    }

    /// The bytes that a document takes of [`ANNOUNCED_BYTES_MAX`].
    pub fn bytes(document: &RawDocument) -> usize {
        // Each has a type and a position, in digits.
        document.as_bytes().len() + 8
    }

    /// # Errors
    ///
    /// The documents are too large for one.
    pub fn to_bytes(&self) -> bson::error::Result<Vec<u8>> {
        bson::serialize_to_vec(self)
    }

    /// Reads what a process has published.
    ///
    /// # Errors
    ///
    /// The bytes are not an announcement.
    pub fn parse(payload: &[u8]) -> bson::error::Result<Self> {
        bson::deserialize_from_slice(payload)
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn documents_arrive_as_they_were() {
        let documents = vec![rawdoc! { "_id": 1, "$date": 5_i64, "t": bson::DateTime::MAX }, rawdoc! {}];
        let announcement = Announcement::new("p", 7, documents);
        let bytes = announcement.to_bytes().expect("bytes");
        assert_eq!(Announcement::parse(&bytes).expect("an announcement"), announcement);
        Announcement::parse(&bytes[..bytes.len() - 1]).expect_err("cut off");
        Announcement::parse(b"{}").expect_err("JSON");
    }

    #[test]
    fn a_full_announcement_is_a_signal() {
        let document = rawdoc! { "text": "x".repeat(1000) };
        let count = ANNOUNCED_BYTES_MAX / document.as_bytes().len();
        let announcement = Announcement::new("0123456789abcdef", i64::MAX, vec![document; count]);
        assert!(announcement.to_bytes().expect("bytes").len() < 64 * 1024);
        // Names of elements in the list cost more, the smaller the documents are.
        let document = rawdoc! {};
        let count = ANNOUNCED_BYTES_MAX / Announcement::bytes(&document);
        let announcement = Announcement::new("0123456789abcdef", i64::MAX, vec![document; count]);
        assert!(announcement.to_bytes().expect("bytes").len() < 64 * 1024);
    }
}
