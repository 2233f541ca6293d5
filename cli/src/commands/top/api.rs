//! The answers of the server, as far as they are shown.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::text::Text;

/// A page of a list, which may have more pages.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    next: Option<String>,
}

impl<T> Page<T> {
    pub fn has_more(&self) -> bool {
        self.next.is_some()
    }
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), next: None }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Client {
    pub id: Text,
    #[serde(default)]
    pub streams: Vec<Text>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct File {
    pub client: Option<Text>,
    pub name: Text,
    pub ended_at: Option<Timestamp>,
    #[serde(default)]
    reasons: Vec<Text>,
}

impl File {
    pub fn reason(&self) -> &str {
        self.reasons.first().map_or("no reason", |reason| reason)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    pub client: Text,
    pub files: u64,
    pub begun: u64,
    pub oldest_seconds: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Stream {
    pub client: Text,
    pub stream: Text,
    pub desired: u64,
    #[serde(default)]
    pub is_manual: bool,
    pub max: u64,
    pub is_ready: bool,
    pub waits_for: Option<Text>,
    #[serde(default)]
    pub decisions: Vec<Decision>,
    #[serde(default)]
    pub instances: Vec<Instance>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Decision {
    pub at: Timestamp,
    pub before: u64,
    pub desired: u64,
    pub reason: Text,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    pub slot: u64,
    pub state: Text,
    pub messages_per_second: f64,
    pub utilization: Option<f64>,
    pub backlog: u64,
    #[serde(default)]
    pub restarts: u64,
    pub silent_seconds: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Arrival {
    pub client: Text,
    pub contract: Text,
    pub state: Text,
    pub due: Timestamp,
    pub file: Option<Text>,
    pub records: Option<u64>,
    pub records_min: Option<u64>,
}

/// What was measured over the last minutes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Measurements {
    pub step_seconds: u64,
    pub series: Vec<Series>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Series {
    pub metric: Text,
    pub client: Text,
    pub state: Option<Text>,
    pub mean: Vec<Option<f64>>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    /// Absent if the caller may not know them.
    #[serde(default)]
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Part {
    pub kind: Text,
    pub name: Text,
    pub condition: Text,
    pub text: Text,
}

/// One of the answers of a poll.
#[derive(Clone, Debug)]
pub enum Answered {
    Clients(Vec<Client>),
    Waiting(Page<File>),
    Held(Page<File>),
    Discarded(Page<File>),
    Queues(Vec<Queue>),
    Streams(Vec<Stream>),
    Arrivals(Vec<Arrival>),
    Measurements(Measurements),
}

/// What was read in one go.
#[derive(Clone, Debug, Default)]
pub struct Polled {
    pub answers: Vec<Answered>,
    /// The lists that the server cannot give now, with its reason.
    pub unavailable: BTreeMap<&'static str, Text>,
    /// Why the server does not answer at all.
    pub outage: Option<Text>,
}

impl Polled {
    /// A server that can give none of the lists, such as to a token that was removed, is the same as one that does not answer.
    pub fn or_outage(mut self) -> Self {
        if self.outage.is_none() && self.answers.is_empty() {
            self.outage = self.unavailable.values().next().cloned();
        }
        self
    }
}
