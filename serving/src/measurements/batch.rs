//! The batch layer's numbers, from what its processes have counted between two scrapes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Measured, Metric};

/// The stage of the way from drop to end.
const WHOLE: &str = "whole";

/// What the processes had counted at the last scrape.
#[derive(Debug, Default)]
pub(super) struct BatchCounters {
    scraped: BTreeMap<String, Scrape>,
}

#[derive(Debug)]
struct Scrape {
    at: Instant,
    samples: BTreeMap<Sample, f64>,
}

/// The name and the labels of a sample.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
}

impl BatchCounters {
    /// Takes what a process answers; returns what that means since its last answer, nothing after the first one.
    pub(super) fn scraped(&mut self, process: &str, text: &str, now: Instant) -> Vec<(Measured, f64)> {
        let scrape = Scrape { at: now, samples: text.lines().filter_map(parse).collect() };
        let previous = self.scraped.remove(process);
        let measured = previous.map(|previous| compare(&previous, &scrape)).unwrap_or_default();
        self.scraped.insert(process.to_owned(), scrape);
        measured
    }
}

fn compare(previous: &Scrape, now: &Scrape) -> Vec<(Measured, f64)> {
    let elapsed = now.at.duration_since(previous.at).max(Duration::from_millis(1)).as_secs_f64();
    let mut sums: BTreeMap<Measured, f64> = BTreeMap::new();
    let (mut seconds, mut files) = (BTreeMap::new(), BTreeMap::new());
    for (sample, value) in &now.samples {
        let before = previous.samples.get(sample).copied().unwrap_or(0.0);
        // A process that was restarted counts from 0.
        let counted = if *value < before { *value } else { value - before };
        let Some(client) = sample.labels.get("client") else { continue };
        let state = sample.labels.get("state");
        let is_whole = sample.labels.get("stage").is_some_and(|stage| stage == WHOLE);
        match sample.name.as_str() {
            "mysimbdp_records_received_total" => {
                *sums.entry(Measured::of(Metric::BatchRecords, client)).or_default() += counted / elapsed;
            }
            "mysimbdp_files_ended_bytes_total" => {
                *sums.entry(Measured::of(Metric::BatchBytes, client)).or_default() += counted / elapsed;
            }
            "mysimbdp_files_ended_total" => {
                let measured = Measured { state: state.cloned(), ..Measured::of(Metric::Files, client) };
                *sums.entry(measured).or_default() += counted / elapsed;
            }
            "mysimbdp_staged_files" => {
                *sums.entry(Measured::of(Metric::QueueFiles, client)).or_default() += value;
            }
            "mysimbdp_stage_duration_seconds_sum" if is_whole => {
                *seconds.entry(client).or_insert(0.0) += counted
            }
            "mysimbdp_stage_duration_seconds_count" if is_whole => {
                *files.entry(client).or_insert(0.0) += counted
            }
            _ => {}
        }
    }
    for (client, files) in files.into_iter().filter(|(_, files)| *files > 0.0) {
        let seconds = seconds.get(client).copied().unwrap_or(0.0);
        sums.insert(Measured::of(Metric::BatchSeconds, client), seconds / files);
    }
    sums.into_iter().collect()
}

/// Reads a line of the text format, as our own processes write it; `None` if it is not a sample.
fn parse(line: &str) -> Option<(Sample, f64)> {
    let (described, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    let (name, labels) = described.split_once('{').unwrap_or((described, ""));
    // Names of clients, states and stages have nothing that is escaped.
    let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    let labels = pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
    Some((Sample { name: name.to_owned(), labels }, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(found: &[(Measured, f64)], metric: Metric, state: Option<&str>) -> Option<f64> {
        let is_it = |one: &&(Measured, f64)| one.0.metric == metric && one.0.state.as_deref() == state;
        found.iter().find(is_it).map(|(_, value)| *value)
    }

    #[test]
    fn counters_become_rates_and_means_and_a_restart_is_no_leap_back() {
        let text = |records: u32, files: u32, seconds: f64| {
            format!(
                "# TYPE mysimbdp_records_received counter\n\
                 mysimbdp_records_received_total{{client=\"a\",app=\"x\"}} {records}\n\
                 mysimbdp_records_received_total{{client=\"a\",app=\"y\"}} 7\n\
                 mysimbdp_files_ended_total{{client=\"a\",state=\"held\",code=\"failed\"}} {files}\n\
                 mysimbdp_staged_files{{client=\"a\",lane=\"live\"}} 3\n\
                 mysimbdp_staged_files{{client=\"a\",lane=\"backfill\"}} 4\n\
                 mysimbdp_stage_duration_seconds_sum{{stage=\"whole\",client=\"a\"}} {seconds}\n\
                 mysimbdp_stage_duration_seconds_count{{stage=\"whole\",client=\"a\"}} {files}\n\
                 mysimbdp_stage_duration_seconds_count{{stage=\"split\",client=\"a\"}} 90\n"
            )
        };
        let (mut counters, start) = (BatchCounters::default(), Instant::now());
        assert!(counters.scraped("p", &text(100, 1, 1.0), start).is_empty(), "the first one is the base");
        let found = counters.scraped("p", &text(150, 3, 5.0), start + Duration::from_secs(5));
        assert_eq!(measured(&found, Metric::BatchRecords, None), Some(10.0));
        assert_eq!(measured(&found, Metric::Files, Some("held")), Some(0.4));
        assert_eq!(measured(&found, Metric::QueueFiles, None), Some(7.0));
        assert_eq!(measured(&found, Metric::BatchSeconds, None), Some(2.0));
        let found = counters.scraped("p", &text(20, 3, 5.0), start + Duration::from_secs(10));
        assert_eq!(measured(&found, Metric::BatchRecords, None), Some(4.0));
        assert_eq!(measured(&found, Metric::BatchSeconds, None), None, "no file has ended");
    }
}
