//! The values of a schema's keywords, and what is wrong with them.

use bson::{Bson, Document};
use regex::Regex;

/// A type by its name in `bsonType`; `number` stands for all four numeric types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(pub(super) &'static str);

/// The store does not understand the schema.
#[derive(Debug, thiserror::Error)]
#[error("{keyword:?} in the validator {problem}")]
pub(super) struct SchemaError {
    keyword: String,
    problem: String,
}

impl SchemaError {
    pub(super) fn new(keyword: &str, problem: impl Into<String>) -> Self {
        Self { keyword: keyword.to_owned(), problem: problem.into() }
    }
}

const KINDS: [&str; 22] = [
    "array",
    "binData",
    "bool",
    "date",
    "dbPointer",
    "decimal",
    "double",
    "int",
    "javascript",
    "javascriptWithScope",
    "long",
    "maxKey",
    "minKey",
    "null",
    "number",
    "object",
    "objectId",
    "regex",
    "string",
    "symbol",
    "timestamp",
    "undefined",
];

/// The type names of `type`, with the equivalent ones of `bsonType`.
const JSON_KINDS: [(&str, Kind); 6] = [
    ("array", Kind("array")),
    ("boolean", Kind("bool")),
    ("null", Kind("null")),
    ("number", Kind("number")),
    ("object", Kind("object")),
    ("string", Kind("string")),
];

pub(super) fn kinds(keyword: &str, value: &Bson) -> Result<Vec<Kind>, SchemaError> {
    one_or_more(keyword, value, |name| KINDS.iter().find(|&&kind| kind == name).map(|&kind| Kind(kind)))
        .map_err(|name| SchemaError::new(keyword, format!("is {name}, expected one of {}", KINDS.join(", "))))
}

pub(super) fn json_kinds(keyword: &str, value: &Bson) -> Result<Vec<Kind>, SchemaError> {
    let names = JSON_KINDS.map(|(name, _)| name).join(", ");
    one_or_more(keyword, value, |name| {
        JSON_KINDS.iter().find(|(kind, _)| *kind == name).map(|(_, kind)| *kind)
    })
    .map_err(|name| {
        SchemaError::new(keyword, format!("is {name}, expected one of {names}; for integers use bsonType"))
    })
}

/// Reads one name or several; the error is the text of what cannot be used.
fn one_or_more<'a>(
    keyword: &str,
    value: &'a Bson,
    kind: impl Fn(&'a str) -> Option<Kind>,
) -> Result<Vec<Kind>, String> {
    let names = match value {
        Bson::String(_) => std::slice::from_ref(value),
        Bson::Array(names) if !names.is_empty() => names,
        _ => return Err(format!("{value} (a {keyword} is a name or an array of names)")),
    };
    names.iter().map(|name| name.as_str().and_then(&kind).ok_or_else(|| name.to_string())).collect()
}

pub(super) fn text<'a>(keyword: &str, value: &'a Bson) -> Result<&'a str, SchemaError> {
    value.as_str().ok_or_else(|| SchemaError::new(keyword, "must be a string"))
}

pub(super) fn document<'a>(keyword: &str, value: &'a Bson) -> Result<&'a Document, SchemaError> {
    value.as_document().ok_or_else(|| SchemaError::new(keyword, "must be an object"))
}

pub(super) fn array<'a>(keyword: &str, value: &'a Bson) -> Result<&'a Vec<Bson>, SchemaError> {
    value
        .as_array()
        .filter(|values| !values.is_empty())
        .ok_or_else(|| SchemaError::new(keyword, "must be a non-empty array"))
}

pub(super) fn texts(keyword: &str, value: &Bson) -> Result<Vec<String>, SchemaError> {
    array(keyword, value)?.iter().map(|name| text(keyword, name).map(str::to_owned)).collect()
}

pub(super) fn pattern(keyword: &str, pattern: &str) -> Result<Regex, SchemaError> {
    Regex::new(pattern)
        .map_err(|error| SchemaError::new(keyword, format!("is not a valid regular expression: {error}")))
}

pub(super) fn number(keyword: &str, value: &Bson) -> Result<f64, SchemaError> {
    as_number(value)
        .filter(|number| !number.is_nan())
        .ok_or_else(|| SchemaError::new(keyword, "must be a number"))
}

/// Returns a value as a double if it is a number.
pub(super) fn as_number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(number) => Some((*number).into()),
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        Bson::Decimal128(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Returns a count that may be absent.
pub(super) fn whole(schema: &Document, keyword: &str) -> Result<Option<u64>, SchemaError> {
    let Some(value) = schema.get(keyword) else {
        return Ok(None);
    };
    match number(keyword, value)? {
        count if count >= 0.0 && count.fract() == 0.0 => Ok(Some(count as u64)),
        _ => Err(SchemaError::new(keyword, "must be a whole number, 0 or more")),
    }
}

/// Returns a switch that is off if it is absent.
pub(super) fn flag(schema: &Document, keyword: &str) -> Result<bool, SchemaError> {
    match schema.get(keyword) {
        None => Ok(false),
        Some(Bson::Boolean(on)) => Ok(*on),
        Some(_) => Err(SchemaError::new(keyword, "must be true or false")),
    }
}
