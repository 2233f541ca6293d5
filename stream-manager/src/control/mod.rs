//! The requests that a running manager accepts, and its answers: JSON, over a socket on its host or over MQTT.
//!
//! 1. [`client`] sends requests, for the command line;
//! 2. [`socket`] and [`mqtt`] receive requests and pass them to the manager's loop as [`Call`]s;
//! 3. [`answers`] keeps the answers: a request that is repeated is answered again, not run again.

pub(crate) mod answers;
pub mod client;
pub(crate) mod mqtt;
mod refusal;
pub(crate) mod socket;
pub(crate) mod waiting;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mysimbdp_model::client::ClientId;
use mysimbdp_platform::{clock, random};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use refusal::Refusal;

/// The size limit of a request or an answer; a list of a thousand instances fits.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The maximum length of a request's id, in characters.
const ID_MAX: usize = 128;

/// A request to the manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the sender, up to 128 characters. A request with the same id is answered again, not run again.
    pub id: String,
    /// After this time the request is not run, and its sender no longer waits.
    pub expires_at: Timestamp,
    #[serde(flatten)]
    pub command: ControlCommand,
}

/// What the manager is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum ControlCommand {
    /// Start one more instance, in a slot that was given up, else an idle one, else the lowest empty one. Except for a
    /// slot that was given up, this is a manual override and turns autoscaling off. `pid` is 0: there is no process
    /// yet.
    Start {
        client: ClientId,
        #[serde(default)]
        pid: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
    },
    /// Drain the instance and wait until it has ended. The stream's last one is stopped instead, and its session stays,
    /// unless `forget` is set.
    Stop {
        client: ClientId,
        pid: u32,
        #[serde(default)]
        forget: bool,
    },
    /// The same, without waiting for the end.
    Drain { client: ClientId, pid: u32 },
    /// Set the number of instances as a manual override, or end the override: then the policy decides again.
    Scale {
        client: ClientId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
        instances: Scale,
    },
    /// List the streams of one client or of all.
    List {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<ClientId>,
    },
}

impl ControlCommand {
    /// The client that the command is about; `None` if a list is of all.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Start { client, .. }
            | Self::Stop { client, .. }
            | Self::Drain { client, .. }
            | Self::Scale { client, .. } => Some(client),
            Self::List { client } => client.as_ref(),
        }
    }
}

/// A number of instances, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scale {
    Count(u32),
    Auto(Auto),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Auto {
    #[serde(rename = "auto")]
    Auto,
}

/// The manager's answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub id: String,
    #[serde(flatten)]
    pub outcome: RequestOutcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestOutcome {
    Answer(Answer),
    Refused {
        #[serde(flatten)]
        refusal: Refusal,
        /// The refusal in words.
        message: String,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum Answer {
    Started {
        client: ClientId,
        stream: String,
        slot: u32,
        pid: u32,
        /// The number of instances from now on, whatever the policy recommends; `None`: the policy decides.
        #[serde(rename = "pinned_to", default, skip_serializing_if = "Option::is_none")]
        manual_number: Option<u32>,
    },
    Stopped {
        client: ClientId,
        stream: String,
        slot: u32,
        pid: u32,
        end: End,
        /// As for `started`.
        #[serde(rename = "pinned_to", default, skip_serializing_if = "Option::is_none")]
        manual_number: Option<u32>,
    },
    Draining {
        client: ClientId,
        stream: String,
        slot: u32,
        pid: u32,
    },
    Scaled {
        client: ClientId,
        stream: String,
        #[serde(rename = "wanted")]
        desired: u32,
        #[serde(rename = "pinned")]
        is_manual: bool,
    },
    Listed {
        streams: Vec<StreamStatus>,
    },
}

/// How a stopped instance ended, and what became of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It has stored everything that it received, and its session has ended.
    Drained,
    /// It was the last one: the broker keeps queuing for the client until an instance is started again.
    SessionKept,
    /// It did not end cleanly, or its exit status is unknown: its slot runs once more to handle what may be left.
    Unfinished,
    /// Its session has ended as requested; messages from now on are not kept for the client.
    Forgotten,
}

/// The status of a stream in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    pub client: ClientId,
    pub stream: String,
    #[serde(rename = "wanted")]
    pub desired: u32,
    /// Manual override: a person has set `desired`. Otherwise the policy decides.
    #[serde(rename = "pinned")]
    pub is_manual: bool,
    pub min: u32,
    pub max: u32,
    /// Whether the store and the broker are available, so that instances can be started.
    pub ready: bool,
    /// Why no instance can be started.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// What the policy has decided, the latest first: the last decision, and the latest ones that changed the number.
    #[serde(default)]
    pub decisions: Vec<DecisionStatus>,
    /// All slots except the empty ones.
    pub instances: Vec<InstanceStatus>,
}

