//! Whether everything that the config requires is running: processes, connections, streams.
//!
//! `status` and `health` take a snapshot of all of them; `up` and commands that wait ask for the obstacles among processes and
//! connections. Both always return soon after
//! [`WITHIN`]; a part that cannot be examined is reported as such.

mod connections;
mod processes;
mod streams;

use std::time::Duration;

use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_config::process_status::{ConfigInUse, RefusedConfig};
use mysimbdp_stream_manager::control::StreamStatus;
use serde::Serialize;

pub use connections::connections;
pub(crate) use connections::store_exists;
pub use processes::followers;
use processes::processes;

/// A running server answers within milliseconds; a status query should not take longer than this.
pub(crate) const WITHIN: Duration = Duration::from_secs(4);

/// The state of every part.
#[derive(Debug)]
pub struct Snapshot {
    pub parts: Vec<Part>,
    /// `None` if no stream-manager runs or answers.
    pub streams: Option<Vec<StreamStatus>>,
}

/// One thing that the config requires.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    pub kind: PartKind,
    pub name: String,
    pub condition: Condition,
    /// A description for people.
    pub text: String,
    /// Details of a running process.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessDetails>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    Process,
    Connection,
    Stream,
}

/// The condition of a part, in ascending order of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    #[serde(rename = "ok")]
    Good,
    /// Unknown from here, such as the state of a process on another host.
    Unknown,
    /// Not as it should be, and may recover without intervention.
    Waits,
    /// Not running, not reachable, or given up.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessDetails {
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigInUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedConfig>,
}

/// Takes a snapshot of all parts concurrently.
pub async fn take(config: &Config) -> Snapshot {
    let (connections, streams) = tokio::join!(connections(config), streams::ask(config));
    let (of_streams, streams) = streams;
    let parts = processes(config).into_iter().chain(connections).chain(of_streams).collect();
    Snapshot { parts, streams }
}

impl Part {
    fn new(kind: PartKind, name: impl Into<String>, condition: Condition, text: impl Into<String>) -> Self {
        Self { kind, name: name.into(), condition, text: text.into(), process: None }
    }
}

impl PartKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Connection => "connection",
            Self::Stream => "stream",
        }
    }
}

impl Condition {
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Unknown => "unknown",
            Self::Waits => "waits",
            Self::Missing => "missing",
        }
    }
}

/// Returns the worst condition of these parts.
pub fn worst(parts: &[Part]) -> Condition {
    parts.iter().map(|part| part.condition).max().unwrap_or(Condition::Good)
}

/// What is needed to ingest a dropped file. The broker is not: its notifications only make it faster.
pub const NEEDED_FOR_FILES: &[&str] = &["fetchdata", "batch-manager", "store"];
pub const ALL: &[&str] = &["fetchdata", "batch-manager", "stream-manager", "broker", "store"];

/// Describes those of the named processes and connections that are not in order; unknown ones are left out.
pub async fn obstacles(config: &Config, names: &[&str]) -> Vec<String> {
    let parts = processes(config).into_iter().chain(connections(config).await);
    let missing =
        parts.filter(|part| part.condition > Condition::Unknown && names.contains(&part.name.as_str()));
    missing.map(|part| format!("{} {}", part.name, part.text)).collect()
}
