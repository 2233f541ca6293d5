//! What was measured over the last day, for plots that are not empty when they are opened.
//!
//! 1. [`run`] asks the processes every five seconds: [`batch`] compares what they have counted, [`of_streams`] takes what the
//!    instances have last reported;
//! 2. each number goes into two [`buckets`]: fine ones for an hour, coarse ones for a day;
//! 3. [`Measurements::read`] returns as many points as somebody wants to draw.
//!
//! It is kept in memory only: a restarted server begins anew. Whoever needs more has Prometheus for it.

mod batch;
mod buckets;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysimbdp_config::Config;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::clock;
use mysimbdp_stream_manager::control::{StreamStatus, client};
use mysimbdp_telemetry::metrics::scrape;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, timeout};
use utoipa::ToSchema;

use crate::server::Server;
use batch::BatchCounters;
use buckets::{Bucket, Buckets};

const FINE_SECONDS: i64 = 5;
const COARSE_SECONDS: i64 = 60;
const HOUR: i64 = 3_600;
/// A caller that asks for the last hour may have a clock that is a bit late.
const FINE_KEPT: i64 = HOUR + 60;
const DAY: i64 = 86_400;

/// Of one process.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Each takes 26 KB when all its buckets are full. Those beyond are not kept.
const SERIES_MAX: usize = 1_000;

/// What is measured. The names are part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Records of ingested files per second.
    BatchRecords,
    /// Bytes of files that ended, per second.
    BatchBytes,
    /// Mean time from drop to end of the files that ended.
    BatchSeconds,
    /// Files that ended per second, by state.
    Files,
    /// Staged files that have not ended.
    QueueFiles,
    /// Messages per second, as the instances have last reported.
    StreamMessages,
    /// Mean time from a message's arrival to its acknowledgement, as last reported.
    AckSeconds,
    InstancesDesired,
    InstancesRunning,
    /// The share of time in which the instances were storing.
    StreamLoad,
}

impl Metric {
    /// As Prometheus would name it.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::BatchRecords => "records_per_second",
            Self::BatchBytes => "bytes_per_second",
            Self::Files => "files_per_second",
            Self::StreamMessages => "messages_per_second",
            Self::BatchSeconds | Self::AckSeconds => "seconds",
            Self::QueueFiles => "files",
            Self::InstancesDesired | Self::InstancesRunning => "instances",
            Self::StreamLoad => "ratio",
        }
    }
}

/// Which numbers belong to one line of a plot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Measured {
    pub(crate) metric: Metric,
    pub(crate) client: String,
    pub(crate) stream: Option<String>,
    pub(crate) state: Option<String>,
}

impl Measured {
    fn of(metric: Metric, client: &str) -> Self {
        Self { metric, client: client.to_owned(), stream: None, state: None }
    }
}

/// Which part of the time is read, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) from: i64,
    /// Exclusive.
    pub(crate) until: i64,
    pub(crate) points_max: u32,
}

/// A line of a plot: mean and maximum of each step, or nothing.
pub(crate) type Line = (Measured, Vec<Option<(f32, f32)>>);

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Measurements {
    series: Mutex<BTreeMap<Measured, Series>>,
}

#[derive(Debug)]
struct Series {
    fine: Buckets,
    coarse: Buckets,
}

impl Range {
    /// The length of a step: a multiple of what is kept, so that each has equally many numbers.
    pub(crate) fn step_seconds(&self, now: i64) -> i64 {
        let kept = if self.is_fine(now) { FINE_SECONDS } else { COARSE_SECONDS };
        let seconds = (self.until - self.from).max(1);
        let wanted = seconds.div_euclid(i64::from(self.points_max.max(1))) + 1;
        (wanted + kept - 1) / kept * kept
    }

    /// The beginnings of the steps.
    pub(crate) fn steps(&self, step_seconds: i64) -> impl Iterator<Item = i64> {
        let first = self.from.div_euclid(step_seconds) * step_seconds;
        (0..).map(move |step| first + step * step_seconds).take_while(|second| *second < self.until)
    }

    fn is_fine(&self, now: i64) -> bool {
        self.from >= now - FINE_KEPT
    }
}

impl Measurements {
    fn add(&self, second: i64, measured: Vec<(Measured, f64)>) {
        let mut series = self.lock();
        for (measured, value) in measured {
            // What has always been 0 is no line.
            if series.contains_key(&measured) || (value != 0.0 && series.len() < SERIES_MAX) {
                let one = series.entry(measured).or_insert_with(|| Series {
                    fine: Buckets::new(FINE_SECONDS, (FINE_KEPT / FINE_SECONDS) as usize),
                    coarse: Buckets::new(COARSE_SECONDS, (DAY / COARSE_SECONDS) as usize),
                });
                one.fine.add(second, value as f32);
                one.coarse.add(second, value as f32);
            }
        }
    }

