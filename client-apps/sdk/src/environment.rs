//! Reads what the platform tells an app in its environment, and reports all that is wrong with it at once.

use std::fmt::Display;
use std::str::FromStr;

use mysimbdp_model::app::Ids;

use crate::failure::Failure;

/// The environment, and the faults found in it so far.
pub(crate) struct Environment<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<String>,
}

/// The variable `name` of this process, where it is text.
pub(crate) fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl<'a> Environment<'a> {
    pub(crate) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get, faults: Vec::new() }
    }

    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    /// The value, or an empty text and a fault.
    pub(crate) fn text(&mut self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.faults.push(format!("{name} is missing"));
            String::new()
        })
    }

    /// The value as a `T`, or `otherwise` where it is missing; with a fault where it is no `T`.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, otherwise: T) -> T {
        let Some(value) = self.optional(name) else { return otherwise };
        value.parse().unwrap_or_else(|error| {
            self.faults.push(format!("{name} is {value:?}: {error}"));
            otherwise
        })
    }

    /// The value as a `T`; a fault where it is missing or none.
    pub(crate) fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let value = self.text(name);
        if value.is_empty() {
            return None;
        }
        value.parse().map_err(|error| self.faults.push(format!("{name} is {value:?}: {error}"))).ok()
    }

    /// The value as one of the words of a serde enum, or the default where it is missing.
    pub(crate) fn word<T: serde::de::DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let Some(value) = self.optional(name) else { return T::default() };
        serde_json::from_value(value.into()).unwrap_or_else(|error| {
            self.faults.push(format!("{name}: {error}"));
            T::default()
        })
    }

    /// The value as JSON, or the default where it is missing.
    pub(crate) fn json<T: serde::de::DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let Some(value) = self.optional(name) else { return T::default() };
        serde_json::from_str(&value).unwrap_or_else(|error| {
            self.faults.push(format!("{name} is {value:?}: {error}"));
            T::default()
        })
    }

    /// `ids` and the fields that go with `ids: "key"`.
    pub(crate) fn ids(&mut self, ids: &str, record_key: &str) -> (Ids, Vec<String>) {
        let fields: Vec<String> = self
            .optional(record_key)
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        let ids_word = self.word(ids);
        if ids_word == Ids::Key && fields.is_empty() {
            self.faults.push(format!("{record_key} is missing, which {ids} \"key\" needs"));
        }
        (ids_word, fields)
    }

    pub(crate) fn fault(&mut self, text: String) {
        self.faults.push(text);
    }

    /// `value`, or all faults.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Failure> {
        if self.faults.is_empty() { Ok(value) } else { Err(Failure::Config(self.faults.join("; "))) }
    }
}
