//! The identity of an ingestion and of each record in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use blake3::{Hash, Hasher};

use crate::client::ClientId;

/// The identity of one content of one client: the first 16 bytes of BLAKE3(BLAKE3(content) ‖ client id).
///
/// It uses the content's hash and not the content, because the hash is needed anyway: the content is hashed once.
///
/// If the same client drops the same bytes again, under any name, they are the same ingestion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IngestionId([u8; 16]);

/// The text is not an ingestion id.
#[derive(Debug, thiserror::Error)]
#[error("invalid ingestion id {0:?}: expected 32 hexadecimal digits in lower case")]
pub struct IngestionIdError(String);

impl IngestionId {
    /// The id that content with this hash has for this client.
    pub fn new(client: &ClientId, content: &Hash) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(content.as_bytes());
        hasher.update(client.as_str().as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }

    /// Uses these bytes as the id of an object that is not an ingested file.
    pub const fn of_object(id: [u8; 16]) -> Self {
        Self(id)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The `_id` of record number `record`, counted from 0 over the whole file.
    ///
    /// The first half is the ingestion, the second the number in big-endian: the ids of one file increase, and MongoDB
    /// inserts increasing ids into its index nearly twice as fast as random ones.
    pub fn record_id(&self, record: u64) -> RecordId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.0[..8]);
        id[8..].copy_from_slice(&record.to_be_bytes());
        RecordId(id)
    }
}

/// A 16-byte `_id`, as BSON binary of the generic subtype: 8 bytes of identity, then a number.
///
/// It identifies a record under `ids: "platform"`, a numbered message, or a block of received numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub [u8; 16]);

impl RecordId {
    /// The number in the second half.
    pub fn number(&self) -> u64 {
        let mut number = [0; 8];
        number.copy_from_slice(&self.0[8..]);
        u64::from_be_bytes(number)
    }
}

impl From<RecordId> for bson::Binary {
    fn from(id: RecordId) -> Self {
        bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: id.0.to_vec() }
    }
}

impl fmt::Display for IngestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IngestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IngestionId({self})")
    }
}

impl FromStr for IngestionId {
    type Err = IngestionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || IngestionIdError(text.to_owned());
        let digits = text.as_bytes();
        if digits.len() != 32 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error());
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| error())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl TryFrom<String> for IngestionId {
    type Error = IngestionIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<IngestionId> for String {
    fn from(id: IngestionId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client: &str, content: &[u8]) -> IngestionId {
        let client = client.parse().expect("client id");
        IngestionId::new(&client, &blake3::hash(content))
    }

    #[test]
    fn the_same_content_of_another_client_is_another_ingestion() {
        assert_eq!(id("a", b"x"), id("a", b"x"));
        assert_ne!(id("a", b"x"), id("b", b"x"));
        assert_ne!(id("a", b"bc"), id("ab", b"c"));
    }

    #[test]
    fn record_ids_increase_with_the_record_number() {
        let ingestion = id("a", b"x");
        let numbers = [0, 1, 255, 256, 1 << 40, u64::MAX];
        for pair in numbers.windows(2) {
            assert!(ingestion.record_id(pair[0]) < ingestion.record_id(pair[1]));
        }
        assert_eq!(ingestion.record_id(1 << 40).number(), 1 << 40);
    }

    #[test]
    fn the_text_form_round_trips_and_nothing_else_is_accepted() {
        let ingestion = id("a", b"x");
        assert_eq!(ingestion.to_string().parse::<IngestionId>().ok(), Some(ingestion));
        for bad in ["", "..", "+1", &"A".repeat(32), &"+".repeat(32), &"0".repeat(31)] {
            assert!(bad.parse::<IngestionId>().is_err(), "{bad:?}");
        }
    }
}