/// A decision of the policy, and what it was based on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionStatus {
    pub at: Timestamp,
    /// How many instances were to run before.
    pub before: u32,
    pub desired: u32,
    /// What the load alone recommends; `None` if there is no basis for a recommendation.
    pub recommended: Option<u32>,
    pub reason: String,
    pub running: u32,
    /// How many of them have reported how busy they are.
    pub reporting: u32,
    /// The sum over those of the share of time in which each was storing.
    pub busy: f64,
    /// The mean time from a message's arrival to its acknowledgement.
    pub processing_seconds: f64,
    pub messages_per_report: f64,
}

/// A slot that is not empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    pub slot: u32,
    pub state: String,
    pub pid: Option<u32>,
    pub started_at: Option<Timestamp>,
    pub uptime_seconds: Option<u64>,
    pub adopted: bool,
    /// The number reported since the manager started.
    pub messages: u64,
    /// From the last report.
    pub messages_per_second: f64,
    /// From the last report.
    pub average_processing_seconds: f64,
    /// The share of time in which it was storing, from the last report; `None` if it does not tell.
    #[serde(default)]
    pub utilization: Option<f64>,
    /// Restarts after a crash or a hang, since the manager started.
    pub restarts: u32,
    /// Messages received and not yet acknowledged, from the last report.
    #[serde(default)]
    pub backlog: u64,
    /// The number reported since the manager started.
    #[serde(default)]
    pub rejected: u64,
    /// How long ago it last reported.
    #[serde(default)]
    pub reported_seconds_ago: Option<u64>,
    /// For how long it has reported nothing, if that is too long: it hangs, or the broker is unavailable.
    #[serde(default)]
    pub silent_seconds: Option<u64>,
}

/// A request, and where its answer is sent.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<RequestOutcome>,
}

impl Request {
    /// Creates a request that expires after `timeout`.
    pub fn new(command: ControlCommand, timeout: Duration) -> Self {
        let id = format!("{:016x}{:016x}", random::number(), random::number());
        let timeout = SignedDuration::try_from(timeout).unwrap_or(SignedDuration::MAX);
        let expires_at = clock::now().checked_add(timeout).unwrap_or(Timestamp::MAX);
        Self { id, expires_at, command }
    }

    /// Parses a request; `None` if the payload is not a valid one.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let request: Self = serde_json::from_slice(payload).ok()?;
        let id = 1..=ID_MAX;
        id.contains(&request.id.chars().count()).then_some(request)
    }
}

impl From<Refusal> for RequestOutcome {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        Self::Refused { refusal, message }
    }
}

impl FromStr for Scale {
    type Err = ScaleError;

    fn from_str(text: &str) -> Result<Self, ScaleError> {
        match text {
            "auto" => Ok(Self::Auto(Auto::Auto)),
            number => number.parse().map(Self::Count).map_err(|_| ScaleError(number.to_owned())),
        }
    }
}

/// The text is not a number of instances.
#[derive(Debug, thiserror::Error)]
#[error("invalid number of instances {0:?}: expected a whole number or auto")]
pub struct ScaleError(String);

