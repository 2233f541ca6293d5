//! Turns schema violations into our own messages: what is wrong with a value, and what is allowed.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use super::location::Path;
use super::problems::Problems;

/// The schema's description of the texts it allows, which editors show too.
pub(super) const ALLOWED_TEXT: &str = "patternErrorMessage";

/// A value is quoted up to this many characters.
const QUOTED_MAX: usize = 60;

/// Adds the faults that `error` stands for; `path` leads to the value concerned.
pub(super) fn explain(problems: &mut Problems<'_>, schema: &Value, error: &ValidationError<'_>, path: &Path) {
    let here = subschema(schema, path);
    let value = quoted(error.instance());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = known_keys(here);
            for key in unexpected {
                problems.key(&path.key(key), unknown_key(key, &known));
            }
        }
        ValidationErrorKind::Required { property } => {
            problems.value(path, format!("required key {property} is missing"));
        }
        ValidationErrorKind::Type { kind } => {
            let mut message = match error.instance().as_ref() {
                Value::Null => format!("null is not allowed: expected {}", type_names(kind)),
                other => format!("{value} is {}: expected {}", name_of_type(other), type_names(kind)),
            };
            if let Some(allowed) = here.and_then(|here| here.get(ALLOWED_TEXT)).and_then(Value::as_str) {
                message = format!("{message}, {allowed}");
            }
            problems.value(path, message);
        }
        ValidationErrorKind::Pattern { pattern } => {
            let allowed = here.and_then(|here| here.get(ALLOWED_TEXT)).and_then(Value::as_str);
            let allowed = allowed.map_or_else(|| format!("text that matches {pattern}"), str::to_owned);
            problems.value(path, format!("invalid value {value}: expected {allowed}"));
        }
        ValidationErrorKind::Enum { .. }
        | ValidationErrorKind::OneOfNotValid { .. }
        | ValidationErrorKind::Constant { .. } => {
            let options = options(here);
            problems.value(path, unknown_option(error.instance(), &options));
        }
        ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. } => {
            let limit = |name| here.and_then(|here| here.get(name)).map(Value::to_string);
            let allowed = match (limit("minimum"), limit("maximum")) {
                (Some(min), Some(max)) => format!("{min} to {max}"),
                (Some(min), None) => format!("{min} or more"),
                (None, Some(max)) => format!("{max} or less"),
                (None, None) => "another number".to_owned(),
            };
            problems.value(path, format!("{value} is out of range: expected {allowed}"));
        }
        ValidationErrorKind::MinItems { limit } => {
            problems.value(path, format!("has too few elements: expected at least {limit}"));
        }
        // The schema uses no other keyword today; if one is added, the validator's own message is shown.
        _ => problems.value(path, error.to_string()),
    }
}

/// The part of the schema that describes the value at `path`.
fn subschema<'a>(schema: &'a Value, path: &Path) -> Option<&'a Value> {
    let resolve = |part: &'a Value| match part.get("$ref").and_then(Value::as_str) {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')),
        None => Some(part),
    };
    path.steps().iter().try_fold(schema, |part, step| {
        let property = part.get("properties").and_then(|properties| properties.get(step));
        resolve(property.or_else(|| part.get("items")).or_else(|| part.get("additionalProperties"))?)
    })
}

fn known_keys(schema: Option<&Value>) -> Vec<&str> {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties.map(|properties| properties.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("unknown key, did you mean {near}? expected one of {}", known.join(", ")),
        None => format!("unknown key: expected one of {}", known.join(", ")),
    }
}

/// The values that an enumeration allows, whichever way the schema writes them.
fn options(schema: Option<&Value>) -> Vec<&str> {
    let Some(schema) = schema else { return Vec::new() };
    let list = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    let branches = list("oneOf").flat_map(|branch| {
        let listed = branch.get("enum").and_then(Value::as_array).into_iter().flatten();
        branch.get("const").into_iter().chain(listed)
    });
    list("enum").chain(branches).filter_map(Value::as_str).collect()
}

fn unknown_option(value: &Value, options: &[&str]) -> String {
    let list = options.iter().map(|option| format!("{option:?}")).collect::<Vec<_>>().join(", ");
    match value.as_str().and_then(|text| nearest(text, options)) {
        Some(near) => {
            format!("unknown value {}, did you mean {near:?}? expected one of {list}", quoted(value))
        }
        None => format!("unknown value {}: expected one of {list}", quoted(value)),
    }
}

/// The name that `text` was probably meant to be: at most two typos away, and longer than twice their number, as any
/// short word resembles another.
fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::osa_distance(&text.to_lowercase(), name);
    let (distance, name) = known.iter().map(|name| (distance(name), *name)).min()?;
    (distance <= 2 && distance * 2 < name.chars().count()).then_some(name)
}

fn name_of_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn type_names(kind: &TypeKind) -> String {
    let name = |name: &str| match name {
        "string" => "text".to_owned(),
        "array" => "a list".to_owned(),
        "integer" => "a whole number".to_owned(),
        "object" => "an object".to_owned(),
        other => format!("a {other}"),
    };
    match kind {
        TypeKind::Single(single) => name(single.as_str()),
        TypeKind::Multiple(several) => {
            several.iter().map(|one| name(one.as_str())).collect::<Vec<_>>().join(" or ")
        }
    }
}

/// The value as JSON, on one line and shortened to [`QUOTED_MAX`].
pub(super) fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
