//! Converts a value of a CSV column to a field of a document, exactly or not at all.

use std::borrow::Cow;

use mysimbdp_model::column::ColumnType;

use super::number::{self, ExactNumber};
use super::{Fields, date};
use crate::Rejection;

/// The most characters of a value that a reject's reason quotes.
const SHOWN_CHARS: usize = 40;

/// Writes `text` as a value of its column's type. The type is declared, or is
/// [`ColumnValues::type_without`](crate::ColumnValues::type_without) for the whole file; in a column that is declared a number,
/// `+1`, `007` and `1.10` are numbers too.
///
/// # Errors
///
/// The reason for the record's reject.
pub fn append(fields: &mut Fields, name: &str, text: &str, kind: ColumnType) -> Result<(), Rejection> {
    let misfit = |what: &str| {
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        format!("column {name:?}: {shown:?} {what}")
    };
    match kind {
        ColumnType::String => fields.string(name, text),
        ColumnType::Int => fields.int32(name, text.parse().map_err(|_| misfit("is not a 32-bit integer"))?),
        ColumnType::Long => fields.int64(name, text.parse().map_err(|_| misfit("is not a 64-bit integer"))?),
        ColumnType::Double => fields
            .double(name, double(text).ok_or_else(|| misfit("is not a number that a double holds exactly"))?),
        ColumnType::Bool => fields.bool(name, text.parse().map_err(|_| misfit("is neither true nor false"))?),
        ColumnType::Date => fields.date(name, date::millis(text).map_err(misfit)?),
    }
    Ok(())
}

/// Writes `text` with a type that depends on this value alone: a number or a boolean if writing it gives the same text again,
/// otherwise text.
///
/// For the fields of a key. Other columns have one type in a file, but a key must be the same in every file, whatever else its
/// column holds there, and the same as the key of a message.
pub fn append_untyped(fields: &mut Fields, name: &str, text: &str) {
    match number::exact(text) {
        Some(ExactNumber::Int(value)) if value.to_string() == text => fields.int(name, value),
        // Zero is excluded: -0 without its sign would be another text.
        Some(ExactNumber::Double(value)) if value != 0.0 && value.to_string() == text => {
            fields.double(name, value)
        }
        None if matches!(text, "true" | "false") => fields.bool(name, text == "true"),
        _ => fields.string(name, text),
    }
}

fn double(text: &str) -> Option<f64> {
    match number::exact(&normalized(text))? {
        ExactNumber::Double(value) => Some(value),
        ExactNumber::Int(value) => {
            let double = value as f64;
            // Compared in 128 bits, because i64::MAX would be rounded on the way back too.
            (double as i128 == i128::from(value)).then_some(double)
        }
    }
}

/// Returns `text` in the grammar of JSON. In a column that is declared a number, `+1`, `.5`, `5.` and `007` are numbers too.
fn normalized(text: &str) -> Cow<'_, str> {
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

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, Document};

    use super::*;

    fn read(fields: &Fields) -> Bson {
        let document: Document = bson::deserialize_from_slice(&fields.to_document()).expect("valid BSON");
        document.get("v").cloned().expect("the field")
    }

    #[test]
    fn values_of_declared_types_are_exact_or_rejected() {
        let date = DateTime::from_millis(1_357_020_000_000);
        for (kind, text, value) in [
            (ColumnType::String, "007", Some(Bson::String("007".to_owned()))),
            (ColumnType::Int, "007", Some(Bson::Int32(7))),
            (ColumnType::Int, "3000000000", None),
            (ColumnType::Int, "1.5", None),
            (ColumnType::Long, "3000000000", Some(Bson::Int64(3_000_000_000))),
            (ColumnType::Long, "9223372036854775808", None),
            (ColumnType::Double, "30", Some(Bson::Double(30.0))),
            (ColumnType::Double, ".5", Some(Bson::Double(0.5))),
            (ColumnType::Double, "-.5e1", Some(Bson::Double(-5.0))),
            (ColumnType::Double, "+007.", Some(Bson::Double(7.0))),
            (ColumnType::Double, "9007199254740993", None),
            (ColumnType::Double, "9223372036854775807", None),
            (ColumnType::Double, "1e400", None),
            (ColumnType::Double, "NaN", None),
            (ColumnType::Double, ".", None),
            (ColumnType::Double, "-", None),
            (ColumnType::Double, "--5", None),
            (ColumnType::Double, "1.2.3", None),
            (ColumnType::Bool, "true", Some(Bson::Boolean(true))),
            (ColumnType::Bool, "1", None),
            (ColumnType::Date, "2013-01-01T06:00:00Z", Some(Bson::DateTime(date))),
            (ColumnType::Date, "2013-01-01T07:00:00.000+01:00", Some(Bson::DateTime(date))),
            (ColumnType::Date, "2013-01-01T06:00:00.0001Z", None),
            (ColumnType::Date, "2013-01-01", None),
            (ColumnType::Date, "2013-02-30T00:00:00Z", None),
        ] {
            let mut fields = Fields::new();
            let appended = append(&mut fields, "v", text, kind);
            match value {
                Some(value) => assert_eq!((appended, read(&fields)), (Ok(()), value), "{kind:?} {text}"),
                None => assert!(
                    appended.is_err_and(|reason| reason.to_string().contains("\"v\"")),
                    "{kind:?} {text}"
                ),
            }
        }
    }
    #[test]
    fn an_untyped_value_is_a_number_only_if_writing_it_gives_the_same_text() {
        for (text, value) in [
            ("7", Bson::Int32(7)),
            ("-3000000000", Bson::Int64(-3_000_000_000)),
            ("39.02", Bson::Double(39.02)),
            ("true", Bson::Boolean(true)),
        ] {
            let mut fields = Fields::new();
            append_untyped(&mut fields, "v", text);
            assert_eq!(read(&fields), value, "{text}");
        }
        for text in [
            "007",
            "+7",
            "-0",
            "1E2",
            "1.10",
            "5.0",
            "0.10000000000000001",
            "9223372036854775808",
            "TRUE",
            "A7",
            "",
        ] {
            let mut fields = Fields::new();
            append_untyped(&mut fields, "v", text);
            assert_eq!(read(&fields), Bson::String(text.to_owned()), "{text}");
        }
    }
}
