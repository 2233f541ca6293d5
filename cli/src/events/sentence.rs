//! What an event says, in words.

use indicatif::HumanBytes;
use serde::Deserialize;
use serde_json::Value;

use super::Event;
use crate::local_time;

/// The longest sentence; a file may have many reasons.
const SENTENCE_CHARS_MAX: usize = 2_000;

/// What happened, in text from outside that is not escaped yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// `None` if it concerns no client's data.
    pub client: Option<String>,
    /// The file, stream, contract or view.
    pub subject: String,
    /// What happened to it.
    pub text: String,
}

/// What any of the events has, as far as it is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    client: Option<String>,
    name: String,
    lane: Option<String>,
    bytes: u64,
    records: Option<u64>,
    micro_batches: Option<u64>,
    micro_batches_done: Option<u64>,
    stored: u64,
    duplicates: u64,
    rejected: u64,
    reasons: Vec<String>,
    stream: String,
    before: u64,
    desired: u64,
    is_manual: bool,
    decisions: Vec<Decision>,
    view: String,
    size: String,
    start: String,
    source: Option<Value>,
    revision: u64,
    contract: String,
    state: String,
    due: String,
}

#[derive(Debug, Deserialize)]
struct Decision {
    before: u64,
    desired: u64,
    reason: String,
}

impl Sentence {
    /// Says what an event says. One of an unknown kind is told as it is.
    pub fn of(event: &Event) -> Self {
        let fields = match event.kind.as_str() {
            "resync" => return Self::of_gap(),
            _ => serde_json::from_str::<Fields>(&event.data).unwrap_or_default(),
        };
        let (subject, text) = match event.kind.as_str() {
            "scaled" => (fields.stream.clone(), scaled(&fields)),
            "window" => (fields.view.clone(), window(&fields)),
            "arrival" => (fields.contract.clone(), arrival(&fields)),
            "waiting" | "staged" | "progress" | "ingested" | "held" | "discarded" | "purged" => {
                (fields.name.clone(), file(&event.kind, &fields))
            }
            _ => (String::new(), event.data.clone()),
        };
        let text = text.chars().take(SENTENCE_CHARS_MAX).collect();
        Self { client: fields.client, subject, text }
    }

    /// Events were missed.
    pub fn of_gap() -> Self {
        let text = "some events are missing: the server was restarted, or does not keep them any more";
        Self { client: None, subject: String::new(), text: text.to_owned() }
    }

    /// The subject and what happened to it.
    pub fn with_subject(&self) -> String {
        match (self.subject.is_empty(), self.text.is_empty()) {
            (true, _) => self.text.clone(),
            (false, true) => self.subject.clone(),
            (false, false) => format!("{}: {}", self.subject, self.text),
        }
    }
}

fn file(kind: &str, fields: &Fields) -> String {
    let Fields { stored, duplicates, rejected, .. } = *fields;
    let batches = fields.micro_batches.unwrap_or(0);
    match kind {
        "waiting" => HumanBytes(fields.bytes).to_string(),
        "staged" => {
            let records = counted(fields.records.unwrap_or(0), "record", "records");
            let lane = fields.lane.as_deref().unwrap_or("live");
            format!("{records} in {}, {lane} lane", counted(batches, "micro-batch", "micro-batches"))
        }
        "progress" => {
            let done = fields.micro_batches_done.unwrap_or(0);
            format!("{done} of {} ingested", counted(batches, "micro-batch", "micro-batches"))
        }
        "ingested" => {
            let more = |number, what| match number {
                0 => String::new(),
                number => format!(", {number} {what}"),
            };
            format!("{stored} stored{}{}", more(duplicates, "duplicates"), more(rejected, "rejected"))
        }
        _ => fields.reasons.join("; "),
    }
}