    /// Returns the lines of a client, or of all clients.
    pub(crate) fn read(&self, range: Range, now: i64, client: Option<&str>) -> Vec<Line> {
        let step_seconds = range.step_seconds(now);
        let steps: Vec<i64> = range.steps(step_seconds).collect();
        let Some(first) = steps.first().copied() else { return Vec::new() };
        let end = first + step_seconds * steps.len() as i64;
        let series = self.lock();
        let of_client = series.iter().filter(|(one, _)| client.is_none_or(|client| one.client == client));
        let lines = of_client.map(|(measured, series)| {
            let buckets = if range.is_fine(now) { &series.fine } else { &series.coarse };
            let mut merged = vec![Bucket::default(); steps.len()];
            for (second, bucket) in buckets.between(first, end) {
                merged[((second - first) / step_seconds) as usize].merge(bucket);
            }
            (measured.clone(), merged.iter().map(Bucket::mean_and_max).collect::<Vec<_>>())
        });
        lines.filter(|(_, line)| line.iter().any(Option::is_some)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Measured, Series>> {
        // Nothing panics while it holds the lock.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures without end.
pub(crate) async fn run(server: &Server) -> Infallible {
    let mut every = interval(Duration::from_secs(FINE_SECONDS as u64));
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut counters = BatchCounters::default();
    loop {
        every.tick().await;
        let config = server.config();
        let second = clock::now().as_second();
        for process in [ProcessKind::Fetchdata, ProcessKind::BatchManager] {
            let socket = config.layout.metrics_socket(process.name());
            // One that does not answer leaves a gap.
            if let Ok(Ok(text)) = timeout(ANSWER_WITHIN, scrape(&socket)).await {
                server.measurements.add(second, counters.scraped(process.name(), &text, Instant::now()));
            }
        }
        server.measurements.add(second, of_streams(&streams(&config).await));
    }
}

async fn streams(config: &Config) -> Vec<StreamStatus> {
    timeout(ANSWER_WITHIN, client::list(&config.layout)).await.ok().and_then(Result::ok).unwrap_or_default()
}

/// What the instances of the streams have last reported.
fn of_streams(streams: &[StreamStatus]) -> Vec<(Measured, f64)> {
    let mut measured = Vec::new();
    for stream in streams {
        let running: Vec<_> =
            stream.instances.iter().filter(|instance| instance.state == "running").collect();
        let rate: f64 = running.iter().map(|instance| instance.messages_per_second).sum();
        let weighted = running
            .iter()
            .map(|instance| instance.messages_per_second * instance.average_processing_seconds)
            .sum::<f64>();
        let loads: Vec<f64> = running.iter().filter_map(|instance| instance.utilization).collect();
        let mut add = |metric, value| {
            let of_stream = Measured::of(metric, stream.client.as_str());
            measured.push((Measured { stream: Some(stream.stream.clone()), ..of_stream }, value));
        };
        add(Metric::InstancesDesired, f64::from(stream.desired));
        add(Metric::InstancesRunning, running.len() as f64);
        add(Metric::StreamMessages, rate);
        if rate > 0.0 {
            add(Metric::AckSeconds, weighted / rate);
        }
        if !loads.is_empty() {
            add(Metric::StreamLoad, loads.iter().sum::<f64>() / loads.len() as f64);
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn range(seconds: i64, points_max: u32) -> Range {
        Range { from: NOW - seconds, until: NOW, points_max }
    }

    #[test]
    fn a_step_is_a_multiple_of_what_is_kept_and_there_are_no_more_points_than_wanted() {
        for (seconds, points, expected) in [
            (900, 300, 5),
            (3_600, 300, 15),
            (3_630, 300, 15),
            (3_600, 10_000, 5),
            (86_400, 300, 300),
            (86_400, 1, 86_460),
            (7_200, 9_999, 60),
        ] {
            let range = range(seconds, points);
            assert_eq!(range.step_seconds(NOW), expected, "{seconds} s, {points} points");
            let steps = range.steps(expected).count() as i64;
            // One more, as the first begins before the range.
            assert!(steps <= i64::from(points) + 1, "{seconds} s, {points} points: {steps}");
        }
    }

    #[test]
    fn lines_are_those_of_the_client_with_gaps_and_means() {
        let measurements = Measurements::default();
        let rate = |client: &str, value| vec![(Measured::of(Metric::BatchRecords, client), value)];
        for (ago, client, value) in
            [(60, "a", 2.0), (55, "a", 4.0), (20, "a", 6.0), (60, "b", 1.0), (20, "c", 0.0)]
        {
            measurements.add(NOW - ago, rate(client, value));
        }
        let lines = measurements.read(range(60, 6), NOW, Some("a"));
        let [(measured, line)] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(measured.client, "a");
        assert_eq!(range(60, 6).step_seconds(NOW), 15);
        assert_eq!(line, &[Some((3.0, 4.0)), None, Some((6.0, 6.0)), None]);
        let all = measurements.read(range(60, 6), NOW, None);
        assert_eq!(all.len(), 2, "what has always been 0 is no line: {all:?}");
        let coarse = measurements.read(range(2 * HOUR, 120), NOW, Some("a"));
        assert_eq!(coarse[0].1.iter().flatten().count(), 1, "one minute: {coarse:?}");
    }

    #[test]
    fn no_more_series_than_allowed() {
        let measurements = Measurements::default();
        for number in 0..SERIES_MAX + 10 {
            measurements.add(NOW, vec![(Measured::of(Metric::Files, &number.to_string()), 1.0)]);
        }
        assert_eq!(measurements.lock().len(), SERIES_MAX);
    }
}
