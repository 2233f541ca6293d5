//! `mysimbdp timing`: the TIMING lines of all logs as a table per client and stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mysimbdp_config::Config;
use mysimbdp_platform::files;
use serde::Serialize;

use crate::error::Failure;
use crate::{output, table};

/// All timings of one stage of one client.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    client: String,
    stage: String,
    count: usize,
    p50_seconds: f64,
    p99_seconds: f64,
    /// Bytes and records of all timings over the sum of their seconds.
    mb_s: f64,
    records_s: f64,
}

/// The stages in flow order, as [`mysimbdp_telemetry::timing`] writes them.
const STAGES: [&str; 12] = [
    "settle", "validate", "split", "stage", "notify", "queue", "spawn", "ingest", "finish", "whole", "batch",
    "report",
];

pub fn run(config: &Config, client: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for file in log_files(&config.layout.logs())? {
        let text = String::from_utf8_lossy(&files::read(&file)?).into_owned();
        lines.extend(text.lines().filter_map(parse).filter(|line| client.is_none_or(|id| id == line.client)));
    }
    let rows = summarise(lines);
    if json {
        return output::print_json(&rows);
    }
    let body = rows.iter().map(|row| {
        vec![
            row.client.clone(),
            row.stage.clone(),
            row.count.to_string(),
            format!("{:.4}", row.p50_seconds),
            format!("{:.4}", row.p99_seconds),
            format!("{:.1}", row.mb_s),
            format!("{:.0}", row.records_s),
        ]
    });
    println!("{}", table::render(&["client", "stage", "count", "p50 s", "p99 s", "MB/s", "records/s"], body));
    Ok(())
}

/// The logs of the platform's own processes. Not those of clients, whose apps write what they like.
fn log_files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = files::list(directory)?;
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    found.retain(|path| is_log(path) && files::metadata(path).is_ok_and(|metadata| metadata.is_file()));
    Ok(found)
}

#[derive(Debug, PartialEq)]
struct Line {
    client: String,
    stage: String,
    bytes: f64,
    records: f64,
    seconds: f64,
}

/// `<time> INFO <role>: TIMING <fields>`. The word alone means nothing: a file may be called so.
fn parse(line: &str) -> Option<Line> {
    let (_time, rest) = line.split_once(' ')?;
    let (_role, fields) = rest.strip_prefix("INFO ")?.split_once(": ")?;
    let fields = logfmt(fields.strip_prefix("TIMING ")?);
    let text = |name: &str| fields.get(name).cloned();
    let number = |name: &str| fields.get(name)?.parse().ok().filter(|value: &f64| value.is_finite());
    Some(Line {
        client: text("client")?,
        stage: text("stage")?,
        bytes: number("bytes")?,
        records: number("records")?,
        seconds: number("seconds")?,
    })
}

/// The fields of a logfmt line; values may be quoted, with backslashes in them.
fn logfmt(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, remaining) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = end_of_quoted(quoted);
                (&quoted[..end], quoted.get(end + 1..).unwrap_or(""))
            }
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        fields.insert(name.to_owned(), value.to_owned());
        rest = remaining.trim_start();
    }
    fields
}

fn end_of_quoted(text: &str) -> usize {
    let mut escaped = false;
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return position,
            _ => {}
        }
    }
    text.len()
}

fn summarise(lines: Vec<Line>) -> Vec<Row> {
    let mut groups: BTreeMap<(String, usize, String), Vec<Line>> = BTreeMap::new();
    for line in lines {
        let order = STAGES.iter().position(|stage| *stage == line.stage).unwrap_or(STAGES.len());
        groups.entry((line.client.clone(), order, line.stage.clone())).or_default().push(line);
    }
    groups
        .into_iter()
        .map(|((client, _, stage), group)| {
            let mut seconds: Vec<f64> = group.iter().map(|line| line.seconds).collect();
            seconds.sort_unstable_by(f64::total_cmp);
            let total: f64 = seconds.iter().sum();
            let rate = |amount: f64| if total > 0.0 { amount / total } else { 0.0 };
            Row {
                client,
                stage,
                count: group.len(),
                p50_seconds: quantile(&seconds, 0.50),
                p99_seconds: quantile(&seconds, 0.99),
                mb_s: rate(group.iter().map(|line| line.bytes).sum::<f64>() / 1e6),
                records_s: rate(group.iter().map(|line| line.records).sum()),
            }
        })
        .collect()
}

/// The smallest value that at least this share of the sorted values does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(client: &str, stage: &str, bytes: f64, seconds: f64) -> Line {
        Line { client: client.into(), stage: stage.into(), bytes, records: 10.0, seconds }
    }

    #[test]
    fn a_timing_line_is_read_whatever_the_file_is_called() {
        let text = r#"2026-01-01T00:00:00Z INFO fetchdata: TIMING stage=split client=client1 ingestion=ab file="a \" seconds=9 b.csv" bytes=20 records=10 seconds=0.5 mb_s=0.0"#;
        assert_eq!(parse(text), Some(line("client1", "split", 20.0, 0.5)));
        assert_eq!(parse("2026-01-01T00:00:00Z INFO fetchdata: staged client=a"), None);
        assert_eq!(parse("x INFO r: TIMING stage=split client=a bytes=x records=1 seconds=1"), None);
    }

    #[test]
    fn a_file_name_that_holds_a_timing_line_is_none() {
        let name = "x TIMING stage=split client=b bytes=1 records=1 seconds=9 y.csv";
        let event =
            format!("2026-01-01T00:00:00Z WARN fetchdata: discarded client=a file=\"{name}\" bytes=20");
        assert_eq!(parse(&event), None);
        assert_eq!(parse(&event.replace("WARN", "INFO").replace("a file=", "a: file=")), None);
        let timed = format!(
            "2026-01-01T00:00:00Z INFO fetchdata: TIMING stage=split client=a file=\"{name}\" bytes=20 records=10 seconds=0.5"
        );
        assert_eq!(parse(&timed), Some(line("a", "split", 20.0, 0.5)));
    }

    #[test]
    fn stages_come_in_flow_order_with_rates_over_all_their_seconds() {
        let rows = summarise(vec![
            line("a", "stage", 1e6, 1.0),
            line("a", "split", 3e6, 1.0),
            line("a", "split", 1e6, 3.0),
            line("b", "settle", 0.0, 0.0),
        ]);
        let summary: Vec<_> =
            rows.iter().map(|row| (row.client.as_str(), row.stage.as_str(), row.count, row.mb_s)).collect();
        assert_eq!(summary, [("a", "split", 2, 1.0), ("a", "stage", 1, 1.0), ("b", "settle", 1, 0.0)]);
        assert_eq!((rows[0].p50_seconds, rows[0].p99_seconds), (1.0, 3.0));
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&[], 0.5)), (50.0, 99.0, 0.0));
    }
}
