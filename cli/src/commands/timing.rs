//! `mysimbdp timing`: shows the TIMING lines of all logs as a table, with a row for each client and stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_platform::files;
use mysimbdp_telemetry::timing::{Stage, TimingLine};
use serde::Serialize;

use crate::error::CommandError;
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

pub fn run(config: &Config, client: Option<&ClientId>, json: bool) -> Result<(), CommandError> {
    let mut lines = Vec::new();
    for file in log_files(&config.layout.logs())? {
        let text = String::from_utf8_lossy(&files::read(&file)?).into_owned();
        lines.extend(
            text.lines()
                .filter_map(TimingLine::parse)
                .filter(|line| client.is_none_or(|id| id.as_str() == line.client)),
        );
    }
    let rows = summarise(lines);
    if let Some(id) = client
        && rows.is_empty()
        && config.client(id).is_none()
    {
        let message = format!("unknown client {id}: it is neither in the config nor in the logs");
        return Err(CommandError::new(exit::NO_INPUT, message));
    }
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

/// Returns the log files of the platform's own processes. Those of clients are left out: their apps write what they
/// like.
fn log_files(directory: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let mut found = files::list(directory)?;
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    found.retain(|path| is_log(path) && files::metadata(path).is_ok_and(|metadata| metadata.is_file()));
    Ok(found)
}

fn summarise(lines: Vec<TimingLine>) -> Vec<Row> {
    let mut groups: BTreeMap<(String, Stage), Vec<TimingLine>> = BTreeMap::new();
    for line in lines {
        groups.entry((line.client.clone(), line.stage)).or_default().push(line);
    }
    groups
        .into_iter()
        .map(|((client, stage), group)| {
            let mut seconds: Vec<f64> = group.iter().map(|line| line.seconds).collect();
            seconds.sort_unstable_by(f64::total_cmp);
            let total: f64 = seconds.iter().sum();
            let rate = |amount: f64| if total > 0.0 { amount / total } else { 0.0 };
            Row {
                client,
                stage: stage.to_string(),
                count: group.len(),
                p50_seconds: quantile(&seconds, 0.50),
                p99_seconds: quantile(&seconds, 0.99),
                mb_s: rate(group.iter().map(|line| line.bytes).sum::<f64>() / 1e6),
                records_s: rate(group.iter().map(|line| line.records).sum()),
            }
        })
        .collect()
}

/// Returns the smallest of the sorted values that at least this share of them does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(client: &str, stage: Stage, bytes: f64, seconds: f64) -> TimingLine {
        TimingLine { client: client.into(), stage, bytes, records: 10.0, seconds }
    }

    #[test]
    fn stages_come_in_flow_order_with_rates_over_all_their_seconds() {
        let rows = summarise(vec![
            line("a", Stage::Stage, 1e6, 1.0),
            line("a", Stage::Split, 3e6, 1.0),
            line("a", Stage::Split, 1e6, 3.0),
            line("b", Stage::Settle, 0.0, 0.0),
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