fn scaled(fields: &Fields) -> String {
    let instances = counted(fields.desired, "instance", "instances");
    let by = if fields.is_manual { "a person" } else { "the policy" };
    // The last decision may have kept the number since.
    let changed = fields.decisions.iter().find(|decision| decision.before != decision.desired);
    let reason = changed.map(|decision| format!(": {}", decision.reason));
    format!("{} → {instances}, by {by}{}", fields.before, reason.unwrap_or_default())
}

fn window(fields: &Fields) -> String {
    let source = match &fields.source {
        Some(Value::String(source)) => format!(" of {source}"),
        Some(Value::Null) | None => String::new(),
        Some(source) => format!(" of {source}"),
    };
    let revision =
        if fields.revision > 1 { format!(", revision {}", fields.revision) } else { String::new() };
    format!("window of {} from {}{source} closed{revision}", fields.size, local_time::short(&fields.start))
}

fn arrival(fields: &Fields) -> String {
    format!("{}, due {}", fields.state.replace('_', " "), local_time::short(&fields.due))
}

/// Returns the number with its noun.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_event_is_told_in_words() {
        let file = r#""client":"client2","name":"a.csv","bytes":2048"#;
        for (kind, data, expected) in [
            ("waiting", format!("{{{file}}}"), "a.csv: 2.00 KiB"),
            (
                "staged",
                format!("{{{file},\"lane\":\"retry\",\"records\":1,\"micro_batches\":2}}"),
                "a.csv: 1 record in 2 micro-batches, retry lane",
            ),
            (
                "progress",
                format!("{{{file},\"micro_batches\":3,\"micro_batches_done\":1}}"),
                "a.csv: 1 of 3 micro-batches ingested",
            ),
            ("ingested", format!("{{{file},\"stored\":7,\"duplicates\":0,\"rejected\":2}}"), "a.csv: 7 stored, 2 rejected"),
            ("held", format!("{{{file},\"reasons\":[\"one\",\"two\"]}}"), "a.csv: one; two"),
            ("discarded", format!("{{{file},\"reasons\":[\"has extension exe\"]}}"), "a.csv: has extension exe"),
            ("purged", format!("{{{file},\"reasons\":[]}}"), "a.csv"),
            (
                "scaled",
                r#"{"client":"client2","stream":"s","before":1,"desired":3,"is_manual":false,"decisions":[{"before":3,"desired":3,"reason":"no fresh reports"},{"before":1,"desired":3,"reason":"busy"}]}"#.to_owned(),
                "s: 1 → 3 instances, by the policy: busy",
            ),
            ("later", r#"{"client":"client2","x":1}"#.to_owned(), r#"{"client":"client2","x":1}"#),
        ] {
            let event = Event { id: "a-1".to_owned(), kind: kind.to_owned(), data };
            let sentence = Sentence::of(&event);
            assert_eq!((sentence.with_subject().as_str(), sentence.client.as_deref()), (expected, Some("client2")));
        }
        let gap = Sentence::of(&Event { kind: "resync".to_owned(), ..Event::default() });
        assert!(gap.text.starts_with("some events are missing") && gap.client.is_none());
    }

    #[test]
    fn a_window_and_a_due_time_are_told_with_the_time_of_this_machine() {
        let window = r#"{"client":"c","view":"v","size":"1m","start":"2026-01-01T00:00:00Z","source":"s1","revision":2}"#;
        let arrival = r#"{"client":"c","contract":"daily","state":"too_small","due":"2026-01-01T06:00:00Z"}"#;
        for (kind, data, begins, ends) in [
            ("window", window, "v: window of 1m from ", " of s1 closed, revision 2"),
            ("arrival", arrival, "daily: too small, due ", ":00"),
        ] {
            let sentence =
                Sentence::of(&Event { id: String::new(), kind: kind.to_owned(), data: data.to_owned() });
            let told = sentence.with_subject();
            assert!(told.starts_with(begins) && told.ends_with(ends), "{told}");
        }
    }
}
