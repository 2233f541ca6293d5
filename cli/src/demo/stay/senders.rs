//! The clients that drop files.

use std::time::Duration;

use mysimbdp_platform::clock;

use crate::demo::data_root::{DOCUMENTS, DemoRoot, OBJECTS, WEATHER};
use crate::error::CommandError;

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The files of which one is to arrive each minute.
pub const EXPECTED: &str = "weather-*.csv";
const EVERY_SECONDS: u64 = 15;
/// What is sent in a minute of the clock; the expected file last, shortly before it is due.
const IN_A_MINUTE: u64 = 4;
/// Each of so many minutes the expected file is forgotten.
const FORGOTTEN_EVERY: u64 = 5;
/// Rows of an expected file, so that it becomes several micro-batches.
const ROWS: usize = 6_000;
/// Rows of the other files.
const ROWS_FEW: usize = 500;
/// The year of the weather, which is replaced, so that each file is a new one.
const YEAR: u64 = 2013;

struct Sent {
    client: &'static str,
    name: String,
    content: String,
}

/// Drops files until it is dropped itself.
pub async fn run(demo_root: &DemoRoot) -> Result<(), CommandError> {
    let tick = || u64::try_from(clock::now().as_second()).unwrap_or(0) / EVERY_SECONDS;
    let first_minute = tick() / IN_A_MINUTE;
    let mut last = tick();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = tick();
        if now == last {
            continue;
        }
        last = now;
        let number = now.saturating_sub(first_minute * IN_A_MINUTE);
        if let Some(Sent { client, name, content }) = sent(number) {
            demo_root.drop_file(client, &name, content.as_bytes())?;
        }
    }
}

/// What is dropped at this tick.
fn sent(number: u64) -> Option<Sent> {
    let (minute, which) = (number / IN_A_MINUTE, number % IN_A_MINUTE);
    let sent = |client, name, content| Some(Sent { client, name, content });
    match which {
        0 => {
            let bad = "JFK,2013,6,31,7,warm,,,,,,,,,not a time\nLGA,2013\n";
            sent(DOCUMENTS, format!("station-{minute:04}.csv"), weather(minute, ROWS_FEW) + bad)
        }
        1 => sent(DOCUMENTS, format!("Report {minute:04}.pdf"), format!("%PDF-1.4 {minute}")),
        2 => sent(OBJECTS, format!("readings-{minute:04}.csv"), weather(minute, ROWS_FEW)),
        _ if minute % FORGOTTEN_EVERY == FORGOTTEN_EVERY - 1 => None,
        _ => sent(DOCUMENTS, format!("weather-{minute:04}.csv"), weather(minute, ROWS)),
    }
}

/// Some rows of the weather as if they were of another year, with the names of the columns.
fn weather(minute: u64, rows: usize) -> String {
    let mut lines = WEATHER.lines();
    let columns = lines.next().unwrap_or_default();
    let lines: Vec<&str> = lines.collect();
    let year = (YEAR + 1 + minute).to_string();
    let first = minute as usize * rows % (lines.len() - rows);
    let shifted = lines[first..first + rows]
        .iter()
        .map(|line| line.replacen(",2013,", &format!(",{year},"), 1).replace("2013-", &format!("{year}-")));
    std::iter::once(columns.to_owned()).chain(shifted).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fifth_minute_the_expected_file_is_forgotten() {
        let expected: Vec<bool> = (0..10).map(|minute| sent(minute * IN_A_MINUTE + 3).is_some()).collect();
        assert_eq!(expected, [true, true, true, true, false, true, true, true, true, false]);
    }

    #[test]
    fn no_two_files_are_the_same() {
        let files: Vec<Sent> = (0..400).filter_map(sent).collect();
        for of_files in [|file: &Sent| file.name.clone(), |file: &Sent| file.content.clone()] {
            let different: std::collections::BTreeSet<String> = files.iter().map(of_files).collect();
            assert_eq!(different.len(), files.len());
        }
    }

    #[test]
    fn the_rows_are_of_another_year() {
        let text = weather(2, 3);
        assert_eq!(text.lines().count(), 4);
        assert!(text.lines().skip(1).all(|line| line.starts_with("EWR,2016,1,1,")), "{text}");
        assert!(text.ends_with("2016-01-01T14:00:00Z\n"), "{text}");
    }
}
