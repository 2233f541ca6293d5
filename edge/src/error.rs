//! Errors of an edge.

use mysimbdp_broker::BrokerError;
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_platform::lock::LockError;

use crate::outbox::OutboxError;

/// Why a call on an edge failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EdgeError {
    #[error("invalid {name} {value}: expected {expected}")]
    Setting { name: &'static str, value: String, expected: String },
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("message has {bytes} bytes: the limit is {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(
        "{count} messages were not received within {seconds} s: since this edge was opened the platform has confirmed numbers through {through}"
    )]
    NotReceived { count: u64, through: u64, seconds: f64 },
    #[error("the edge is closed")]
    Closed,
}

impl EdgeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. } | Self::Broker(_) => ErrorKind::InvalidRequest,
            Self::Outbox(OutboxError::Lock(error)) if matches!(**error, LockError::Held { .. }) => {
                ErrorKind::NotPermitted
            }
            Self::Outbox(OutboxError::OtherSource { .. }) => ErrorKind::NotPermitted,
            Self::Outbox(_) => ErrorKind::Io,
            Self::TooLarge { .. } => ErrorKind::InvalidData,
            Self::NotReceived { .. } => ErrorKind::Temporary,
            Self::Closed => ErrorKind::Internal,
        }
    }
}
