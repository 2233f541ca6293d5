//! Encodes a value as bytes that compare as MongoDB compares values, so that an index of bytes has the same order.
//!
//! Equal values have equal keys whatever their types: 5, 5 as a long and 5.0 are the same `_id`. No key is the beginning of
//! another one in [`encode_exact`], so keys can follow one another.

mod number;

use bson::{Bson, Document};

/// Ends strings, documents and arrays. It is less than any byte that can continue them.
const END: u8 = 0;

/// How numbers are encoded.
#[derive(Clone, Copy)]
enum Numbers {
    /// As in the keys of stored documents, which cannot change: a Decimal128 only equals a Decimal128.
    AsInIds,
    /// By their exact value, whatever their type.
    Exact,
}

/// Returns the key of an `_id`.
pub(crate) fn encode(value: &Bson) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    append(&mut key, value, Numbers::AsInIds);
    key
}

/// Appends the key of any value. A Decimal128 equals the other numbers of the same value too.
#[cfg_attr(not(feature = "embedded"), allow(dead_code, reason = "MongoDB has its own indexes"))]
pub(crate) fn encode_exact(key: &mut Vec<u8>, value: &Bson) {
    append(key, value, Numbers::Exact);
}

fn append(key: &mut Vec<u8>, value: &Bson, numbers: Numbers) {
    key.push(rank(value));
    match (value, numbers) {
        (Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_), Numbers::Exact) => {
            number::append(key, value);
        }
        (value, _) => append_value(key, value, numbers),
    }
}

fn append_value(key: &mut Vec<u8>, value: &Bson, numbers: Numbers) {
    match value {
        Bson::Int32(number) => append_number(key, f64::from(*number), Some(i64::from(*number))),
        Bson::Int64(number) => append_number(key, *number as f64, Some(*number)),
        Bson::Double(number) => append_number(key, *number, None),
        Bson::Decimal128(number) => {
            append_number(key, number.to_string().parse().unwrap_or(f64::NAN), None);
            key.extend_from_slice(&number.bytes());
        }
        Bson::String(text) | Bson::Symbol(text) | Bson::JavaScriptCode(text) => {
            append_bytes(key, text.as_bytes())
        }
        Bson::Document(document) => append_document(key, document, numbers),
        Bson::Array(values) => {
            values.iter().for_each(|value| append(key, value, numbers));
            key.push(END);
        }
        Bson::Binary(binary) => {
            // MongoDB compares the length first. No document is larger than 16 MiB, so it fits.
            key.extend_from_slice(&(binary.bytes.len() as u32).to_be_bytes());
            key.push(binary.subtype.into());
            key.extend_from_slice(&binary.bytes);
        }
        Bson::ObjectId(id) => key.extend_from_slice(&id.bytes()),
        Bson::Boolean(truth) => key.push(u8::from(*truth)),
        Bson::DateTime(time) => key.extend_from_slice(&ascending(time.timestamp_millis())),
        Bson::Timestamp(time) => {
            key.extend_from_slice(&time.time.to_be_bytes());
            key.extend_from_slice(&time.increment.to_be_bytes());
        }
        Bson::RegularExpression(expression) => {
            append_bytes(key, expression.pattern.as_str().as_bytes());
            append_bytes(key, expression.options.as_str().as_bytes());
        }
        Bson::JavaScriptCodeWithScope(code) => {
            append_bytes(key, code.code.as_bytes());
            append_document(key, &code.scope, numbers);
        }
        // The fields of this type are private; nothing has written one for fifteen years.
        Bson::DbPointer(pointer) => append_bytes(key, format!("{pointer:?}").as_bytes()),
        Bson::MinKey | Bson::MaxKey | Bson::Null | Bson::Undefined => {}
    }
}

/// Returns the rank of a type in MongoDB's order of types: the first byte of each key.
pub(crate) fn rank(value: &Bson) -> u8 {
    match value {
        Bson::MinKey => 1,
        Bson::Undefined => 2,
        Bson::Null => 3,
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => 4,
        Bson::String(_) | Bson::Symbol(_) => 5,
        Bson::Document(_) => 6,
        Bson::Array(_) => 7,
        Bson::Binary(_) => 8,
        Bson::ObjectId(_) => 9,
        Bson::Boolean(_) => 10,
        Bson::DateTime(_) => 11,
        Bson::Timestamp(_) => 12,
        Bson::RegularExpression(_) => 13,
        Bson::DbPointer(_) => 14,
        Bson::JavaScriptCode(_) => 15,
        Bson::JavaScriptCodeWithScope(_) => 16,
        Bson::MaxKey => 17,
    }
}

