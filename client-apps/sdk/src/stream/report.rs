//! What an instance did since its last report.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mysimbdp_core::message::Report;

use super::Settings;
use super::write::Settled;

/// Sums up one interval.
#[derive(Debug)]
pub(crate) struct Meter {
    since: Instant,
    stored: u64,
    duplicates: u64,
    bytes: u64,
    rejected: u64,
    /// Arrival to acknowledgement, summed over all messages.
    waited: Duration,
    /// Time in which at least one batch was being stored.
    stored_for: Duration,
    /// Since when that is so again, or the interval began.
    storing_since: Option<Instant>,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            stored: 0,
            duplicates: 0,
            bytes: 0,
            rejected: 0,
            waited: Duration::ZERO,
            stored_for: Duration::ZERO,
            storing_since: None,
        }
    }

    pub(crate) fn write_began(&mut self, now: Instant) {
        self.storing_since.get_or_insert(now);
    }

    /// `is_last`: no other batch is being stored.
    pub(crate) fn write_ended(&mut self, settled: &Settled, is_last: bool, now: Instant) {
        if is_last && let Some(since) = self.storing_since.take() {
            self.stored_for += now.duration_since(since);
        }
        self.stored += settled.stored;
        self.duplicates += settled.duplicates;
        self.rejected += settled.rejected;
        self.bytes += settled.bytes;
        self.waited += settled.arrivals.iter().map(|arrival| now.duration_since(*arrival)).sum::<Duration>();
    }

    /// The report of the interval that ends now; the next one begins.
    pub(crate) fn report(&mut self, settings: &Settings, backlog: u64, now: Instant) -> Report {
        let interval = now.duration_since(self.since);
        // A write that is still on its way belongs to this interval for its part.
        let storing = self.storing_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let busy = (self.stored_for + storing).as_secs_f64();
        let ingested = self.stored + self.duplicates;
        let handled = ingested + self.rejected;
        let report = Report {
            client_name: settings.client.clone(),
            average_processing_time: if handled == 0 {
                0.0
            } else {
                self.waited.as_secs_f64() / handled as f64
            },
            total_number_of_messages_ingested: ingested,
            total_size_of_messages_ingested: self.bytes,
            instance: Some(settings.instance.clone()),
            interval: Some(interval.as_secs_f64()),
            utilization: Some((busy / interval.as_secs_f64().max(f64::EPSILON)).clamp(0.0, 1.0)),
            stored: Some(self.stored),
            duplicates: Some(self.duplicates),
            rejected: self.rejected,
            backlog,
        };
        let storing_since = self.storing_since.map(|_| now);
        *self = Self { storing_since, ..Self::new(now) };
        report
    }
}

pub(crate) fn to_json(report: &Report) -> Bytes {
    serde_json::to_vec(report).expect("a report has no map with keys other than text").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::test_settings;

    fn settled(arrivals: Vec<Instant>, rejected: u64) -> Settled {
        let stored = arrivals.len() as u64 - rejected;
        Settled { arrivals, bytes: 100, stored, rejected, ..Settled::default() }
    }

    #[test]
    fn a_report_covers_its_own_interval_only() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(start);
        meter.write_began(at(1));
        meter.write_began(at(2));
        meter.write_ended(&settled(vec![at(1), at(1)], 1), false, at(2));
        meter.write_ended(&settled(vec![at(2)], 0), true, at(3));
        meter.write_began(at(9));
        let report = meter.report(&test_settings(), 5, at(10));
        assert_eq!(report.total_number_of_messages_ingested, 2);
        assert_eq!((report.stored, report.duplicates), (Some(2), Some(0)));
        assert_eq!((report.rejected, report.backlog), (1, 5));
        assert_eq!(report.average_processing_time, 1.0);
        assert_eq!((report.interval, report.utilization), (Some(10.0), Some(0.3)));
        // The write that goes on fills the next interval from its start.
        let next = meter.report(&test_settings(), 0, at(20));
        assert_eq!((next.total_number_of_messages_ingested, next.utilization), (0, Some(1.0)));
    }
}
