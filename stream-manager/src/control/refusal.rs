//! Reasons why a request was not carried out.

use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_kind::ErrorKind;
use serde::{Deserialize, Serialize};

/// Why a request was not carried out, and what is allowed instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Refusal {
    #[error("client {client} is not configured; configured clients: {}", listed(known))]
    UnknownClient { client: ClientId, known: Vec<ClientId> },
    #[error("client {client} has no streams")]
    NoStreams { client: ClientId },
    #[error("client {client} has several streams: expected --stream with one of {}", listed(streams))]
    WhichStream { client: ClientId, streams: Vec<String> },
    #[error("client {client} has no stream {stream:?}; its streams: {}", listed(streams))]
    UnknownStream { client: ClientId, stream: String, streams: Vec<String> },
    #[error("invalid pid {pid}: expected 0, because there is no process yet")]
    PidOfNone { pid: u32 },
    #[error("pid 0 is not a process: expected the pid of an instance of client {client}: {}", listed(ours))]
    NoPid { client: ClientId, ours: Vec<u32> },
    #[error(
        "pid {pid} is not an instance of client {client} and is left alone; its instances: {}",
        listed(ours)
    )]
    NotOurs { pid: u32, client: ClientId, ours: Vec<u32> },
    #[error("stream {stream:?} of client {client} may have at most {max} instances (instances.max)")]
    MaxReached { client: ClientId, stream: String, max: u32 },
    #[error("all clients together may have at most {max} instances (stream_manager.instances_max)")]
    AllMaxReached { max: u32 },
    #[error("cannot start stream {stream:?} of client {client}, retrying: {reason}")]
    CannotStart { client: ClientId, stream: String, reason: String },
    #[error(
        "stream {stream:?} of client {client} is not started yet: {waits_for}; it starts as soon as that is resolved"
    )]
    StillStarting { client: ClientId, stream: String, waits_for: String },
    #[error("pid {pid} of client {client} is still draining{}; the drain continues", after_colon(waits_for.as_deref()))]
    StillDraining {
        client: ClientId,
        pid: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waits_for: Option<String>,
    },
    #[error("the request expired before the manager received it")]
    Expired,
    #[error("too many requests are waiting for the manager: try again later")]
    Busy,
    #[error("the manager is shutting down")]
    ShuttingDown,
    #[error(
        "not a request: expected a JSON object with id, expires_at, verb (start, stop, drain, scale or list) and the \
         fields of the verb"
    )]
    NotARequest,
}

impl Refusal {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownClient { .. } | Self::NoStreams { .. } | Self::UnknownStream { .. } => {
                ErrorKind::NotFound
            }
            Self::WhichStream { .. } | Self::PidOfNone { .. } | Self::NoPid { .. } | Self::NotARequest => {
                ErrorKind::InvalidRequest
            }
            Self::NotOurs { .. } | Self::MaxReached { .. } | Self::AllMaxReached { .. } => {
                ErrorKind::NotPermitted
            }
            Self::CannotStart { .. } | Self::ShuttingDown => ErrorKind::Unavailable,
            Self::StillStarting { .. } | Self::StillDraining { .. } | Self::Expired | Self::Busy => {
                ErrorKind::Temporary
            }
        }
    }
}

fn after_colon(waits_for: Option<&str>) -> String {
    waits_for.map(|waits_for| format!(": {waits_for}")).unwrap_or_default()
}

fn listed<T: ToString>(things: &[T]) -> String {
    if things.is_empty() {
        return "none".to_owned();
    }
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
