//! Reasons why a request was not carried out.

use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_kind::ErrorKind;
use serde::{Deserialize, Serialize};

/// Why a request was not carried out, and what is allowed instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Refusal {
    #[error("client {client} is not configured: there are {}", listed(known))]
    UnknownClient { client: ClientId, known: Vec<ClientId> },
    #[error("client {client} has no streams")]
    NoStreams { client: ClientId },
    #[error("client {client} has several streams, so say which: --stream with one of {}", listed(streams))]
    WhichStream { client: ClientId, streams: Vec<String> },
    #[error("client {client} has no stream {stream:?}: there are {}", listed(streams))]
    UnknownStream { client: ClientId, stream: String, streams: Vec<String> },
    #[error("pid {pid} cannot be started: allowed is 0, as there is no process yet")]
    PidOfNone { pid: u32 },
    #[error("pid 0 is no process: allowed are those of client {client}'s instances: {}", listed(ours))]
    NoPid { client: ClientId, ours: Vec<u32> },
    #[error("pid {pid} is no instance of client {client}, so it is left alone: there are {}", listed(ours))]
    NotOurs { pid: u32, client: ClientId, ours: Vec<u32> },
    #[error("stream {stream:?} of client {client} may have {max} instances at most (instances.max)")]
    MaxReached { client: ClientId, stream: String, max: u32 },
    #[error("all clients together may have {max} instances at most (stream_manager.instances_max)")]
    AllMaxReached { max: u32 },
    #[error("stream {stream:?} of client {client} cannot be started, and is tried again: {reason}")]
    CannotStart { client: ClientId, stream: String, reason: String },
    #[error(
        "stream {stream:?} of client {client} is not started yet, as {waits_for}; it is as soon as that is over"
    )]
    StillStarting { client: ClientId, stream: String, waits_for: String },
    #[error("pid {pid} of client {client} is still draining{}, and goes on", as_waits_for(waits_for.as_deref()))]
    StillDraining {
        client: ClientId,
        pid: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waits_for: Option<String>,
    },
    #[error("the request expired before the manager saw it")]
    Expired,
    #[error("the manager has too many requests that wait: try again later")]
    Busy,
    #[error("the manager is shutting down")]
    ShuttingDown,
    #[error(
        "not a request: allowed is a JSON object with id, expires_at, and verb start, stop, drain, scale or list with \
         what belongs to it"
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

fn as_waits_for(waits_for: Option<&str>) -> String {
    waits_for.map(|waits_for| format!(", as {waits_for}")).unwrap_or_default()
}

fn listed<T: ToString>(things: &[T]) -> String {
    if things.is_empty() {
        return "none".to_owned();
    }
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
