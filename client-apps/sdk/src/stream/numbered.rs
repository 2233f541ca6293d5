//! Messages of numbered sources, which are stored exactly once.
//!
//! A source has a name and an epoch, a random number made together with the producer's outbox: a producer that starts
//! its numbering anew has a new epoch, and is not taken for one that repeats itself.

use mysimbdp_core::client::ClientId;
use mysimbdp_core::ingestion::RecordId;

/// The user properties that number a message.
pub(crate) const SOURCE: &str = "source";
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const SEQUENCE: &str = "seq";

/// A message's place in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) source: String,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

impl Number {
    /// The number made of the three texts; `None` where none of them is there.
    ///
    /// # Errors
    ///
    /// The reason for the message's reject: it has some of them and not the others, or they are no numbers.
    pub(crate) fn read(texts: [Option<String>; 3]) -> Result<Option<Self>, String> {
        match texts {
            [None, None, None] => Ok(None),
            [Some(source), Some(epoch), Some(sequence)] => Ok(Some(Self {
                source,
                epoch: number(EPOCH, &epoch)?,
                sequence: number(SEQUENCE, &sequence)?,
            })),
            some => {
                let absent = [SOURCE, EPOCH, SEQUENCE].into_iter().zip(some);
                let absent: Vec<&str> =
                    absent.filter(|(_, text)| text.is_none()).map(|(name, _)| name).collect();
                Err(format!("a numbered message needs source, epoch and seq; missing: {}", absent.join(", ")))
            }
        }
    }

    /// The `_id` of the message: a hash of client, source and epoch in 8 bytes, then the number in big-endian.
    ///
    /// As with files, the ids of one source increase, which the store's index inserts fastest.
    pub(crate) fn id(&self, client: &ClientId) -> RecordId {
        let mut hasher = blake3::Hasher::new();
        // The lengths in front keep (`a`, `bc`) and (`ab`, `c`) apart.
        for text in [client.as_str(), &self.source] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&self.epoch.to_be_bytes());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        id[8..].copy_from_slice(&self.sequence.to_be_bytes());
        RecordId(id)
    }
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name} is {text:?}, allowed is a whole number of 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: [&str; 3]) -> Result<Option<Number>, String> {
        Number::read(texts.map(|text| (text != "-").then(|| text.to_owned())))
    }

    #[test]
    fn a_number_is_whole_or_not_there() {
        let number = Number { source: "s".to_owned(), epoch: u64::MAX, sequence: 0 };
        assert_eq!(read(["-", "-", "-"]), Ok(None));
        assert_eq!(read(["s", "18446744073709551615", "0"]), Ok(Some(number)));
        let reason = read(["s", "-", "1"]).expect_err("no epoch");
        assert!(reason.ends_with("missing: epoch"), "{reason}");
        for bad in ["-1", "", "1.5", "18446744073709551616", "x"] {
            assert!(read(["s", "1", bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_differ_by_client_source_and_epoch_and_increase_with_the_number() {
        let client = |id: &str| id.parse::<ClientId>().expect("client id");
        let number = |source: &str, epoch, sequence| Number { source: source.to_owned(), epoch, sequence };
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
