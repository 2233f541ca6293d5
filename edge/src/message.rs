//! The messages that a producer sends.

use std::fmt;

use bytes::Bytes;

/// A message, and the position from which its producer continues after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMessage {
    pub payload: Bytes,
    pub position: Position,
}

impl From<Bytes> for SourceMessage {
    fn from(payload: Bytes) -> Self {
        Self { payload, position: Position::default() }
    }
}

/// The position from which a producer continues: up to [`Position::BYTES_MAX`] bytes that only the producer interprets.
///
/// It is written atomically with its message: after a crash the position is that of the last accepted message, so that no
/// message is skipped and none is numbered twice. Empty if the producer has no position.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Position(Bytes);

/// The position is too long.
#[derive(Debug, thiserror::Error)]
#[error("position has {0} bytes: the limit is {max}", max = Position::BYTES_MAX)]
pub struct PositionError(usize);

impl Position {
    pub const BYTES_MAX: usize = 255;

    /// # Errors
    ///
    /// There are more than [`Position::BYTES_MAX`] bytes.
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
