//! A row for each client. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::api::{File, Page};
use super::model::{Data, Sort};
use super::streams::throughput;
use super::text::Text;

/// Stands for the client of files that no client's rules claim.
pub const NO_CLIENT: &str = "no client";

/// Rates are means over this time.
const RATE_SECONDS: u64 = 60;

/// How many, or at least so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    pub number: u64,
    /// Whether there may be more.
    pub more: bool,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, if self.more { "+" } else { "" })
    }
}

/// What is known of a client's files and streams.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientRow {
    pub client: Text,
    pub waiting: Count,
    /// Staged files of which nothing was begun.
    pub staged: u64,
    pub ingesting: u64,
    /// The age of the oldest staged file.
    pub oldest_seconds: Option<f64>,
    pub files_per_minute: f64,
    /// Of files and of messages.
    pub records_per_second: f64,
    /// Within the hour.
    pub discarded: Count,
    pub held: Count,
    /// Records per second over the last minutes, the oldest first.
    pub trend: Vec<f64>,
}

/// Returns the rows in this order; those of clients before that of files without one.
pub fn rows(data: &Data, sort: Sort) -> Vec<ClientRow> {
    let mut rows = Rows::default();
    for client in &data.clients {
        rows.of(Some(&client.id));
    }
    rows.count(&data.waiting, |row| &mut row.waiting);
    rows.count(&data.held, |row| &mut row.held);
    rows.count(&data.discarded, |row| &mut row.discarded);
    for queue in &data.queues {
        let row = rows.of(Some(&queue.client));
        row.staged += queue.files.saturating_sub(queue.begun);
        row.ingesting += queue.begun;
        row.oldest_seconds = row.oldest_seconds.into_iter().chain(queue.oldest_seconds).reduce(f64::max);
    }
    for stream in &data.streams {
        rows.of(Some(&stream.client)).records_per_second += throughput(stream);
    }
    for series in &data.measurements.series {
        let row = rows.of(Some(&series.client));
        match (&*series.metric, series.state.as_deref()) {
            ("files", Some("ingested")) => {
                row.files_per_minute += rate(&series.mean, data.measurements.step_seconds) * 60.0;
            }
            ("batch_records", _) => {
                row.records_per_second += rate(&series.mean, data.measurements.step_seconds);
                add(&mut row.trend, &series.mean);
            }
            ("stream_messages", _) => add(&mut row.trend, &series.mean),
            _ => {}
        }
    }
    sorted(rows.0.into_values().collect(), sort)
}

/// The rows by client; files without one are last.
#[derive(Default)]
struct Rows(BTreeMap<(bool, Text), ClientRow>);

impl Rows {
    fn of(&mut self, client: Option<&Text>) -> &mut ClientRow {
        let id = client.cloned().unwrap_or_else(|| Text::from(NO_CLIENT));
        self.0
            .entry((client.is_none(), id.clone()))
            .or_insert_with(|| ClientRow { client: id, ..ClientRow::default() })
    }

    fn count(&mut self, page: &Page<File>, field: impl Fn(&mut ClientRow) -> &mut Count) {
        for file in &page.items {
            field(self.of(file.client.as_ref())).number += 1;
        }
        if page.has_more() {
            self.0.values_mut().for_each(|row| field(row).more = true);
        }
    }
}

/// The mean of the last minute; what was not measured does not count.
fn rate(mean: &[Option<f64>], step_seconds: u64) -> f64 {
    let steps = usize::try_from(RATE_SECONDS / step_seconds.max(1)).unwrap_or(1).max(1);
    let known: Vec<f64> = mean.iter().rev().flatten().take(steps).copied().collect();
    known.iter().sum::<f64>() / known.len().max(1) as f64
}

fn add(trend: &mut Vec<f64>, mean: &[Option<f64>]) {
    trend.resize(trend.len().max(mean.len()), 0.0);
    for (sum, value) in trend.iter_mut().zip(mean) {
        *sum += value.unwrap_or(0.0);
    }
}

fn sorted(mut rows: Vec<ClientRow>, sort: Sort) -> Vec<ClientRow> {
    let descending =
        |key: fn(&ClientRow) -> f64| move |a: &ClientRow, b: &ClientRow| key(b).total_cmp(&key(a));
    match sort {
        Sort::Name => {}
        Sort::Rate => rows.sort_by(descending(|row| row.records_per_second)),
        Sort::Queue => {
            rows.sort_by(descending(|row| (row.waiting.number + row.staged + row.ingesting) as f64))
        }
        Sort::Trouble => rows.sort_by_key(|row| std::cmp::Reverse((row.held.number, row.discarded.number))),
    }
    rows
}
