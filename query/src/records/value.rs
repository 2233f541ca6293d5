//! Values of BSON as JSON and as cells of CSV, without changing a value.
//!
//! | BSON | JSON | CSV |
//! |---|---|---|
//! | int, long | number with all digits | the same |
//! | double | the shortest number that is read as the same double | the same |
//! | NaN, ±Infinity | `{"$numberDouble": "NaN"}` | `NaN`, `Infinity`, `-Infinity` |
//! | Decimal128 | `{"$numberDecimal": "1.10"}` | its digits |
//! | date | text, RFC 3339 in UTC with milliseconds | the same |
//! | a date outside the years 0 to 9999 | `{"$date": {"$numberLong": "…"}}` | the same |
//! | ObjectId | text, 24 hexadecimal digits | the same |
//! | binary of 16 bytes as `_id` | text: 16 hexadecimal digits, `-`, the number in the other half | the same |
//! | text, boolean | the same | the same |
//! | null | null | nothing |
//! | object, array | the same | JSON |
//! | every other type | relaxed Extended JSON of MongoDB | the same |

use std::io::Write;

use bson::raw::RawBsonRef;
use bson::spec::BinarySubtype;
use bson::{Bson, RawDocument};
use mysimbdp_model::ingestion::RecordId;

/// The years that RFC 3339 can express, in milliseconds since 1970.
pub(crate) const DATES: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// Returns the value at a path that leads only through documents.
pub(crate) fn at<'a>(document: &'a RawDocument, path: &str) -> bson::error::Result<Option<RawBsonRef<'a>>> {
    let Some((first, remainder)) = path.split_once('.') else { return document.get(path) };
    match document.get(first)? {
        Some(RawBsonRef::Document(inner)) => at(inner, remainder),
        _ => Ok(None),
    }
}

/// A JSON object that is being written.
pub(crate) struct Members<'b> {
    buffer: &'b mut Vec<u8>,
    is_first: bool,
}

impl<'b> Members<'b> {
    pub(crate) fn begin(buffer: &'b mut Vec<u8>) -> Self {
        buffer.push(b'{');
        Self { buffer, is_first: true }
    }

    /// Returns the buffer, for the value.
    pub(crate) fn begin_member(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_first) {
            self.buffer.push(b',');
        }
        append_text(self.buffer, name);
        self.buffer.push(b':');
        self.buffer
    }

    pub(crate) fn append(&mut self, name: &str, value: RawBsonRef<'_>) -> bson::error::Result<()> {
        let buffer = self.begin_member(name);
        match record_id(name, value) {
            Some(id) => append_text(buffer, &id),
            None => append_json(buffer, value)?,
        }
        Ok(())
    }

    pub(crate) fn end(self) {
        self.buffer.push(b'}');
    }
}

/// A row of CSV (RFC 4180) that is being written.
pub(crate) struct Row<'b> {
    buffer: &'b mut Vec<u8>,
    start: usize,
    is_first: bool,
}

impl<'b> Row<'b> {
    pub(crate) fn begin(buffer: &'b mut Vec<u8>) -> Self {
        let start = buffer.len();
        Self { buffer, start, is_first: true }
    }

    fn begin_cell(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.buffer.push(b',');
        }
    }

    pub(crate) fn append_text(&mut self, text: &[u8]) {
        self.begin_cell();
        if text.iter().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r')) {
            self.buffer.push(b'"');
            for &byte in text {
                if byte == b'"' {
                    self.buffer.push(b'"');
                }
                self.buffer.push(byte);
            }
            self.buffer.push(b'"');
        } else {
            self.buffer.extend_from_slice(text);
        }
    }

    pub(crate) fn append(&mut self, value: Option<RawBsonRef<'_>>) -> bson::error::Result<()> {
        match value {
            None | Some(RawBsonRef::Null) => self.begin_cell(),
            Some(RawBsonRef::String(text) | RawBsonRef::Symbol(text)) => self.append_text(text.as_bytes()),
            Some(RawBsonRef::Decimal128(number)) => self.append_text(number.to_string().as_bytes()),
            Some(RawBsonRef::Double(number)) if !number.is_finite() => {
                self.append_text(not_finite(number).as_bytes());
            }
            Some(value) => {
                let mut json = Vec::new();
                match record_id("_id", value) {
                    Some(id) => json.extend_from_slice(id.as_bytes()),
                    None => append_json(&mut json, value)?,
                }
                // Dates and ids are texts of JSON without any character that is escaped.
                let text = match json.as_slice() {
                    [b'"', text @ .., b'"'] => text,
                    other => other,
                };
                self.append_text(text);
            }
        }
        Ok(())
    }

    pub(crate) fn end(self) {
        if self.buffer.len() == self.start {
            // An empty line would not be a row.
            self.buffer.extend_from_slice(b"\"\"");
        }
        self.buffer.push(b'\n');
    }
}

pub(crate) fn append_text(buffer: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(buffer, text).expect("a vector takes all bytes");
}

