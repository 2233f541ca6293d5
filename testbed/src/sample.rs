//! Files of any size, the same each time.

use std::ops::Range;

use jiff::{Timestamp, ToSpan};

/// The columns of the hourly weather sample.
pub const WEATHER_HEADER: &str = "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,\
                                  pressure,visib,time_hour";

/// A file and how many records it has.
#[derive(Clone, Debug)]
pub struct Sample {
    pub content: Vec<u8>,
    pub records: u64,
}

/// Weather as CSV, of `bytes` or up to a row more. No two rows are equal; some values are `NA`.
pub fn weather(bytes: usize) -> Sample {
    records_until(bytes, format!("{WEATHER_HEADER}\n"), |number| weather_row(number) + "\n")
}

/// Rows of the same as JSON objects, one a line.
pub fn weather_ndjson(bytes: usize) -> Sample {
    records_until(bytes, String::new(), |number| weather_json(number) + "\n")
}

/// JSON objects as [`weather_ndjson`] has them, one a line: messages to publish.
pub fn weather_messages(numbers: Range<u64>) -> String {
    numbers.map(|number| weather_json(number) + "\n").collect()
}

/// CSV whose fields hold quotes, commas and line ends: what looks like the end of a record often is none.
pub fn quoted(bytes: usize) -> Sample {
    records_until(bytes, "number,note\r\n".to_owned(), |number| {
        let note = "one, \"\"two\"\"\r\nthree\n".repeat((number % 4) as usize);
        format!("{number},\"{note}\"\r\n")
    })
}

fn records_until(bytes: usize, header: String, record: impl Fn(u64) -> String) -> Sample {
    let mut text = header;
    text.reserve(bytes + 256);
    let mut records = 0;
    while text.len() < bytes {
        text.push_str(&record(records));
        records += 1;
    }
    Sample { content: text.into_bytes(), records }
}

/// One observation: everything follows from its number, which its hour tells.
struct Weather {
    number: u64,
    hour: Timestamp,
}

impl Weather {
    fn new(number: u64) -> Self {
        let first: Timestamp = "2013-01-01T06:00:00Z".parse().expect("a valid time");
        // The three airports report for the same hour.
        let hours = i64::try_from(number / 3).expect("fewer hours than the calendar has");
        Self { number, hour: first + hours.hours() }
    }

    fn origin(&self) -> &'static str {
        ["EWR", "JFK", "LGA"][(self.number % 3) as usize]
    }

    /// A value in tenths, `0.0` to `range`.
    fn tenths(&self, factor: u64, range: u64) -> String {
        let tenths = self.number.wrapping_mul(factor) % (range * 10);
        format!("{}.{}", tenths / 10, tenths % 10)
    }

    fn is_gust_known(&self) -> bool {
        self.number.is_multiple_of(5)
    }
}

fn weather_row(number: u64) -> String {
    let weather = Weather::new(number);
    let civil = weather.hour.strftime("%Y,%-m,%-d,%-H");
    let gust = if weather.is_gust_known() { weather.tenths(7, 60) } else { "NA".to_owned() };
    format!(
        "{},{civil},{},{},{},{},{},{gust},0,{},10,{}",
        weather.origin(),
        weather.tenths(13, 100),
        weather.tenths(17, 80),
        weather.tenths(19, 100),
        number % 36 * 10,
        weather.tenths(23, 50),
        1000 + number % 40,
        weather.hour,
    )
}

fn weather_json(number: u64) -> String {
    let weather = Weather::new(number);
    let gust = if weather.is_gust_known() { weather.tenths(7, 60) } else { "null".to_owned() };
    format!(
        r#"{{"number":{number},"origin":"{}","temp":{},"humid":{},"wind_gust":{gust},"time_hour":"{}"}}"#,
        weather.origin(),
        weather.tenths(13, 100),
        weather.tenths(19, 100),
        weather.hour,
    )
}
