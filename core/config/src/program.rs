//! Semantics of the settings of an app or a stream: which of them can be combined, and which names can be used.

use std::collections::BTreeMap;

use mysimbdp_model::app::{Ids, UnitKind, env};
use mysimbdp_model::topic::is_filter;
use mysimbdp_store::sequences::{LOSSES, SEQUENCES};

use super::checks::not_zero;
use super::globs::Globs;
use super::location::Path;
use super::problems::Problems;
use super::{App, Stream, settings};

/// The collection for the rejected records of every app.
pub const REJECTED: &str = "rejected";

/// Prefix of the environment variables that the platform sets; clients may set none of them but [`env::NUMBER_FIELDS`].
const OWN_VARIABLES: &str = "MYSIMBDP_";

pub(super) fn app(problems: &mut Problems<'_>, path: &Path, app: &settings::App) -> App {
    command(problems, &path.key("command"), &app.command);
    environment(problems, &path.key("env"), &app.env);
    record_key(problems, path, app.ids, &app.record_key);
    not_zero(problems, &path.key("timeout"), app.timeout);
    match (app.unit, app.ids) {
        (UnitKind::MicroBatch, Ids::Object) => {
            let message = "\"object\" needs the whole file: expected the unit \"file\" or \"range\"";
            problems.value(&path.key("ids"), message);
        }
        (UnitKind::Range, Ids::Platform | Ids::Key | Ids::None) => {
            let message = "\"range\" cuts through records: expected the ids \"object\"";
            problems.value(&path.key("unit"), message);
        }
        _ => {}
    }
    App {
        name: app.name.clone(),
        files: Globs::compile(problems, &path.key("files"), &app.files),
        collection: collection(problems, path, app.collection.as_deref(), &app.name),
        settings: app.clone(),
    }
}

pub(super) fn stream(
    problems: &mut Problems<'_>,
    path: &Path,
    stream: &settings::Stream,
    default_filter: String,
) -> Stream {
    command(problems, &path.key("command"), &stream.command);
    environment(problems, &path.key("env"), &stream.env);
    record_key(problems, path, stream.ids, &stream.record_key);
    if stream.ids == Ids::Object {
        let message = "\"object\" is for files: expected \"platform\", \"key\" or \"none\" for a stream";
        problems.value(&path.key("ids"), message);
    }
    let (min, max) = (stream.instances.min, stream.instances.max);
    if min > max {
        problems
            .value(&path.key("instances").key("min"), format!("{min} is more than max: expected 0 to {max}"));
    }
    scaling(problems, &path.key("scaling"), &stream.scaling);
    if let Some(filter) = &stream.topic_filter {
        topic_filter(problems, &path.key("topic_filter"), filter);
    }
    if let Some(schema) = &stream.message_schema
        && let Err(error) = jsonschema::validator_for(schema)
    {
        let location = error.instance_path();
        let message = format!("invalid JSON Schema: {error}");
        let message = if location.is_empty() { message } else { format!("{message} (at {location})") };
        problems.value(&path.key("message_schema"), message);
    }
    Stream {
        name: stream.name.clone(),
        topic_filter: stream.topic_filter.clone().unwrap_or(default_filter),
        collection: collection(problems, path, stream.collection.as_deref(), &stream.name),
        settings: stream.clone(),
    }
}

fn command(problems: &mut Problems<'_>, path: &Path, command: &[String]) {
    if command.first().is_some_and(|program| program.trim().is_empty()) {
        problems.value(&path.index(0), "names no program");
    }
    for (index, _) in command.iter().enumerate().filter(|(_, part)| part.contains('\0')) {
        problems.value(&path.index(index), "contains a NUL, which cannot be passed to a program");
    }
}

fn environment(problems: &mut Problems<'_>, path: &Path, variables: &BTreeMap<String, String>) {
    for (name, value) in variables {
        let path = path.key(name);
        if name.is_empty() || name.contains(['=', '\0']) {
            problems.key(&path, "invalid name of an environment variable: it is empty, or contains = or NUL");
        } else if name.starts_with(OWN_VARIABLES) && name != env::NUMBER_FIELDS {
            problems.key(
                &path,
                format!(
                    "is reserved for the platform: expected a name that does not begin with {OWN_VARIABLES}"
                ),
            );
        }
        if value.contains('\0') {
            problems.value(&path, "contains a NUL, which cannot be passed to a program");
        }
    }
}

fn record_key(problems: &mut Problems<'_>, path: &Path, ids: Ids, fields: &[String]) {
    let path = path.key("record_key");
    match (ids, fields) {
        (Ids::Key, []) => {
            problems.value(&path, "must name the fields that identify a record, because ids is \"key\"")
        }
        (Ids::Platform | Ids::Object | Ids::None, [_, ..]) => {
            problems.value(&path, format!("is only allowed with ids \"key\", but ids is {:?}", ids.as_str()));
        }
        _ => {}
    }
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index);
        // An app gets the names in one variable, separated by commas.
        if field.is_empty()
            || field.contains([',', '.', '\0'])
            || field.starts_with('$')
            || field.starts_with('_')
        {
            let message = format!(
                "invalid key field {field:?}: expected a name without , and . that begins with neither $ nor _"
            );
            problems.value(&path, message);
        } else if fields[..index].contains(field) {
            problems.value(&path, format!("{field:?} is listed twice"));
        }
    }
}

fn collection(problems: &mut Problems<'_>, path: &Path, written: Option<&str>, name: &str) -> String {
    let collection = written.unwrap_or(name);
    let reserved = [
        (REJECTED, "rejected records"),
        (SEQUENCES, "the numbers of received messages"),
        (LOSSES, "lost messages"),
    ];
    if let Some((name, what)) = reserved.iter().find(|(name, _)| *name == collection) {
        let path = path.key(if written.is_some() { "collection" } else { "name" });
        problems.value(&path, format!("{name:?} is reserved for {what}: expected another collection"));
    }
    collection.to_owned()
}

fn scaling(problems: &mut Problems<'_>, path: &Path, scaling: &settings::Scaling) {
    let (path, limits) = (path.key("thresholds"), &scaling.thresholds);
    // If they were the other way round, every report would be both too slow and quick enough, and nothing would ever change.
    if limits.down_processing_time >= limits.up_processing_time {
        let message = format!(
            "{} is not below up_processing_time: expected less than {}",
            limits.down_processing_time, limits.up_processing_time
        );
        problems.value(&path.key("down_processing_time"), message);
    }
    if limits.down_messages <= limits.up_messages {
        let message = format!(
            "{} is not above up_messages: expected more than {}",
            limits.down_messages, limits.up_messages
        );
        problems.value(&path.key("down_messages"), message);
    }
}

fn topic_filter(problems: &mut Problems<'_>, path: &Path, filter: &str) {
    if filter.starts_with("$share") {
        problems.value(
            path,
            format!("{filter:?} is already a shared subscription: omit $share/…, the platform adds it"),
        );
    } else if !is_filter(filter) {
        let message = format!(
            "invalid MQTT topic filter {filter:?}: expected levels separated by /, + alone in its level, # alone in the last one"
        );
        problems.value(path, message);
    }
}
