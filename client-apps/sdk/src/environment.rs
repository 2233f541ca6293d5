//! Reads what the platform passes to an app in environment variables, and reports all problems at once.

use std::fmt::Display;
use std::str::FromStr;

use mysimbdp_model::app::Ids;

use crate::failure::Failure;

/// The environment, and the problems found in it so far.
pub(crate) struct Environment<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

/// Returns the environment variable `name` of this process, if it is valid Unicode.
pub(crate) fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl<'a> Environment<'a> {
    pub(crate) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get, problems: Vec::new() }
    }

    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    /// Returns the value. If it is missing, records a problem and returns an empty string.
    pub(crate) fn text(&mut self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.problems.push(format!("{name} is missing"));
            String::new()
        })
    }

    /// Returns the value as a `T`, or `default` if it is missing or, with a problem, if it is not a `T`.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> T {
        let Some(value) = self.optional(name) else { return default };
        value.parse().unwrap_or_else(|error| {
            self.problems.push(format!("invalid {name} {value:?}: {error}"));
            default
        })
    }

    /// Returns the value as a `T`; records a problem if it is missing or not a `T`.
    pub(crate) fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let value = self.text(name);
        if value.is_empty() {
            return None;
        }
        value.parse().map_err(|error| self.problems.push(format!("invalid {name} {value:?}: {error}"))).ok()
    }

    /// Returns the value as a variant of a serde enum, or the default if it is missing.
    pub(crate) fn variant<T: serde::de::DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let Some(value) = self.optional(name) else { return T::default() };
        serde_json::from_value(value.into()).unwrap_or_else(|error| {
            self.problems.push(format!("{name}: {error}"));
            T::default()
        })
    }

    /// Returns the value parsed as JSON, or the default if it is missing.
    pub(crate) fn json<T: serde::de::DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let Some(value) = self.optional(name) else { return T::default() };
        serde_json::from_str(&value).unwrap_or_else(|error| {
            self.problems.push(format!("invalid {name} {value:?}: {error}"));
            T::default()
        })
    }

    /// Returns the kind of ids and, for `ids: "key"`, the key fields.
    pub(crate) fn ids(&mut self, ids: &str, record_key: &str) -> (Ids, Vec<String>) {
        let fields: Vec<String> = self
            .optional(record_key)
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        let kind = self.variant(ids);
        if kind == Ids::Key && fields.is_empty() {
            self.problems.push(format!("{record_key} is missing, but {ids} \"key\" requires it"));
        }
        (kind, fields)
    }

    pub(crate) fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// Returns `value`, or all problems if there are any.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Failure> {
        if self.problems.is_empty() { Ok(value) } else { Err(Failure::Config(self.problems.join("; "))) }
    }
}
