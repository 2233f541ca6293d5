//! What needs a person. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::api::{File, Instance, Page, Stream};
use super::clients::{Count, NO_CLIENT};
use super::filter::Filter;
use super::model::{Connection, Data};
use super::streams::{load, name, running};
use super::text::{Text, duration};

/// A stream at its maximum with this load needs more than it may have.
const LOAD_HIGH: f64 = 0.8;

/// How urgent it is; the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A person is needed.
    Alert,
    /// It may pass.
    Notice,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matter {
    pub level: Level,
    /// One word for what it is.
    pub kind: &'static str,
    /// `None` if it concerns all.
    pub client: Option<Text>,
    /// The stream, file or contract.
    pub subject: Text,
    pub text: String,
}

/// Returns what needs a person, the worst first. Of files, those that the filter shows.
pub fn matters(data: &Data, filter: &Filter, now: Timestamp) -> Vec<Matter> {
    let mut all = of_connection(data);
    all.extend(of_parts(data));
    all.extend(of_held(data, filter));
    all.extend(of_arrivals(data, now));
    all.extend(data.streams.iter().flat_map(of_stream));
    all.extend(of_discarded(data, filter));
    all.sort_by_key(|matter| matter.level);
    all
}

fn general(level: Level, kind: &'static str, text: String) -> Matter {
    Matter { level, kind, client: None, subject: Text::default(), text }
}

fn of_connection(data: &Data) -> Vec<Matter> {
    let mut found = Vec::new();
    if let Some(reason) = &data.outage {
        return vec![general(Level::Alert, "connection", format!("{reason}; what is shown is old"))];
    }
    if let Connection::Lost { reason } = &data.connection {
        found.push(general(Level::Notice, "connection", format!("no events: {reason}")));
    }
    let has_streams = data.clients.iter().any(|client| !client.streams.is_empty());
    for (list, reason) in &data.unavailable {
        if *list != "streams" || has_streams {
            found.push(general(Level::Alert, "unavailable", format!("{list}: {reason}")));
        }
    }
    found
}

fn of_parts(data: &Data) -> Vec<Matter> {
    let Some(readiness) = &data.readiness else { return Vec::new() };
    if !readiness.ready && readiness.parts.is_empty() {
        let text = "not everything runs; operators see what, with a token for all clients";
        return vec![general(Level::Notice, "platform", text.to_owned())];
    }
    let parts = readiness.parts.iter().filter(|part| &*part.kind != "stream");
    let level = |condition: &str| match condition {
        "missing" => Some(Level::Alert),
        "waits" => Some(Level::Notice),
        _ => None,
    };
    parts
        .filter_map(|part| {
            let kind = if &*part.kind == "process" { "process" } else { "service" };
            Some(general(level(&part.condition)?, kind, format!("{}: {}", part.name, part.text)))
        })
        .collect()
}

fn of_held(data: &Data, filter: &Filter) -> Vec<Matter> {
    let text = |number: Count, last: &File| match number.number {
        1 => format!("{}: {}", last.name, last.reason()),
        _ => format!("{number} files, the last one {}: {}", last.name, last.reason()),
    };
    of_files(&data.held, filter, Level::Alert, "held", text)
}

fn of_discarded(data: &Data, filter: &Filter) -> Vec<Matter> {
    let text = |number: Count, last: &File| match number.number {
        1 => format!("{}: {}", last.name, last.reason()),
        _ => format!("{number} files within the hour, the last one {}: {}", last.name, last.reason()),
    };
    of_files(&data.discarded, filter, Level::Notice, "discarded", text)
}

/// One matter for each client, with the file that ended last.
fn of_files(
    files: &Page<File>,
    filter: &Filter,
    level: Level,
    kind: &'static str,
    text: impl Fn(Count, &File) -> String,
) -> Vec<Matter> {
    let mut clients: BTreeMap<Option<&Text>, (u64, &File)> = BTreeMap::new();
    let is_shown = |file: &&File| filter.matches([file.client.as_deref().unwrap_or(NO_CLIENT), &*file.name]);
    for file in files.items.iter().filter(is_shown) {
        let known = clients.entry(file.client.as_ref()).or_insert((0, file));
        known.0 += 1;
        if file.ended_at > known.1.ended_at {
            known.1 = file;
        }
    }
    let matter = |(client, (number, last)): (Option<&Text>, (u64, &File))| Matter {
        level,
        kind,
        client: Some(client.cloned().unwrap_or_else(|| Text::from(NO_CLIENT))),
        subject: last.name.clone(),
        text: text(Count { number, more: files.has_more() }, last),
    };
    clients.into_iter().map(matter).collect()
}

fn of_arrivals(data: &Data, now: Timestamp) -> Vec<Matter> {
    let found = data.arrivals.iter().filter_map(|arrival| {
        let ago = duration(u64::try_from(now.duration_since(arrival.due).as_secs()).unwrap_or(0));
        let file = arrival.file.as_deref().unwrap_or("no file");
        let (level, kind, text) = match &*arrival.state {
            "missing" => (Level::Alert, "missing", format!("it was due {ago} ago")),
            "late" => (Level::Notice, "late", format!("{file}, which was due {ago} ago")),
            "too_small" => {
                let least = arrival
                    .records_min
                    .map_or_else(String::new, |least| format!(", at least {least} are expected"));
                (
                    Level::Notice,
                    "too small",
                    format!("{file} has {} records{least}", arrival.records.unwrap_or(0)),
                )
            }
            _ => return None,
        };
        let (client, subject) = (Some(arrival.client.clone()), arrival.contract.clone());
        Some(Matter { level, kind, client, text: format!("{subject}: {text}"), subject })
    });
    found.collect()
}

fn of_stream(stream: &Stream) -> Vec<Matter> {
    let matter = |level, text: String| Matter {
        level,
        kind: "stream",
        client: Some(stream.client.clone()),
        subject: Text::from(name(stream)),
        text: format!("{}: {text}", stream.stream),
    };
    let mut found: Vec<Matter> =
        stream.instances.iter().filter_map(of_instance).map(|(level, text)| matter(level, text)).collect();
    if stream.waits_for.is_some() || !stream.is_ready {
        let reason = stream.waits_for.as_deref().unwrap_or("broker or store is unavailable");
        found.push(matter(Level::Alert, format!("no instance can be started: {reason}")));
    } else if running(stream) < stream.desired && found.is_empty() {
        found.push(matter(Level::Notice, format!("{} of {} instances run", running(stream), stream.desired)));
    }
    let load = load(stream).unwrap_or(0.0);
    if stream.desired >= stream.max && load > LOAD_HIGH {
        found.push(matter(
            Level::Notice,
            format!("all of its {} instances are {:.0} % busy", stream.max, load * 100.0),
        ));
    }
    found
}

fn of_instance(instance: &Instance) -> Option<(Level, String)> {
    let slot = instance.slot;
    match (&*instance.state, instance.silent_seconds) {
        ("given-up", _) => {
            Some((Level::Alert, format!("instance {slot} was given up after {} restarts", instance.restarts)))
        }
        (_, Some(seconds)) => {
            Some((Level::Alert, format!("instance {slot} has reported nothing for {}", duration(seconds))))
        }
        ("backing-off", None) => {
            Some((Level::Notice, format!("instance {slot} has crashed and is started again")))
        }
        _ => None,
    }
}