/// Appends the number as a double, which orders all numbers, then its exact value: doubles cannot tell large integers
/// apart.
fn append_number(key: &mut Vec<u8>, number: f64, exact: Option<i64>) {
    // Casting back and forth preserves exactly the integers within the range of i64.
    let exact =
        exact.or_else(|| (number.fract() == 0.0 && number as i64 as f64 == number).then_some(number as i64));
    let sortable = match number {
        number if number.is_nan() => 0,
        0.0 => 1 << 63,
        number if number < 0.0 => !number.to_bits(),
        number => number.to_bits() | 1 << 63,
    };
    key.extend_from_slice(&sortable.to_be_bytes());
    key.extend_from_slice(&ascending(exact.unwrap_or(0)));
}

/// Returns big-endian bytes with the sign bit flipped, so that negative numbers come first.
fn ascending(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn append_document(key: &mut Vec<u8>, document: &Document, numbers: Numbers) {
    for (name, value) in document {
        // Type, name, value. `append` repeats the type, which costs a byte and saves a second function.
        key.push(rank(value));
        append_bytes(key, name.as_bytes());
        append(key, value, numbers);
    }
    key.push(END);
}

/// Escapes zeros within the bytes, so that the end sorts before everything else.
fn append_bytes(key: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        key.push(byte);
        if byte == END {
            key.push(0xff);
        }
    }
    key.extend_from_slice(&[END, END]);
}

#[cfg(test)]
mod tests {
    use bson::spec::BinarySubtype;
    use bson::{Binary, DateTime, doc};

    use super::*;

    fn binary(bytes: &[u8]) -> Bson {
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
    }

    fn exact(value: &Bson) -> Vec<u8> {
        let mut key = Vec::new();
        encode_exact(&mut key, value);
        key
    }

    #[test]
    fn keys_sort_like_their_values() {
        let ascending: Vec<Bson> = vec![
            Bson::MinKey,
            Bson::Null,
            f64::NAN.into(),
            f64::NEG_INFINITY.into(),
            i64::MIN.into(),
            (-1.5).into(),
            (-1).into(),
            0.into(),
            0.5.into(),
            1.into(),
            255.into(),
            256_i64.into(),
            ((1_i64 << 53) + 1).into(),
            ((1_i64 << 53) + 2).into(),
            i64::MAX.into(),
            1e300.into(),
            f64::INFINITY.into(),
            "".into(),
            "a".into(),
            "a\0".into(),
            "ab".into(),
            "ü".into(),
            doc! {}.into(),
            doc! { "a": 1 }.into(),
            doc! { "a": 1, "b": 1 }.into(),
            doc! { "a": 2 }.into(),
            doc! { "b": 1 }.into(),
            binary(b"zz"),
            binary(b"aaa"),
            binary(b"aab"),
            false.into(),
            true.into(),
            DateTime::from_millis(-1).into(),
            DateTime::from_millis(1).into(),
            Bson::MaxKey,
        ];
        for pair in ascending.windows(2) {
            assert!(encode(&pair[0]) < encode(&pair[1]), "{pair:?}");
            let (lower, higher) = (exact(&pair[0]), exact(&pair[1]));
            assert!(lower < higher && !higher.starts_with(&lower), "{pair:?}");
        }
    }

    #[test]
    fn equal_numbers_have_equal_keys_whatever_their_type() {
        for number in [0, 1, -1, 1 << 30] {
            let key = encode(&Bson::Int32(number));
            assert_eq!(key, encode(&Bson::Int64(number.into())));
            assert_eq!(key, encode(&Bson::Double(number.into())));
        }
        assert_eq!(encode(&Bson::Double(-0.0)), encode(&Bson::Int32(0)));
        let large = 1_i64 << 60;
        assert_eq!(encode(&Bson::Int64(large)), encode(&Bson::Double(large as f64)));
    }
}
