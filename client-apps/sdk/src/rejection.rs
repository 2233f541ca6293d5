//! Why a record or a message is not stored.

use std::fmt;

/// The reason of a reject, as people read it. It is stored with the reject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(String);

impl From<String> for Rejection {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<&str> for Rejection {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<Rejection> for String {
    fn from(rejection: Rejection) -> Self {
        rejection.0
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Rejection {}
