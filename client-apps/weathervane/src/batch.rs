//! The messages: batches of an hour's readings, and requests for missing batches.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most batches of an hour.
pub const BATCHES_MAX: u32 = 1000;

/// The most readings of a batch.
const READINGS_MAX: usize = 1000;

/// An hour in UTC, such as `2013-01-01T06:00:00Z`. Hours are ordered by their text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hour(String);

/// Some of an hour's readings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub hour: Hour,
    /// The previous hour in the file, so that an hour of which nothing has arrived is noticed too.
    pub previous: Option<Hour>,
    /// The number of the batch in its hour, from 0.
    pub batch: u32,
    /// The number of batches of the hour.
    pub batches: u32,
    pub readings: Vec<Reading>,
}

/// What a station measured in an hour; `None` if it did not measure a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The station.
    pub origin: String,
    /// Degrees Fahrenheit.
    pub temp: Option<f64>,
    pub dewp: Option<f64>,
    /// Percent.
    pub humid: Option<f64>,
    /// Degrees from north.
    pub wind_dir: Option<f64>,
    /// Miles an hour.
    pub wind_speed: Option<f64>,
    pub wind_gust: Option<f64>,
    /// Inches.
    pub precip: Option<f64>,
    /// Millibars.
    pub pressure: Option<f64>,
    /// Miles.
    pub visib: Option<f64>,
}

/// A request to send batches of an hour again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResendRequest {
    pub hour: Hour,
    /// The numbers of the batches; `None` means all, because nothing of the hour is known.
    pub missing: Option<Vec<u32>>,
}

impl Hour {
    /// Returns the day of the hour, such as `2013-01-01`.
    pub fn day(&self) -> &str {
        // Ten characters: the format has been checked.
        self.0.split('T').next().unwrap_or_default()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Hour {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_hour = text.len() == 20
            && text.ends_with(":00:00Z")
            && text.parse::<jiff::Timestamp>().is_ok_and(|time| time.to_string() == text);
        if is_hour {
            Ok(Self(text))
        } else {
            Err(format!("invalid hour {text:?}: expected an hour such as 2013-01-01T06:00:00Z"))
        }
    }
}

impl std::str::FromStr for Hour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<Hour> for String {
    fn from(hour: Hour) -> Self {
        hour.0
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Batch {
    /// Checks the rules that the structure alone does not enforce.
    ///
    /// # Errors
    ///
    /// The first rule that the batch breaks.
    pub fn check(&self) -> Result<(), String> {
        let Self { hour, previous, batch, batches, readings } = self;
        if !(1..=BATCHES_MAX).contains(batches) || batch >= batches {
            return Err(format!(
                "invalid batch {batch} of {batches}: expected at most {BATCHES_MAX} batches, numbered from 0"
            ));
        }
        if previous.as_ref().is_some_and(|previous| previous >= hour) {
            return Err(format!("invalid previous hour of {hour}: expected an earlier hour"));
        }
        if !(1..=READINGS_MAX).contains(&readings.len()) {
            return Err(format!("{} readings: expected 1 to {READINGS_MAX}", readings.len()));
        }
        // Station names become field names.
        let is_station =
            |name: &str| (1..=8).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
        match readings.iter().find(|reading| !is_station(&reading.origin)) {
            Some(reading) => {
                Err(format!("invalid station {:?}: expected 1 to 8 letters and digits", reading.origin))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn hour(number: u32) -> Hour {
        format!("2013-01-{:02}T{:02}:00:00Z", number / 24 + 1, number % 24).parse().expect("an hour")
    }

    pub fn reading(origin: &str, temp: Option<f64>) -> Reading {
        Reading {
            origin: origin.to_owned(),
            temp,
            dewp: None,
            humid: Some(50.0),
            wind_dir: None,
            wind_speed: Some(10.0),
            wind_gust: None,
            precip: None,
            pressure: None,
            visib: None,
        }
    }

    #[test]
    fn only_full_hours_are_accepted() {
        assert_eq!(hour(30).day(), "2013-01-02");
        for bad in
            ["", "2013-01-01", "2013-01-01T06:30:00Z", "2013-13-01T06:00:00Z", "2013-01-01T06:00:00+00:00"]
        {
            assert!(bad.parse::<Hour>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_invalid_batch_is_refused() {
        let batch = |change: fn(&mut Batch)| {
            let mut batch = Batch {
                hour: hour(1),
                previous: Some(hour(0)),
                batch: 2,
                batches: 3,
                readings: vec![reading("EWR", None)],
            };
            change(&mut batch);
            batch.check()
        };
        assert_eq!(batch(|_| {}), Ok(()));
        for change in [
            (|batch| batch.batch = 3) as fn(&mut Batch),
            |batch| batch.batches = 0,
            |batch| batch.batches = u32::MAX,
            |batch| batch.previous = Some(hour(1)),
            |batch| batch.readings.clear(),
            |batch| batch.readings[0].origin = "$where".to_owned(),
        ] {
            assert!(batch(change).is_err());
        }
    }
}
