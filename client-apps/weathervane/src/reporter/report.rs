//! Computes the report of an hour. Pure: the same readings always give the same report.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::batch::{Hour, Reading};

/// What the stations measured in an hour, and in its day up to then.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HourReport {
    #[serde(rename = "_id")]
    pub hour: Hour,
    pub day: String,
    /// The hours of the day up to and including this one.
    pub hours_of_day: u32,
    pub stations: BTreeMap<String, Station>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Station {
    pub hour: Measured,
    pub day: Measured,
}

/// The measurements of one station in a period.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// Degrees Fahrenheit.
    pub temperature: ValueSummary,
    /// Percent.
    pub humidity: ValueSummary,
    /// Miles an hour.
    pub wind: ValueSummary,
    /// Millibars.
    pub pressure: ValueSummary,
}

/// Summary of the values that are present; null if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ValueSummary {
    pub count: u32,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub mean: Option<f64>,
}

impl HourReport {
    /// Computes the report from the day's hours up to `hour`, which is the last one.
    pub fn of(hour: &Hour, hours: &[Vec<&Reading>]) -> Self {
        let day = || hours.iter().flatten().copied();
        let this_hour = || hours.last().into_iter().flatten().copied();
        let mut stations: BTreeMap<String, Station> = BTreeMap::new();
        for reading in day() {
            stations.entry(reading.origin.clone()).or_default();
        }
        for (name, station) in &mut stations {
            let of_station = |reading: &&Reading| reading.origin == *name;
            *station = Station {
                hour: Measured::of(this_hour().filter(of_station)),
                day: Measured::of(day().filter(of_station)),
            };
        }
        let hours_of_day = u32::try_from(hours.len()).unwrap_or(u32::MAX);
        Self { hour: hour.clone(), day: hour.day().to_owned(), hours_of_day, stations }
    }
}

impl Measured {
    fn of<'a>(readings: impl Iterator<Item = &'a Reading> + Clone) -> Self {
        let summary =
            |value: fn(&Reading) -> Option<f64>| ValueSummary::of(readings.clone().filter_map(value));
        Self {
            temperature: summary(|reading| reading.temp),
            humidity: summary(|reading| reading.humid),
            wind: summary(|reading| reading.wind_speed),
            pressure: summary(|reading| reading.pressure),
        }
    }
}

impl ValueSummary {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut summary = Self::default();
        let mut sum = 0.0;
        for value in values {
            summary.count += 1;
            summary.min = Some(summary.min.map_or(value, |min| min.min(value)));
            summary.max = Some(summary.max.map_or(value, |max| max.max(value)));
            sum += value;
        }
        if summary.count > 0 {
            summary.mean = Some(sum / f64::from(summary.count));
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::{hour, reading};

    #[test]
    fn an_hour_and_its_day_are_summarised_by_station() {
        let [first, second, third, nothing] = [
            reading("EWR", Some(30.0)),
            reading("EWR", Some(36.0)),
            reading("JFK", Some(50.0)),
            reading("EWR", None),
        ];
        let report = HourReport::of(&hour(2), &[vec![&first], vec![&nothing, &third], vec![&second]]);
        let summary =
            |count, min, max, mean| ValueSummary { count, min: Some(min), max: Some(max), mean: Some(mean) };
        assert_eq!((report.hours_of_day, report.day.as_str()), (3, "2013-01-01"));
        let newark = &report.stations["EWR"];
        assert_eq!(newark.hour.temperature, summary(1, 36.0, 36.0, 36.0));
        assert_eq!(newark.day.temperature, summary(2, 30.0, 36.0, 33.0));
        assert_eq!(newark.day.wind.count, 3, "a missing temperature affects no other value");
        assert_eq!(newark.day.pressure, ValueSummary::default());
        // A station without readings in this hour is still in the report, for the day.
        let kennedy = &report.stations["JFK"];
        assert_eq!((kennedy.hour.temperature.count, kennedy.day.temperature.count), (0, 1));
    }
}
