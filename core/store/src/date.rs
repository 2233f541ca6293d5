//! Times, as documents have them: with milliseconds.

use bson::DateTime;
use jiff::Timestamp;

/// Converts a time to the type that documents use.
pub fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millisecond())
}

/// Converts a date of a document to a time; 1970 if it is out of the range of times.
pub fn time(date: DateTime) -> Timestamp {
    Timestamp::from_millisecond(date.timestamp_millis()).unwrap_or_default()
}
