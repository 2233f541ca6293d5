//! The name of a tenant.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A client's id: 1 to 32 characters of `a-z`, `0-9`, `-` and `_`, starting with a letter or a digit.
///
/// It is this strict because it becomes a directory, an MQTT topic level and part of a database name, and must mean the
/// same in all three: MongoDB compares database names without case, and allows 63 bytes for them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(
    with = "String",
    extend(
        "pattern" = "^[a-z0-9][a-z0-9_-]{0,31}$",
        "patternErrorMessage" = "1 to 32 characters of a-z, 0-9, - and _, the first a letter or a digit"
    )
)]
pub struct ClientId(String);

/// The text is not a client id.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid client id {0:?}: expected 1 to 32 characters of a-z, 0-9, - and _, the first a letter or a digit"
)]
pub struct ClientIdError(String);

impl ClientId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientId {
    type Err = ClientIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let valid = (1..=32).contains(&bytes.len())
            && allowed(bytes[0])
            && bytes.iter().all(|&b| allowed(b) || b == b'-' || b == b'_');
        if valid { Ok(Self(text.to_owned())) } else { Err(ClientIdError(text.to_owned())) }
    }
}

impl TryFrom<String> for ClientId {
    type Error = ClientIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ClientId> for String {
    fn from(id: ClientId) -> Self {
        id.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_mean_something_else_as_a_path_topic_or_database_are_refused() {
        for bad in ["", "#", "+", "a/b", "..", "-a", "_x", "A", "a b", "a.b", "ü", &"a".repeat(33)] {
            assert!(bad.parse::<ClientId>().is_err(), "{bad:?}");
        }
        for good in ["client1", "0", "a-b_c", &"a".repeat(32)] {
            assert_eq!(good.parse::<ClientId>().map(String::from).ok().as_deref(), Some(good));
        }
    }
}
