//! Sums up the reports of a stream's instances for [`crate::scaling`].
//!
//! Reports come from outside. Each is clamped to what is possible, and an instance's newest report replaces the previous
//! one. A report that is old, or covers time before the last change, is ignored. Reports in the array form name no
//! instance: they count for the stream as a whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mysimbdp_model::message::Report;

/// How many reports without an instance are kept: as many as a stream can have instances.
const UNNAMED_MAX: usize = 64;

/// A report is valid for this many intervals: one report may be late, but two missing ones mean silence.
const FRESH_INTERVALS: u32 = 2;

/// The input of a scaling decision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamLoad {
    pub running: u32,
    /// How many of them have reported how busy they are; all of them if the reports name no instance.
    pub reporting: u32,
    /// Sum over those of the share of time in which each was storing; at most `reporting`.
    pub busy: f64,
    /// Mean time from a message's arrival to its acknowledgement.
    pub processing_seconds: f64,
    pub messages_per_report: f64,
}

/// The newest reports of a stream.
#[derive(Clone, Debug)]
pub struct Load {
    report_every: Duration,
    by_slot: BTreeMap<u32, Sample>,
    unnamed: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    covers: Duration,
    utilization: f64,
    processing_seconds: f64,
    messages: u64,
}

impl Load {
    pub fn new(report_every: Duration) -> Self {
        Self { report_every, by_slot: BTreeMap::new(), unnamed: VecDeque::new() }
    }

    /// Records a report of the instance in `slot`; `None` if the report names no instance.
    pub fn record(&mut self, report: &Report, slot: Option<u32>, now: Instant) {
        let sample = Sample::of(report, self.report_every, now);
        match slot {
            Some(slot) => {
                self.by_slot.insert(slot, sample);
            }
            None => {
                if self.unnamed.len() == UNNAMED_MAX {
                    self.unnamed.pop_front();
                }
                self.unnamed.push_back(sample);
            }
        }
    }

    /// Sums up the load of the instances in `running`, from reports that cover only time after `changed_at`.
    pub fn summarize(
        &self,
        running: &BTreeSet<u32>,
        changed_at: Option<Instant>,
        now: Instant,
    ) -> StreamLoad {
        let window = self.report_every * FRESH_INTERVALS;
        let is_valid = |sample: &&Sample| {
            let fresh = now.saturating_duration_since(sample.at) <= window;
            fresh
                && changed_at
                    .is_none_or(|changed| sample.at.saturating_duration_since(changed) >= sample.covers)
        };
        let running_count = running.len() as u32;
        let named: Vec<&Sample> = self
            .by_slot
            .iter()
            .filter(|(slot, _)| running.contains(slot))
            .map(|(_, sample)| sample)
            .filter(is_valid)
            .collect();
        if named.is_empty() {
            let unnamed: Vec<&Sample> = self.unnamed.iter().filter(is_valid).collect();
            // It is unknown whose they are, so their mean stands for all instances.
            return sum(&unnamed, running_count, if unnamed.is_empty() { 0 } else { running_count });
        }
        sum(&named, running_count, named.len() as u32)
    }
}

impl Sample {
    fn of(report: &Report, report_every: Duration, now: Instant) -> Self {
        let most = (report_every * FRESH_INTERVALS).as_secs_f64();
        let covers = match report.interval {
            Some(seconds) if seconds > 0.0 => Duration::from_secs_f64(seconds.min(most)),
            _ => report_every,
        };
        let (seconds, messages) = (report.average_processing_time, report.total_number_of_messages_ingested);
        // The array form does not say how busy the instance was. The estimate is exact for an app that handles one message
        // at a time. An app that handles many at once seems busier than it is, and should report the object form.
        let estimated = seconds * messages as f64 / covers.as_secs_f64().max(1e-3);
        let utilization = report.utilization.unwrap_or(estimated).clamp(0.0, 1.0);
        Self { at: now, covers, utilization, processing_seconds: seconds, messages }
    }
}

