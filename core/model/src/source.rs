//! Numbered sources of messages. The numbers show which messages are missing, and let each one be stored exactly once.
//!
//! A source has a name and an epoch. The epoch is a random number that is created with the producer's outbox: a producer
//! that restarts its numbering has a new epoch, so its messages are not mistaken for repeats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::client::ClientId;
use crate::ingestion::RecordId;

/// The user properties that number a message.
pub const SOURCE: &str = "source";
pub const EPOCH: &str = "epoch";
pub const SEQUENCE: &str = "seq";

/// The user property of a message without content that reports lost numbers, as `first-last`: the source no longer has them.
pub const GONE: &str = "gone";

/// The number of the first message of an epoch.
pub const FIRST: u64 = 1;

/// A source's name: 1 to 64 characters of `A-Z`, `a-z`, `0-9`, `.`, `-` and `_`, starting with a letter or a digit.
///
/// It becomes an MQTT topic level and part of a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(String);

/// The text is not a source name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid source name {0:?}: expected 1 to 64 characters of A-Z, a-z, 0-9, ., - and _, the first a letter or a digit"
)]
pub struct SourceNameError(String);

impl SourceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceName {
    type Err = SourceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let valid = (1..=64).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if valid { Ok(Self(text.to_owned())) } else { Err(SourceNameError(text.to_owned())) }
    }
}

impl TryFrom<String> for SourceName {
    type Error = SourceNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> Self {
        name.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One numbering of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub name: SourceName,
    pub epoch: u64,
}

impl Source {
    /// The first half of the `_id` of each of its messages: a hash of client, name and epoch.
    pub fn prefix(&self, client: &ClientId) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new();
        // The lengths in front keep (`a`, `bc`) and (`ab`, `c`) apart.
        for text in [client.as_str(), self.name.as_str()] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&self.epoch.to_be_bytes());
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        prefix
    }

    /// The `_id` of message number `sequence`: the prefix, then the number in big-endian.
    ///
    /// As with files, the ids of one source increase, so that the store inserts them into its index fastest.
    pub fn id(&self, client: &ClientId, sequence: u64) -> RecordId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.prefix(client));
        id[8..].copy_from_slice(&sequence.to_be_bytes());
        RecordId(id)
    }
}

/// A message's source and its number there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    pub source: Source,
    pub sequence: u64,
}