pub(crate) fn append_number(buffer: &mut Vec<u8>, number: impl std::fmt::Display) {
    write!(buffer, "{number}").expect("a vector takes all bytes");
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the text of an `_id` that identifies a record of a file or a numbered message.
fn record_id(name: &str, value: RawBsonRef<'_>) -> Option<String> {
    match value {
        RawBsonRef::Binary(binary) if name == "_id" && binary.subtype == BinarySubtype::Generic => {
            let id = RecordId(binary.bytes.try_into().ok()?);
            Some(format!("{}-{}", hexadecimal(&id.0[..8]), id.number()))
        }
        _ => None,
    }
}

fn append_json(buffer: &mut Vec<u8>, value: RawBsonRef<'_>) -> bson::error::Result<()> {
    match value {
        RawBsonRef::String(text) => append_text(buffer, text),
        RawBsonRef::Int32(number) => append_number(buffer, number),
        RawBsonRef::Int64(number) => append_number(buffer, number),
        RawBsonRef::Double(number) if number.is_finite() => {
            serde_json::to_writer(buffer, &number).expect("a vector takes all bytes");
        }
        RawBsonRef::Double(number) => {
            write!(buffer, "{{\"$numberDouble\":\"{}\"}}", not_finite(number))
                .expect("a vector takes all bytes");
        }
        RawBsonRef::Boolean(truth) => buffer.extend_from_slice(if truth { b"true" } else { b"false" }),
        RawBsonRef::Null => buffer.extend_from_slice(b"null"),
        RawBsonRef::DateTime(date) if DATES.contains(&date.timestamp_millis()) => {
            append_date(buffer, date.timestamp_millis());
        }
        // By hand: `into_relaxed_extjson` puts another date there.
        RawBsonRef::DateTime(date) => {
            write!(buffer, "{{\"$date\":{{\"$numberLong\":\"{}\"}}}}", date.timestamp_millis())
                .expect("a vector takes all bytes");
        }
        RawBsonRef::ObjectId(id) => append_text(buffer, &id.to_hex()),
        RawBsonRef::Document(document) => {
            let mut members = Members::begin(buffer);
            for element in document.iter() {
                let (name, value) = element?;
                append_json(members.begin_member(name.as_str()), value)?;
            }
            members.end();
        }
        RawBsonRef::Array(values) => {
            buffer.push(b'[');
            for (index, value) in values.into_iter().enumerate() {
                if index > 0 {
                    buffer.push(b',');
                }
                append_json(buffer, value?)?;
            }
            buffer.push(b']');
        }
        other => {
            let json = Bson::try_from(other)?.into_relaxed_extjson();
            serde_json::to_writer(buffer, &json).expect("a vector takes all bytes");
        }
    }
    Ok(())
}

fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// By hand: the last hours of the year 9999 are beyond the timestamps of `jiff`.
fn append_date(buffer: &mut Vec<u8>, millis: i64) {
    const DAY: i64 = 86_400_000;
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let (days, time) = (millis.div_euclid(DAY), millis.rem_euclid(DAY));
    // From 0000-03-01: then the leap day is the last one of its year, and all months before it have fixed beginnings.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, is_next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + is_next_year;
    let (hour, minute, second) = (time / 3_600_000, time / 60_000 % 60, time / 1_000 % 60);
    // Digit by digit: of a long list's time, the formatter would take a tenth.
    let digits = |number: i64, place: i64| b'0' + u8::try_from(number / place % 10).unwrap_or(0);
    let pair = |number| [digits(number, 10), digits(number, 1)];
    buffer.push(b'"');
    buffer.extend(pair(year / 100).into_iter().chain(pair(year % 100)));
    for (separator, number) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
        buffer.push(separator);
        buffer.extend(pair(number));
    }
    buffer.push(b'.');
    buffer.push(digits(time, 100));
    buffer.extend(pair(time % 100));
    buffer.extend(b"Z\"");
}

#[cfg(test)]
mod tests {
    use bson::{Binary, DateTime, Decimal128, RawDocumentBuf, doc, oid::ObjectId};

    use super::*;

    fn raw(document: bson::Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(&document).expect("encodable")
    }

    /// A value as JSON, and as the only cell of a row.
    fn written(value: impl Into<Bson>) -> (String, String) {
        let document = raw(doc! { "a": value.into() });
        let value = document.get("a").expect("valid").expect("there");
        let (mut json, mut cells) = (Vec::new(), Vec::new());
        append_json(&mut json, value).expect("valid");
        let mut row = Row::begin(&mut cells);
        row.append(Some(value)).expect("valid");
        row.end();
        (
            String::from_utf8(json).expect("UTF-8"),
            String::from_utf8(cells).expect("UTF-8").trim_end().to_owned(),
        )
    }

