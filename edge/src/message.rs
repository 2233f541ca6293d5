//! What a producer hands over.

use std::fmt;

use bytes::Bytes;

/// A message, and where its producer goes on after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub payload: Bytes,
    pub position: Position,
}

impl From<Bytes> for Message {
    fn from(payload: Bytes) -> Self {
        Self { payload, position: Position::default() }
    }
}

/// Where a producer goes on: up to [`Position::BYTES_MAX`] bytes that mean something to it alone.
///
/// It is written together with its message, in one step: after a crash the position belongs to the last message that
/// was accepted, so that none is left out and none is numbered twice. Empty where the producer has none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Position(Bytes);

/// A position that is too long.
#[derive(Debug, thiserror::Error)]
#[error("a position has {0} bytes, allowed are at most {max}", max = Position::BYTES_MAX)]
pub struct PositionError(usize);

impl Position {
    pub const BYTES_MAX: usize = 255;

    /// # Errors
    ///
    /// More than [`Position::BYTES_MAX`] bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, PositionError> {
        let bytes = bytes.into();
        if bytes.len() > Self::BYTES_MAX { Err(PositionError(bytes.len())) } else { Ok(Self(bytes)) }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({})", self.0.escape_ascii())
    }
}
