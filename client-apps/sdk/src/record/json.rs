//! Converts JSON text to the fields of a document.
//!
//! serde_json checks the grammar and finds the values. Numbers are parsed here, from their text, because a parser that has
//! turned `18446744073709551617` into the nearest double no longer knows that it has changed it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::number::{self, ExactNumber};
use super::{DOCUMENT_BYTES_MAX, Fields, NESTING_MAX, Name, check_name};
use crate::Rejection;

/// Appends the members of the JSON object `text` to `fields`.
///
/// The conversion is exact or fails: duplicate keys, numbers that fit neither 64 bits nor a double, deeper nesting than
/// [`NESTING_MAX`] and names that [`check_name`] refuses are errors. Integers become `int32` or `int64`, decimals
/// become doubles.
///
/// # Errors
///
/// The reason, for the record's reject; `fields` is then incomplete and must not be used.
pub fn append_object(fields: &mut Fields, text: &[u8]) -> Result<(), Rejection> {
    let raw: &RawValue = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
    match raw.get().as_bytes().first() {
        Some(b'{') => members(fields, raw, 1),
        _ => Err(format!("record is {}: expected a JSON object", kind(raw)).into()),
    }
}

/// Visits an object or an array.
struct Container<'f> {
    fields: &'f mut Fields,
    level: usize,
}

fn members(fields: &mut Fields, raw: &RawValue, level: usize) -> Result<(), Rejection> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_map(Container { fields, level }).map_err(reason)
}

fn elements(fields: &mut Fields, raw: &RawValue, level: usize) -> Result<(), Rejection> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_seq(Container { fields, level }).map_err(reason)
}

impl<'de> Visitor<'de> for Container<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key_seed(Text)? {
            let raw: &RawValue = map.next_value()?;
            check_name(&key).map_err(serde::de::Error::custom)?;
            value(self.fields, Name::Key(&key), raw, self.level).map_err(serde::de::Error::custom)?;
            if let Some(twice) = seen.replace(key) {
                return Err(serde::de::Error::custom(format!("key {twice:?} occurs twice")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            value(self.fields, Name::Index(index), raw, self.level).map_err(serde::de::Error::custom)?;
            index += 1;
        }
        Ok(())
    }
}

fn value(fields: &mut Fields, name: Name<'_>, raw: &RawValue, level: usize) -> Result<(), Rejection> {
    if fields.len() > DOCUMENT_BYTES_MAX {
        return Err(format!("document is larger than {DOCUMENT_BYTES_MAX} bytes").into());
    }
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{' | b'[') if level >= NESTING_MAX => {
            Err(format!("nested deeper than {NESTING_MAX} levels").into())
        }
        Some(b'{') => {
            fields.begin_document(name);
            members(fields, raw, level + 1)?;
            fields.end();
            Ok(())
        }
        Some(b'[') => {
            fields.begin_array(name);
            elements(fields, raw, level + 1)?;
            fields.end();
            Ok(())
        }
        Some(b'"') => {
            let string = Text.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(reason)?;
            fields.string(name, &string);
            Ok(())
        }
        Some(b't' | b'f') => {
            fields.bool(name, text == "true");
            Ok(())
        }
        Some(b'n') => {
            fields.null(name);
            Ok(())
        }
        _ => number_value(fields, name, text),
    }
}

fn number_value(fields: &mut Fields, name: Name<'_>, text: &str) -> Result<(), Rejection> {
    match number::exact(text) {
        Some(ExactNumber::Int(value)) => fields.int(name, value),
        Some(ExactNumber::Double(value)) => fields.double(name, value),
        None => {
            let shown: String = text.chars().take(40).collect();
            return Err(format!("number {shown} is not exact in 64 bits").into());
        }
    }
    Ok(())
}

/// Deserializes a JSON string, borrowed if it contains no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Returns the message without the position that serde_json adds: it is relative to the inner value and would mislead.
fn reason(error: serde_json::Error) -> Rejection {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(position) => text[..position].into(),
        None => text.into(),
    }
}

fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, Document, doc};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn convert(text: &str) -> Result<Document, Rejection> {
        let mut fields = Fields::new();
        append_object(&mut fields, text.as_bytes())?;
        Ok(bson::deserialize_from_slice(&fields.to_document()).expect("valid BSON"))
    }

    #[test]
    fn an_object_becomes_the_same_document() {
        let text =
            r#" {"a":1,"b":-2147483649,"c":0.1,"d":"x\n\u00e4\ud83d\ude00","e":[true,null,{"f":[]}],"":{}} "#;
        let expected = doc! {
            "a": 1_i32, "b": -2_147_483_649_i64, "c": 0.1, "d": "x\nä😀", "e": [true, null, {"f": []}], "": {},
        };
        assert_eq!(convert(text), Ok(expected));
    }

    #[test]
    fn text_that_cannot_be_stored_exactly_is_rejected_with_the_reason() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(101), "}".repeat(101));
        let very_deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        for (text, reason) in [
            (r#"{"a":1e400}"#, "not exact"),
            (r#"{"a":18446744073709551617}"#, "number 18446744073709551617 is not exact"),
            (r#"{"a":[{"b":9223372036854775808}]}"#, "not exact"),
            (r#"{"a":NaN}"#, "not JSON"),
            (r#"{"a":1,"a":1}"#, "\"a\" occurs twice"),
            (r#"{"a":1,"\u0061":2}"#, "\"a\" occurs twice"),
            (r#"{"b":{"a":1,"a":1}}"#, "\"a\" occurs twice"),
            (r#"{"$set":1}"#, "\"$set\" is not allowed"),
            (r#"{"x":{"a.b":1}}"#, "\"a.b\" is not allowed"),
            (r#"{"a\u0000b":1}"#, "is not allowed"),
            (r#"{"a":"\ud800"}"#, "hex escape"),
            ("[1]", "record is an array"),
            ("7", "record is a number"),
            ("null", "record is null"),
            ("\"x\"", "record is a string"),
            ("", "not JSON"),
            ("{", "not JSON"),
            (r#"{"a":1}{"b":2}"#, "not JSON"),
            (deep.as_str(), "nested deeper than 100"),
            (very_deep.as_str(), "nested deeper than 100"),
        ] {
            let error = convert(text).expect_err("rejected");
            assert!(error.to_string().contains(reason), "{error:?} does not say {reason:?}");
        }
        let mut fields = Fields::new();
        assert!(append_object(&mut fields, b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_hundred_levels_are_allowed() {
        let text = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        let mut fields = Fields::new();
        assert_eq!(append_object(&mut fields, text.as_bytes()), Ok(()));
    }

    #[test]
    fn a_document_that_would_grow_past_the_limit_is_rejected_early() {
        let text = format!("{{\"a\":[{}1]}}", "1,".repeat(4_000_000));
        let mut fields = Fields::new();
        let error = append_object(&mut fields, text.as_bytes()).expect_err("rejected");
        assert!(error.to_string().contains("larger than"), "{error}");
        assert!(fields.len() < DOCUMENT_BYTES_MAX + 100);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map("[a-zä]{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The reference conversion: slow, through a tree of values.
    fn reference(value: &Value) -> Bson {
        match value {
            Value::Null => Bson::Null,
            Value::Bool(value) => Bson::Boolean(*value),
            Value::Number(number) => match number.as_i64() {
                Some(value) => i32::try_from(value).map_or(Bson::Int64(value), Bson::Int32),
                None => Bson::Double(number.as_f64().expect("no integer over 64 bits is generated")),
            },
            Value::String(text) => Bson::String(text.clone()),
            Value::Array(values) => Bson::Array(values.iter().map(reference).collect()),
            Value::Object(members) => {
                Bson::Document(members.iter().map(|(key, value)| (key.clone(), reference(value))).collect())
            }
        }
    }

    proptest! {
        #[test]
        fn any_object_is_converted_like_the_reference(value in json()) {
            let text = serde_json::json!({ "v": value }).to_string();
            prop_assert_eq!(convert(&text), Ok(doc! { "v": reference(&value) }));
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut fields = Fields::new();
            if append_object(&mut fields, &bytes).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value.is_object()));
            }
        }

        /// Nearly correct grammar, with everything that could change a value.
        #[test]
        fn any_pieces_of_json_are_converted_like_the_reference_or_rejected(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24),
        ) {
            let text = format!("{{\"v\":{}}}", pieces.concat());
            if let Ok(document) = convert(&text) {
                let value: Value = serde_json::from_str(&text).expect("accepted text is JSON");
                prop_assert_eq!(Bson::Document(document), reference(&value));
            }
        }
    }

    const PIECES: [&str; 30] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\":",
        "\"a\":",
        "\"\\u0061\":",
        "\"$a\":",
        "\"a.b\":",
        "1",
        "-0",
        "0.1",
        "1e400",
        "9223372036854775807",
        "9223372036854775808",
        "9007199254740993.0",
        "5e-324",
        "null",
        "true",
        "NaN",
        " ",
        "\\",
        "\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"\u{0}\"",
        "\u{feff}",
    ];
}