fn sum(samples: &[&Sample], running: u32, reporting: u32) -> StreamLoad {
    let count = samples.len() as f64;
    if samples.is_empty() {
        return StreamLoad { running, ..StreamLoad::default() };
    }
    let messages: f64 = samples.iter().map(|sample| sample.messages as f64).sum();
    let spent: f64 = samples.iter().map(|sample| sample.processing_seconds * sample.messages as f64).sum();
    let utilization = samples.iter().map(|sample| sample.utilization).sum::<f64>() / count;
    StreamLoad {
        running,
        reporting,
        busy: utilization * f64::from(reporting),
        processing_seconds: if messages > 0.0 { spent / messages } else { 0.0 },
        messages_per_report: messages / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);

    fn report(json: &str) -> Report {
        Report::parse(json.as_bytes()).expect("valid report")
    }

    fn busy(utilization: f64) -> Report {
        let mut report = report(r#"["client1", 0.01, 100, 1000]"#);
        report.utilization = Some(utilization);
        report.interval = Some(60.0);
        report
    }

    fn slots(numbers: &[u32]) -> BTreeSet<u32> {
        numbers.iter().copied().collect()
    }

    #[test]
    fn the_newest_report_of_each_running_instance_counts_once() {
        let (mut load, now) = (Load::new(EVERY), Instant::now());
        for (slot, utilization) in [(0, 0.1), (0, 0.9), (1, 0.5), (7, 1.0)] {
            load.record(&busy(utilization), Some(slot), now);
        }
        let seen = load.summarize(&slots(&[0, 1, 2]), None, now);
        assert_eq!((seen.running, seen.reporting), (3, 2));
        assert!((seen.busy - 1.4).abs() < 1e-9, "{seen:?}");
    }

    #[test]
    fn silence_and_reports_about_the_time_before_a_change_are_ignored() {
        let (mut load, start) = (Load::new(EVERY), Instant::now());
        load.record(&busy(0.9), Some(0), start + EVERY);
        let at = |changed: Option<Instant>, now| load.summarize(&slots(&[0]), changed, now).reporting;
        assert_eq!(at(None, start + EVERY), 1);
        assert_eq!(at(None, start + EVERY * 3), 1);
        assert_eq!(at(None, start + EVERY * 3 + Duration::from_secs(1)), 0);
        assert_eq!(at(Some(start), start + EVERY), 1);
        assert_eq!(at(Some(start + Duration::from_secs(1)), start + EVERY), 0);
    }

    #[test]
    fn array_reports_stand_for_the_whole_stream() {
        let (mut load, now) = (Load::new(EVERY), Instant::now());
        load.record(&report(r#"["client1", 0.3, 100, 1000]"#), None, now);
        load.record(&report(r#"["client1", 0.1, 300, 1000]"#), None, now);
        let seen = load.summarize(&slots(&[0, 1, 2, 3]), None, now);
        assert_eq!((seen.running, seen.reporting), (4, 4));
        // Each stored for 30 s of its 60 s.
        assert!((seen.busy - 2.0).abs() < 1e-9, "{seen:?}");
        assert!((seen.processing_seconds - 0.15).abs() < 1e-9, "{seen:?}");
        assert!((seen.messages_per_report - 200.0).abs() < 1e-9, "{seen:?}");
    }

    #[test]
    fn implausible_reports_are_clamped_and_bounded() {
        let (mut load, now) = (Load::new(EVERY), Instant::now());
        for _ in 0..10_000 {
            load.record(
                &report(r#"["client1", 86400, 18446744073709551615, 18446744073709551615]"#),
                None,
                now,
            );
        }
        let mut implausible = busy(1.0);
        implausible.interval = Some(1e-300);
        load.record(&implausible, None, now);
        let seen = load.summarize(&slots(&[0]), None, now);
        assert!(
            seen.busy <= 1.0 && seen.messages_per_report.is_finite() && load.unnamed.len() == UNNAMED_MAX
        );
    }
}
