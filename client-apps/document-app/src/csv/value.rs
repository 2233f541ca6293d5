//! A CSV value to a field of a document: exactly, or not at all.

use std::borrow::Cow;

use jiff::Timestamp;
use mysimbdp_sdk::record::Fields;
use mysimbdp_sdk::record::number::{self, Number};

use crate::arguments::Kind;

/// How much of a value a reject shows.
const SHOWN_CHARS: usize = 40;

/// Writes `text` as the number or truth value that JSON would read in it, else as text.
///
/// A number that could not be stored exactly stays text, and so does `007`: codes must not lose their zeros.
pub(crate) fn infer(name: &str, text: &str, fields: &mut Fields) {
    match (text, number::exact(text)) {
        (_, Some(Number::Int(value))) => fields.int(name, value),
        (_, Some(Number::Double(value))) => fields.double(name, value),
        ("true", None) => fields.bool(name, true),
        ("false", None) => fields.bool(name, false),
        (text, None) => fields.string(name, text),
    }
}

/// Writes `text` as a value of the type that its column was given.
///
/// # Errors
///
/// The reason for the record's reject.
pub(crate) fn convert(kind: Kind, name: &str, text: &str, fields: &mut Fields) -> Result<(), String> {
    let misfit = |allowed: &str| {
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        format!("column {name:?}: {shown:?} is {allowed}")
    };
    match kind {
        Kind::String => fields.string(name, text),
        Kind::Int => fields.int32(name, text.parse().map_err(|_| misfit("no integer of 32 bits"))?),
        Kind::Long => fields.int64(name, text.parse().map_err(|_| misfit("no integer of 64 bits"))?),
        Kind::Double => {
            fields.double(name, double(text).ok_or_else(|| misfit("no number that a double holds exactly"))?)
        }
        Kind::Bool => fields.bool(name, text.parse().map_err(|_| misfit("neither true nor false"))?),
        Kind::Date => {
            fields.date(name, millis(text).ok_or_else(|| misfit("no RFC 3339 time of whole milliseconds"))?)
        }
    }
    Ok(())
}

fn double(text: &str) -> Option<f64> {
    match number::exact(&plain(text))? {
        Number::Double(value) => Some(value),
        Number::Int(value) => {
            let double = value as f64;
            // Compared in 128 bits, as i64::MAX would be rounded on the way back too.
            (double as i128 == i128::from(value)).then_some(double)
        }
    }
}

/// Where a column is declared a number, other ways to write one are meant as such: `+1`, `.5`, `5.`, `007`.
fn plain(text: &str) -> Cow<'_, str> {
    if number::is_number(text) {
        return Cow::Borrowed(text);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(['e', 'E']).unwrap_or(digits.len());
    let (mantissa, exponent) = digits.split_at(end);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Cow::Borrowed(text);
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    Cow::Owned(format!("{sign}{whole}{point}{fraction}{exponent}"))
}

fn millis(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    (time.subsec_nanosecond() % 1_000_000 == 0).then(|| time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, Document};

    use super::*;

    fn read(fields: &Fields) -> Bson {
        let document: Document = bson::deserialize_from_slice(&fields.to_document()).expect("valid BSON");
        document.get("v").cloned().expect("the field")
    }

    #[test]
    fn values_are_what_json_would_read_and_else_text() {
        for (text, value) in [
            ("270", Bson::Int32(270)),
            ("-7", Bson::Int32(-7)),
            ("3000000000", Bson::Int64(3_000_000_000)),
            ("39.02", Bson::Double(39.02)),
            ("12.658579999999999", Bson::Double(12.658579999999999)),
            ("true", Bson::Boolean(true)),
            ("false", Bson::Boolean(false)),
        ] {
            let mut fields = Fields::new();
            infer("v", text, &mut fields);
            assert_eq!(read(&fields), value, "{text}");
        }
        for text in [
            "007",
            "1e400",
            "18446744073709551617",
            "9007199254740993.0",
            "+49",
            ".5",
            "5.",
            "NaN",
            "TRUE",
            " 5",
            "EWR",
            "",
            "2013-01-01T06:00:00Z",
        ] {
            let mut fields = Fields::new();
            infer("v", text, &mut fields);
            assert_eq!(read(&fields), Bson::String(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn declared_types_are_exact_or_rejected() {
        let date = DateTime::from_millis(1_357_020_000_000);
        for (kind, text, value) in [
            (Kind::String, "007", Some(Bson::String("007".to_owned()))),
            (Kind::Int, "007", Some(Bson::Int32(7))),
            (Kind::Int, "3000000000", None),
            (Kind::Int, "1.5", None),
            (Kind::Long, "3000000000", Some(Bson::Int64(3_000_000_000))),
            (Kind::Long, "9223372036854775808", None),
            (Kind::Double, "30", Some(Bson::Double(30.0))),
            (Kind::Double, ".5", Some(Bson::Double(0.5))),
            (Kind::Double, "-.5e1", Some(Bson::Double(-5.0))),
            (Kind::Double, "+007.", Some(Bson::Double(7.0))),
            (Kind::Double, "9007199254740993", None),
            (Kind::Double, "9223372036854775807", None),
            (Kind::Double, "1e400", None),
            (Kind::Double, "NaN", None),
            (Kind::Double, ".", None),
            (Kind::Double, "-", None),
            (Kind::Double, "--5", None),
            (Kind::Double, "1.2.3", None),
            (Kind::Bool, "true", Some(Bson::Boolean(true))),
            (Kind::Bool, "1", None),
            (Kind::Date, "2013-01-01T06:00:00Z", Some(Bson::DateTime(date))),
            (Kind::Date, "2013-01-01T07:00:00.000+01:00", Some(Bson::DateTime(date))),
            (Kind::Date, "2013-01-01T06:00:00.0001Z", None),
            (Kind::Date, "2013-01-01", None),
            (Kind::Date, "2013-02-30T00:00:00Z", None),
        ] {
            let mut fields = Fields::new();
            let converted = convert(kind, "v", text, &mut fields);
            match value {
                Some(value) => assert_eq!((converted, read(&fields)), (Ok(()), value), "{kind:?} {text}"),
                None => assert!(converted.is_err_and(|reason| reason.contains("\"v\"")), "{kind:?} {text}"),
            }
        }
    }
}
