//! The records of `samples/hostile/records.json`, which every app and every store must treat alike.

use bson::{Bson, Document};
use serde_json::Value;

/// The most memory that any process of the platform may use, whatever its input.
pub const MEMORY_KIB_MAX: u64 = 256 * 1024;

/// One line, element or message, and its expected outcome.
#[derive(Clone, Debug)]
pub struct HostileRecord {
    pub name: String,
    pub text: Vec<u8>,
    pub expected: Expected,
    /// Its brackets and quotes match and are not nested too deeply, so in an array it does not affect other elements.
    pub fits_array: bool,
    /// It can be a line of a text file.
    pub is_text: bool,
}

/// The expected outcome of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// A document with exactly these fields, in addition to its `_id`.
    Stored(Value),
    /// A reject whose reason contains this text.
    Rejected(String),
}

/// Returns all records of the corpus, in order.
///
/// # Panics
///
/// If the table is missing or invalid.
pub fn hostile_records() -> Vec<HostileRecord> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/hostile/records.json");
    let table = std::fs::read(path).expect("the table of hostile records");
    let table: Vec<Value> = serde_json::from_slice(&table).expect("a JSON array");
    table.iter().map(record).collect()
}

/// Returns a text that contains type, value and order of all fields, but not the width of integers, which the embedded store
/// does not keep.
pub fn canonical(document: Document) -> String {
    fn wide(value: Bson) -> Bson {
        match value {
            Bson::Int32(value) => Bson::Int64(value.into()),
            Bson::Array(values) => values.into_iter().map(wide).collect::<Vec<_>>().into(),
            Bson::Document(fields) => {
                fields.into_iter().map(|(k, v)| (k, wide(v))).collect::<Document>().into()
            }
            value => value,
        }
    }
    wide(document.into()).into_canonical_extjson().to_string()
}

fn record(entry: &Value) -> HostileRecord {
    let name = entry["name"].as_str().expect("each record has a name").to_owned();
    let text = text(entry).unwrap_or_else(|| panic!("{name:?} needs text, hex or repeat"));
    let expected = match (&entry["stored"], entry["reject"].as_str()) {
        (_, Some(reason)) => Expected::Rejected(reason.to_owned()),
        (Value::String(_), None) => Expected::Stored(serde_json::from_slice(&text).expect("as written")),
        (fields, None) => Expected::Stored(fields.clone()),
    };
    let is_not = |flag: &str| entry[flag] == Value::Bool(false);
    HostileRecord {
        name,
        text,
        expected,
        fits_array: !is_not("brackets") && !is_not("utf8"),
        is_text: !is_not("utf8"),
    }
}

fn text(entry: &Value) -> Option<Vec<u8>> {
    if let Some(text) = entry["text"].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    if let Some(digits) = entry["hex"].as_str() {
        let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        return (0..digits.len()).step_by(2).map(byte).collect();
    }
    // The front, the opening text repeated `times`, the middle, the closing text repeated as often, the end.
    let [front, opening, times, middle, closing, behind] = entry["repeat"].as_array()?.as_slice() else {
        return None;
    };
    let times = usize::try_from(times.as_u64()?).ok()?;
    let (opening, closing) = (opening.as_str()?.repeat(times), closing.as_str()?.repeat(times));
    Some([front.as_str()?, &opening, middle.as_str()?, &closing, behind.as_str()?].concat().into_bytes())
}
