//! What an edge answers when it cannot do what it was asked.

use mysimbdp_broker::BrokerError;
use mysimbdp_model::exit;
use mysimbdp_platform::lock::LockError;

use crate::outbox::OutboxError;

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EdgeError {
    #[error("{name} is {value}, allowed is {allowed}")]
    Setting { name: &'static str, value: String, allowed: String },
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("message has {bytes} bytes, allowed are at most {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(
        "{count} messages are not received within {seconds} s: the platform has confirmed them through number {through}"
    )]
    NotReceived { count: u64, through: u64, seconds: f64 },
    #[error("the edge is closed")]
    Closed,
}

impl EdgeError {
    /// The exit code of `sysexits.h` for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Setting { .. } | Self::Broker(_) => exit::USAGE,
            Self::Outbox(OutboxError::Lock(error)) if matches!(**error, LockError::Held { .. }) => {
                exit::NO_PERMISSION
            }
            Self::Outbox(OutboxError::OfAnother { .. }) => exit::NO_PERMISSION,
            Self::Outbox(_) => exit::IO,
            Self::TooLarge { .. } => exit::DATA,
            Self::NotReceived { .. } => exit::TEMPORARY,
            Self::Closed => exit::SOFTWARE,
        }
    }
}
