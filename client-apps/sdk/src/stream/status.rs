//! The retained status of an instance, and the will that replaces it when the connection is lost.

use mysimbdp_broker::{Publish, Will};
use mysimbdp_platform::process::ProcessId;
use serde::Serialize;

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Running,
    Draining,
    /// Ended; the session stays.
    Stopped,
    /// Ended, and the session too.
    Drained,
    /// Published by the will: the connection was lost without a disconnect.
    Lost,
}

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    process: ProcessId,
    state: State,
}

pub(crate) fn publish(topic: &str, state: State) -> Publish {
    Publish { retain: true, ..Publish::new(topic, payload(state)) }
}

pub(crate) fn will(topic: &str) -> Will {
    Will { topic: topic.to_owned(), payload: payload(State::Lost), retain: true }
}

fn payload(state: State) -> Vec<u8> {
    let status = Status { process: ProcessId::current(), state };
    serde_json::to_vec(&status).expect("all keys of a status are strings")
}
