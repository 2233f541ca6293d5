//! Reads the weather file, hour by hour. The same file always gives the same batches.

use std::collections::BTreeMap;
use std::path::Path;

use mysimbdp_model::error_chain;
use mysimbdp_platform::files;
use mysimbdp_sdk::Failure;
use serde::{Deserialize, Deserializer, de};

use crate::batch::{Batch, Hour, Reading};

/// All hours of a weather file, in ascending order, split into batches.
#[derive(Debug)]
pub struct Hours {
    hours: Vec<(Hour, Vec<Reading>)>,
    readings_per_batch: usize,
}

/// A row of the file, unchanged.
#[derive(Deserialize)]
struct Row {
    origin: String,
    time_hour: Hour,
    #[serde(deserialize_with = "measured")]
    temp: Option<f64>,
    #[serde(deserialize_with = "measured")]
    dewp: Option<f64>,
    #[serde(deserialize_with = "measured")]
    humid: Option<f64>,
    #[serde(deserialize_with = "measured")]
    wind_dir: Option<f64>,
    #[serde(deserialize_with = "measured")]
    wind_speed: Option<f64>,
    #[serde(deserialize_with = "measured")]
    wind_gust: Option<f64>,
    #[serde(deserialize_with = "measured")]
    precip: Option<f64>,
    #[serde(deserialize_with = "measured")]
    pressure: Option<f64>,
    #[serde(deserialize_with = "measured")]
    visib: Option<f64>,
}

impl Hours {
    /// # Errors
    ///
    /// [`Failure::Data`] with the row that is wrong; [`Failure::Config`] if the file cannot be opened.
    pub fn read(path: &Path, readings_per_batch: usize) -> Result<Self, Failure> {
        let file = files::open(path).map_err(|error| Failure::Config(error_chain(&error)))?;
        Self::parse(files::buffered(file), readings_per_batch)
            .map_err(|error| Failure::Data(format!("{}: {error}", path.display())))
    }

    fn parse(content: impl std::io::Read, readings_per_batch: usize) -> Result<Self, csv::Error> {
        let mut hours: BTreeMap<Hour, Vec<Reading>> = BTreeMap::new();
        for row in csv::Reader::from_reader(content).into_deserialize() {
            let (hour, reading) = Row::split(row?);
            hours.entry(hour).or_default().push(reading);
        }
        let mut hours: Vec<_> = hours.into_iter().collect();
        // The file has one station after the other; within an hour the stations are sorted by name.
        for (_, readings) in &mut hours {
            readings.sort_by(|one, other| one.origin.cmp(&other.origin));
        }
        Ok(Self { hours, readings_per_batch: readings_per_batch.max(1) })
    }

    pub fn len(&self) -> usize {
        self.hours.len()
    }

    /// Returns the position of an hour.
    pub fn position(&self, hour: &Hour) -> Option<usize> {
        self.hours.binary_search_by(|(other, _)| other.cmp(hour)).ok()
    }

    /// Returns the position of the first hour that is not before this one.
    pub fn position_from(&self, hour: &Hour) -> usize {
        self.hours.partition_point(|(other, _)| other < hour)
    }

    /// Returns the batches of the hour at a position; none after the end.
    pub fn batches(&self, position: usize) -> Vec<Batch> {
        let Some((hour, readings)) = self.hours.get(position) else { return Vec::new() };
        let previous = position.checked_sub(1).and_then(|previous| self.hours.get(previous));
        let previous = previous.map(|(hour, _)| hour.clone());
        let chunks = readings.chunks(self.readings_per_batch);
        let batches = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        (0..batches)
            .zip(chunks)
            .map(|(batch, readings)| Batch {
                hour: hour.clone(),
                previous: previous.clone(),
                batch,
                batches,
                readings: readings.to_vec(),
            })
            .collect()
    }
}

impl Row {
    fn split(self) -> (Hour, Reading) {
        let Self {
            origin,
            time_hour,
            temp,
            dewp,
            humid,
            wind_dir,
            wind_speed,
            wind_gust,
            precip,
            pressure,
            visib,
        } = self;
        let reading =
            Reading { origin, temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib };
        (time_hour, reading)
    }
}

/// Deserializes a number, or `NA`.
fn measured<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" | "NA" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| de::Error::custom(format_args!("{number:?} is not a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::hour;

    const FILE: &str = "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,1,1,0,39.02,26.06,59.37,270,10.35702,NA,0,1012,10,2013-01-01T00:00:00Z
EWR,2013,1,1,1,39.02,26.96,61.63,250,8.05546,NA,0,1012.3,10,2013-01-01T01:00:00Z
EWR,2013,1,1,3,39.02,26.96,61.63,250,8.05546,NA,0,NA,10,2013-01-01T03:00:00Z
LGA,2013,1,1,1,39.2,26.96,61.63,NA,NA,NA,0,1012.3,10,2013-01-01T01:00:00Z
JFK,2013,1,1,1,39.1,26.96,61.63,250,8.05546,20.5,0,1012.3,10,2013-01-01T01:00:00Z
";

    #[test]
    fn an_hour_is_split_into_batches_that_name_the_previous_hour() {
        let hours = Hours::parse(FILE.as_bytes(), 2).expect("a weather file");
        assert_eq!(hours.len(), 3);
        let batches = hours.batches(1);
        let stations: Vec<Vec<&str>> = batches
            .iter()
            .map(|batch| batch.readings.iter().map(|reading| reading.origin.as_str()).collect())
            .collect();
        assert_eq!(stations, [vec!["EWR", "JFK"], vec!["LGA"]]);
        let numbers: Vec<_> = batches.iter().map(|batch| (batch.batch, batch.batches)).collect();
        assert_eq!(numbers, [(0, 2), (1, 2)]);
        assert!(batches.iter().all(|batch| batch.previous == Some(hour(0)) && batch.check().is_ok()));
        assert_eq!(batches[1].readings[0].wind_speed, None);
        assert_eq!(hours.batches(2)[0].previous, Some(hour(1)), "the last one of the file, not of the clock");
    }

    #[test]
    fn hours_are_found_by_their_time() {
        let hours = Hours::parse(FILE.as_bytes(), 1).expect("a weather file");
        assert_eq!(hours.batches(0)[0].previous, None, "nothing is before the first");
        assert_eq!(hours.batches(3), []);
        assert_eq!((hours.position(&hour(3)), hours.position(&hour(2))), (Some(2), None));
        assert_eq!(hours.position_from(&hour(2)), 2);
    }

    #[test]
    fn an_invalid_row_is_named_in_the_error() {
        let broken = FILE.replace("59.37", "damp");
        let error = Hours::parse(broken.as_bytes(), 1).expect_err("no number").to_string();
        assert!(error.contains("damp") && error.contains("line: 2"), "{error}");
    }
}
