//! The times of a view: as bounds of a selection, and compared between the layers.

use std::cmp::Ordering;

use bson::raw::RawBsonRef;
use bson::{Bson, DateTime, RawDocument};
use jiff::Timestamp;
use mysimbdp_config::settings::TimeType;

use super::value;

/// The time of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RecordTime {
    Date(i64),
    Text(String),
    Integer(i64),
    Float(f64),
}

impl RecordTime {
    /// Returns the time of a document; `None` if it has none of this view's type.
    pub(crate) fn of(document: &RawDocument, path: &str) -> Option<Self> {
        Some(match value::at(document, path).ok()?? {
            RawBsonRef::DateTime(date) => Self::Date(date.timestamp_millis()),
            RawBsonRef::String(text) | RawBsonRef::Symbol(text) => Self::Text(text.to_owned()),
            RawBsonRef::Int32(number) => Self::Integer(number.into()),
            RawBsonRef::Int64(number) => Self::Integer(number),
            RawBsonRef::Double(number) => Self::Float(number),
            RawBsonRef::Decimal128(number) => Self::Float(number.to_string().parse().ok()?),
            _ => return None,
        })
    }

    /// Compares two times of the same view.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Date(one), Self::Date(other)) | (Self::Integer(one), Self::Integer(other)) => {
                one.cmp(other)
            }
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (one, other) => one.number().total_cmp(&other.number()),
        }
    }

    /// Returns the milliseconds since 1970, rounded down; `None` if it is not a time of the years 0 to 9999.
    pub(crate) fn millis(&self, time_type: TimeType) -> Option<i64> {
        let whole = |number: f64| (number.abs() < 1e15).then(|| number.floor() as i64);
        let millis = match (self, time_type) {
            (Self::Date(millis), TimeType::Date) => Some(*millis),
            (Self::Text(text), TimeType::Text) => text_millis(text),
            (Self::Integer(seconds), TimeType::Seconds) => seconds.checked_mul(1_000),
            (Self::Float(seconds), TimeType::Seconds) => whole(seconds * 1_000.0),
            (Self::Integer(millis), TimeType::Milliseconds) => Some(*millis),
            (Self::Float(millis), TimeType::Milliseconds) => whole(*millis),
            _ => None,
        };
        millis.filter(|millis| value::DATES.contains(millis))
    }

    fn number(&self) -> f64 {
        match self {
            // Without this, -0.0 would come before 0.
            Self::Float(number) => *number + 0.0,
            Self::Integer(number) | Self::Date(number) => *number as f64,
            Self::Text(_) => f64::INFINITY,
        }
    }
}

/// Returns the least value of the type, which makes a selection return only values of this type.
pub(crate) fn least(time_type: TimeType) -> Bson {
    match time_type {
        TimeType::Date => DateTime::MIN.into(),
        TimeType::Text => "".into(),
        TimeType::Seconds | TimeType::Milliseconds => f64::NEG_INFINITY.into(),
    }
}

/// Returns a value that is not greater than any stored time from `time` on, and greater than all earlier ones.
pub(crate) fn bound(time: Timestamp, time_type: TimeType) -> Bson {
    match time_type {
        // A date has no more than milliseconds.
        TimeType::Date => DateTime::from_millis(ceiling(time, 1_000_000)).into(),
        TimeType::Text => text(time).into(),
        TimeType::Seconds => number(time, 1_000_000_000),
        TimeType::Milliseconds => number(time, 1_000_000),
    }
}

/// Reads RFC 3339 in UTC; nothing else, because it is not in the order of its time among the others.
fn text_millis(text: &str) -> Option<i64> {
    let is_utc = text.ends_with('Z') || text.ends_with("+00:00");
    let is_written_so = text.as_bytes().get(10) == Some(&b'T') && is_utc;
    let time: Timestamp = is_written_so.then(|| text.parse().ok())??;
    Some(i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).expect("it is a time of jiff"))
}

fn ceiling(time: Timestamp, nanoseconds: i128) -> i64 {
    let whole = -(-time.as_nanosecond()).div_euclid(nanoseconds);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

fn number(time: Timestamp, nanoseconds: i128) -> Bson {
    if time.as_nanosecond() % nanoseconds == 0 {
        return ceiling(time, nanoseconds).into();
    }
    // The nearest double: what is stored as one was rounded in the same way.
    (time.as_nanosecond() as f64 / nanoseconds as f64).into()
}

/// Without the `Z` and without zeros at the end: the beginning of each text of this time, whatever its number of digits is.
fn text(time: Timestamp) -> String {
    let text = time.to_string();
    let text = text.trim_end_matches('Z');
    match text.split_once('.') {
        Some((_, _)) => text.trim_end_matches('0').to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_bound_is_between_the_stored_times_before_it_and_those_from_it_on() {
        let (whole, part) = (time("1970-01-01T00:00:02Z"), time("1970-01-01T00:00:02.0005Z"));
        for (time_type, expected) in [
            (TimeType::Date, [Bson::from(DateTime::from_millis(2_000)), DateTime::from_millis(2_001).into()]),
            (TimeType::Text, ["1970-01-01T00:00:02".into(), "1970-01-01T00:00:02.0005".into()]),
            (TimeType::Seconds, [2_i64.into(), 2.0005.into()]),
            (TimeType::Milliseconds, [2_000_i64.into(), 2_000.5.into()]),
        ] {
            assert_eq!([whole, part].map(|time| bound(time, time_type)), expected);
        }
        let before = time("1969-12-31T23:59:57.9995Z");
        assert_eq!(bound(before, TimeType::Date), DateTime::from_millis(-2_000).into());
        assert_eq!(bound(time("1970-01-01T00:00:10Z"), TimeType::Text), "1970-01-01T00:00:10".into());
    }

    #[test]
    fn times_of_each_type_are_milliseconds() {
        use RecordTime::{Date, Float, Integer, Text};
        for (time, time_type, expected) in [
            (Date(-1), TimeType::Date, Some(-1)),
            (Text("1970-01-01T00:00:01.0019Z".to_owned()), TimeType::Text, Some(1_001)),
            (Text("1969-12-31T23:59:59.9999+00:00".to_owned()), TimeType::Text, Some(-1)),
            (Text("1970-01-01T01:00:01+01:00".to_owned()), TimeType::Text, None),
            (Text("1970-01-01 00:00:01Z".to_owned()), TimeType::Text, None),
            (Text("soon".to_owned()), TimeType::Text, None),
            (Integer(-2), TimeType::Seconds, Some(-2_000)),
            (Float(-0.0001), TimeType::Seconds, Some(-1)),
            (Integer(7), TimeType::Milliseconds, Some(7)),
            (Float(7.9), TimeType::Milliseconds, Some(7)),
            (Float(f64::INFINITY), TimeType::Milliseconds, None),
            (Integer(i64::MAX), TimeType::Seconds, None),
            (Date(i64::MAX), TimeType::Date, None),
        ] {
            assert_eq!(time.millis(time_type), expected, "{time:?}");
        }
    }

    #[test]
    fn numbers_are_compared_by_value() {
        use RecordTime::{Float, Integer};
        assert_eq!(Integer(2).compare(&Float(2.0)), Ordering::Equal);
        assert_eq!(Float(-0.0).compare(&Integer(0)), Ordering::Equal);
        assert_eq!(Float(1.5).compare(&Integer(2)), Ordering::Less);
        assert_eq!(Integer(i64::MAX).compare(&Integer(i64::MAX - 1)), Ordering::Greater);
    }
}