    #[test]
    fn values_are_not_changed() {
        let decimal: Decimal128 = "1.10".parse().expect("a decimal");
        let id = ObjectId::parse_str("0102030405060708090a0b0c").expect("an id");
        let binary = Binary { subtype: BinarySubtype::Uuid, bytes: vec![1; 16] };
        let cases: Vec<(Bson, &str, &str)> = vec![
            (i64::MAX.into(), "9223372036854775807", "9223372036854775807"),
            (i64::MIN.into(), "-9223372036854775808", "-9223372036854775808"),
            (7_i32.into(), "7", "7"),
            (0.1.into(), "0.1", "0.1"),
            (5.0.into(), "5.0", "5.0"),
            ((-0.0).into(), "-0.0", "-0.0"),
            (1e300.into(), "1e+300", "1e+300"),
            (5e-324.into(), "5e-324", "5e-324"),
            (f64::NAN.into(), r#"{"$numberDouble":"NaN"}"#, "NaN"),
            (f64::INFINITY.into(), r#"{"$numberDouble":"Infinity"}"#, "Infinity"),
            (f64::NEG_INFINITY.into(), r#"{"$numberDouble":"-Infinity"}"#, "-Infinity"),
            (decimal.into(), r#"{"$numberDecimal":"1.10"}"#, "1.10"),
            (
                DateTime::from_millis(1_795_231_331_007).into(),
                r#""2026-11-21T03:22:11.007Z""#,
                "2026-11-21T03:22:11.007Z",
            ),
            (DateTime::from_millis(-1).into(), r#""1969-12-31T23:59:59.999Z""#, "1969-12-31T23:59:59.999Z"),
            (
                DateTime::from_millis(*DATES.start()).into(),
                r#""0000-01-01T00:00:00.000Z""#,
                "0000-01-01T00:00:00.000Z",
            ),
            (
                DateTime::from_millis(*DATES.end()).into(),
                r#""9999-12-31T23:59:59.999Z""#,
                "9999-12-31T23:59:59.999Z",
            ),
            (
                DateTime::MAX.into(),
                r#"{"$date":{"$numberLong":"9223372036854775807"}}"#,
                r#""{""$date"":{""$numberLong"":""9223372036854775807""}}""#,
            ),
            (id.into(), r#""0102030405060708090a0b0c""#, "0102030405060708090a0b0c"),
            (true.into(), "true", "true"),
            (Bson::Null, "null", "\"\""),
            ("a\"b\n\u{1}ä".into(), r#""a\"b\n\u0001ä""#, "\"a\"\"b\n\u{1}ä\""),
            ("plain".into(), r#""plain""#, "plain"),
            (
                binary.into(),
                r#"{"$binary":{"base64":"AQEBAQEBAQEBAQEBAQEBAQ==","subType":"04"}}"#,
                r#""{""$binary"":{""base64"":""AQEBAQEBAQEBAQEBAQEBAQ=="",""subType"":""04""}}""#,
            ),
            (
                doc! { "x": [1, 2.5, { "y": Bson::Null }] }.into(),
                r#"{"x":[1,2.5,{"y":null}]}"#,
                r#""{""x"":[1,2.5,{""y"":null}]}""#,
            ),
        ];
        for (value, json, cell) in cases {
            let written = written(value.clone());
            assert_eq!((written.0.as_str(), written.1.as_str()), (json, cell), "{value:?}");
            let read: serde_json::Value = serde_json::from_str(json).expect("JSON");
            if let (Bson::Double(number), Some(read)) = (&value, read.as_f64()) {
                assert_eq!(read.to_bits(), number.to_bits());
            }
        }
    }

    #[test]
    fn every_day_has_its_date() {
        for day in (-719_528..2_932_895_i64).step_by(7) {
            let millis = day * 86_400_000 + (day.rem_euclid(86_400)) * 1_000 + 7;
            let time = jiff::Timestamp::from_millisecond(millis).expect("a time");
            let mut date = Vec::new();
            append_date(&mut date, millis);
            let expected = format!("\"{}Z\"", time.to_string().trim_end_matches('Z'));
            assert_eq!(String::from_utf8(date).expect("UTF-8"), expected);
        }
    }

    #[test]
    fn the_id_of_a_record_is_text() {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 0xff]);
        id[14] = 1;
        let document = raw(doc! { "_id": Binary::from(RecordId(id)) });
        let mut json = Vec::new();
        let mut members = Members::begin(&mut json);
        members.append("_id", document.get("_id").expect("valid").expect("there")).expect("valid");
        members.end();
        assert_eq!(json, br#"{"_id":"00010203040506ff-256"}"#);
    }

    #[test]
    fn a_path_leads_through_documents_only() {
        let document = raw(doc! { "a": { "b": { "c": 1 } }, "l": [{ "c": 1 }] });
        assert_eq!(at(&document, "a.b.c").expect("valid").and_then(|value| value.as_i32()), Some(1));
        for none in ["a.c", "l.c", "l.0", "x.y"] {
            assert!(at(&document, none).expect("valid").is_none(), "{none}");
        }
    }
}