/// Tells a person what became of the instance and its session.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drained => "drained; its session has ended",
            Self::SessionKept => {
                "stopped; it was the last instance, so its session is kept and the broker continues to queue (stop --forget ends it)"
            }
            Self::Unfinished => "ended uncleanly; its slot is started once more to process what is left",
            Self::Forgotten => "ended together with its session; messages published from now on are not kept for the client",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_read_as_documented() {
        let parse = |text: &str| Request::parse(text.as_bytes()).map(|request| request.command);
        let client: ClientId = "client1".parse().expect("valid");
        let head = r#""id":"1","expires_at":"2030-01-01T00:00:00Z","client":"client1""#;
        let start = ControlCommand::Start { client: client.clone(), pid: 0, stream: None };
        assert_eq!(parse(&format!(r#"{{{head},"verb":"start"}}"#)), Some(start));
        let scale =
            |instances| Some(ControlCommand::Scale { client: client.clone(), stream: None, instances });
        assert_eq!(parse(&format!(r#"{{{head},"verb":"scale","instances":3}}"#)), scale(Scale::Count(3)));
        assert_eq!(
            parse(&format!(r#"{{{head},"verb":"scale","instances":"auto"}}"#)),
            scale(Scale::Auto(Auto::Auto))
        );
        let stop = ControlCommand::Stop { client: client.clone(), pid: 7, forget: false };
        assert_eq!(parse(&format!(r#"{{{head},"verb":"stop","pid":7}}"#)), Some(stop));
        assert_eq!(
            parse(&format!(r#"{{{head},"verb":"list"}}"#)),
            Some(ControlCommand::List { client: Some(client.clone()) })
        );
    }

    #[test]
    fn an_invalid_request_is_none() {
        let long = "x".repeat(ID_MAX + 1);
        for invalid in [
            String::new(),
            "start".to_owned(),
            r#"{"verb":"start","client":"client1"}"#.to_owned(),
            r##"{"id":"1","expires_at":"2030-01-01T00:00:00Z","verb":"start","client":"#"}"##.to_owned(),
            r#"{"id":"","expires_at":"2030-01-01T00:00:00Z","verb":"list"}"#.to_owned(),
            r#"{"id":"1","expires_at":"2030-01-01T00:00:00Z","verb":"exec"}"#.to_owned(),
            r#"{"id":"1","expires_at":"2030-01-01T00:00:00Z","verb":"stop","client":"a","pid":-1}"#
                .to_owned(),
            r#"{"id":"1","expires_at":"2030-01-01T00:00:00Z","verb":"scale","client":"a","instances":"all"}"#
                .to_owned(),
            format!(r#"{{"id":"{long}","expires_at":"2030-01-01T00:00:00Z","verb":"list"}}"#),
        ] {
            assert_eq!(Request::parse(invalid.as_bytes()), None, "{invalid}");
        }
    }

    #[test]
    fn answers_and_refusals_are_read_as_they_were_written() {
        let client: ClientId = "client1".parse().expect("valid");
        let answer = Answer::Started {
            client: client.clone(),
            stream: "stream".to_owned(),
            slot: 0,
            pid: 7,
            manual_number: None,
        };
        let refusal = Refusal::NotOurs { pid: 1, client, ours: vec![7, 8] };
        for outcome in [RequestOutcome::Answer(answer), refusal.into()] {
            let response = Response { id: "1".to_owned(), outcome };
            let text = serde_json::to_string(&response).expect("serialises");
            assert_eq!(serde_json::from_str::<Response>(&text).expect("parses"), response, "{text}");
        }
    }

    const PIECES: [&str; 18] = [
        "{",
        "}",
        "\"id\":\"1\"",
        "\"expires_at\":\"2030-01-01T00:00:00Z\"",
        "\"verb\":\"start\"",
        "\"verb\":\"scale\"",
        "\"client\":\"client1\"",
        "\"client\":\"#\"",
        "\"pid\":4294967296",
        "\"pid\":-1",
        "\"instances\":\"auto\"",
        "\"instances\":1e400",
        "\"stream\":null",
        ",",
        "[[[[",
        "null",
        "\u{0}",
        "\"id\":{\"id\":\"2\"}",
    ];

    proptest! {
        #[test]
        fn any_accepted_request_has_an_id_and_is_written_as_it_was_read(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..8), bare in any::<bool>(),
        ) {
            let text = if bare { pieces.concat() } else { format!("{{{}}}", pieces.join(",")) };
            let Some(request) = Request::parse(text.as_bytes()) else { return Ok(()) };
            prop_assert!((1..=ID_MAX).contains(&request.id.chars().count()));
            let written = serde_json::to_vec(&request).expect("JSON");
            prop_assert_eq!(Request::parse(&written), Some(request));
        }

        #[test]
        fn random_bytes_are_not_a_request(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Request::parse(&bytes), None);
        }
    }
}