/// Why the properties of a message do not number it; the message is rejected for this reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberingError {
    #[error("a numbered message needs source, epoch and seq; missing: {}", .0.join(", "))]
    Incomplete(Vec<&'static str>),
    #[error("a message about lost numbers needs source, epoch and gone")]
    IncompleteLoss,
    #[error(transparent)]
    Source(#[from] SourceNameError),
    #[error("{property} is {text:?}: expected an unsigned 64-bit integer")]
    NotANumber { property: &'static str, text: String },
    #[error("{SEQUENCE} is {0}, but numbers begin at {FIRST}")]
    BelowFirst(u64),
    #[error("{GONE} is {0:?}: expected first-last, ascending, from {FIRST} on")]
    InvalidRange(String),
    #[error("{GONE} is {0:?}: the limit is {limit} numbers", limit = Lost::NUMBERS_MAX)]
    TooManyLost(String),
}

impl Number {
    /// Parses the values of [`SOURCE`], [`EPOCH`] and [`SEQUENCE`]; `None` if the message has none of them.
    ///
    /// # Errors
    ///
    /// The reason to reject the message: it has only some of them, or one of them is invalid.
    pub fn read(texts: [Option<String>; 3]) -> Result<Option<Self>, NumberingError> {
        match texts {
            [None, None, None] => Ok(None),
            [Some(source), Some(epoch), Some(sequence)] => {
                let source = Source { name: source.parse()?, epoch: parse_number(EPOCH, &epoch)? };
                let sequence = parse_number(SEQUENCE, &sequence)?;
                if sequence < FIRST {
                    return Err(NumberingError::BelowFirst(sequence));
                }
                Ok(Some(Self { source, sequence }))
            }
            incomplete => {
                let absent = [SOURCE, EPOCH, SEQUENCE].into_iter().zip(incomplete);
                let absent = absent.filter(|(_, text)| text.is_none()).map(|(name, _)| name);
                Err(NumberingError::Incomplete(absent.collect()))
            }
        }
    }

    /// The `_id` of the message.
    pub fn id(&self, client: &ClientId) -> RecordId {
        self.source.id(client, self.sequence)
    }
}

/// Numbers that a source has lost, so that nobody waits for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub source: Source,
    pub first: u64,
    pub last: u64,
}

impl Lost {
    /// The most numbers in one message. More at once are a mistake or an attack; a source that has lost more sends several.
    pub const NUMBERS_MAX: u64 = 1_000_000;

    /// Parses the values of [`SOURCE`], [`EPOCH`] and [`GONE`].
    ///
    /// # Errors
    ///
    /// The reason to reject the message.
    pub fn read(texts: [Option<String>; 3]) -> Result<Self, NumberingError> {
        let [Some(source), Some(epoch), Some(range)] = texts else {
            return Err(NumberingError::IncompleteLoss);
        };
        let source = Source { name: source.parse()?, epoch: parse_number(EPOCH, &epoch)? };
        let invalid = || NumberingError::InvalidRange(range.clone());
        let (first, last) = range.split_once('-').ok_or_else(invalid)?;
        let (first, last) = (parse_number(GONE, first)?, parse_number(GONE, last)?);
        if first < FIRST || last < first {
            return Err(invalid());
        }
        if last - first >= Self::NUMBERS_MAX {
            return Err(NumberingError::TooManyLost(range));
        }
        Ok(Self { source, first, last })
    }

    /// The value of [`GONE`].
    pub fn range(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }
}

fn parse_number(property: &'static str, text: &str) -> Result<u64, NumberingError> {
    text.parse().map_err(|_| NumberingError::NotANumber { property, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: [&str; 3]) -> Result<Option<Number>, NumberingError> {
        Number::read(texts.map(|text| (text != "-").then(|| text.to_owned())))
    }

    fn number(source: &str, epoch: u64, sequence: u64) -> Number {
        Number { source: Source { name: source.parse().expect("source name"), epoch }, sequence }
    }

    #[test]
    fn a_number_is_complete_or_absent() {
        assert_eq!(read(["-", "-", "-"]), Ok(None));
        assert_eq!(read(["s", "18446744073709551615", "1"]), Ok(Some(number("s", u64::MAX, 1))));
        let reason = read(["s", "-", "1"]).expect_err("no epoch").to_string();
        assert!(reason.ends_with("missing: epoch"), "{reason}");
        for bad in ["0", "-1", "", "1.5", "18446744073709551616", "x"] {
            assert!(read(["s", "1", bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_that_would_mean_something_else_as_a_topic_or_a_path_are_refused() {
        for bad in ["", "#", "+", "a/b", "..", "-a", ".a", "a b", "ü", &"a".repeat(65)] {
            assert!(bad.parse::<SourceName>().is_err(), "{bad:?}");
        }
        for good in ["edge-1", "0", "A.b_c", &"a".repeat(64)] {
            assert_eq!(good.parse::<SourceName>().map(String::from).ok().as_deref(), Some(good));
        }
    }

    #[test]
    fn lost_numbers_are_a_valid_range_of_bounded_length() {
        let read_range = |text: &str| Lost::read(["s", "7", text].map(|text| Some(text.to_owned())));
        let good = read_range("1-1000000").expect("a range");
        assert_eq!((good.first, good.last, good.range().as_str()), (1, 1_000_000, "1-1000000"));
        assert!(read_range("18446744073709551615-18446744073709551615").is_ok());
        for bad in
            ["", "5", "0-5", "6-5", "1-1000001", "1-18446744073709551615", "a-b", "-5", "1--5", "1-2-3"]
        {
            assert!(read_range(bad).is_err(), "{bad:?}");
        }
        assert!(Lost::read([Some("s".to_owned()), None, Some("1-2".to_owned())]).is_err());
    }

    #[test]
    fn ids_differ_by_client_source_and_epoch_and_increase_with_the_number() {
        let client = |id: &str| id.parse::<ClientId>().expect("client id");
        let id = number("s", 1, 7).id(&client("a"));
        assert!(id < number("s", 1, 256).id(&client("a")));
        assert_eq!(id.0[8..], 7_u64.to_be_bytes());
        for other in [
            number("t", 1, 7).id(&client("a")),
            number("s", 2, 7).id(&client("a")),
            number("s", 1, 7).id(&client("b")),
        ] {
            assert_ne!(id.0[..8], other.0[..8]);
        }
        assert_ne!(number("bc", 1, 7).id(&client("a")), number("c", 1, 7).id(&client("ab")));
    }
}
