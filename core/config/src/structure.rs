//! Checks a config against its schema, and reads the parts of it that are valid.
//!
//! A fault in one part must not hide those in others. So the parts that violate the schema are reported and left out, and
//! the semantics of the remaining ones are checked.

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::LocationSegment;
use serde_json::{Map, Number, Value};

use super::explain::explain;
use super::location::Path;
use super::problems::Problems;
use super::settings::Settings;

/// The settings that could be read.
pub(super) struct Readable {
    pub(super) settings: Settings,
    /// The path of each of `settings.clients` in the file.
    pub(super) client_paths: Vec<Path>,
}

/// Checks `value` against `schema`; returns `None` if too little of it is valid to be read.
pub(super) fn check(problems: &mut Problems<'_>, schema: &Value, value: &Value) -> Option<Readable> {
    let root = Path::default();
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => {
            problems.value(&root, format!("cannot be checked, as the schema itself is broken: {error}"));
            return None;
        }
    };
    let mut misfits = Vec::new();
    for error in validator.iter_errors(value) {
        let path = Path::new(error.instance_path().segments().map(|segment| match segment {
            LocationSegment::Property(key) => key.into_owned(),
            LocationSegment::Index(index) => index.to_string(),
        }));
        misfits.extend(unknown_keys(&error, &path).unwrap_or_else(|| vec![Misfit::Part(path.clone())]));
        explain(problems, schema, &error, &path);
    }
    let mut remaining = value.as_object()?.clone();
    let client_paths = remove_misfits(&mut remaining, &misfits);
    remaining.values_mut().for_each(whole_numbers);
    match serde_json::from_value(Value::Object(remaining)) {
        Ok(settings) => Some(Readable { settings, client_paths }),
        Err(error) => {
            problems.value(&root, error.to_string());
            None
        }
    }
}

/// A part that violates the schema, and so is left out.
enum Misfit {
    /// Only this key: its neighbours are not affected.
    Key(Path),
    /// The client or the section that contains this value.
    Part(Path),
}

fn unknown_keys(error: &jsonschema::ValidationError<'_>, path: &Path) -> Option<Vec<Misfit>> {
    let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() else { return None };
    Some(unexpected.iter().map(|key| Misfit::Key(path.key(key))).collect())
}

/// Removes the misfits from `root`; returns the paths of the remaining clients.
fn remove_misfits(root: &mut Map<String, Value>, misfits: &[Misfit]) -> Vec<Path> {
    let mut broken_clients = Vec::new();
    for misfit in misfits {
        match misfit {
            Misfit::Key(path) => remove_key(root, path.steps()),
            Misfit::Part(path) => match path.steps() {
                [] => {}
                [section, index, ..] if section == "clients" => broken_clients.push(index.clone()),
                [section, ..] => {
                    root.remove(section);
                }
            },
        }
    }
    let mut left = Vec::new();
    let clients = root.entry("clients").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(clients) = clients {
        let mut index = 0;
        clients.retain(|_| {
            let keep = !broken_clients.contains(&index.to_string());
            if keep {
                left.push(Path::default().key("clients").index(index));
            }
            index += 1;
            keep
        });
    }
    left
}

fn remove_key(root: &mut Map<String, Value>, steps: &[String]) {
    match steps {
        [] => {}
        [key] => {
            root.remove(key);
        }
        [key, rest @ ..] => match root.get_mut(key) {
            Some(Value::Object(object)) => remove_key(object, rest),
            Some(Value::Array(array)) => {
                let [index, rest @ ..] = rest else { return };
                let element = index.parse().ok().and_then(|index: usize| array.get_mut(index));
                if let Some(Value::Object(object)) = element {
                    remove_key(object, rest);
                }
            }
            _ => {}
        },
    }
}

/// Turns `1.0` and `1e3` into `1` and `1000`: they are integers for the schema, but not for serde.
fn whole_numbers(value: &mut Value) {
    // Beyond this, a float no longer represents every integer.
    const EXACT: f64 = 9_007_199_254_740_991.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT)
            {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(array) => array.iter_mut().for_each(whole_numbers),
        Value::Object(object) => object.values_mut().for_each(whole_numbers),
        _ => {}
    }
}
