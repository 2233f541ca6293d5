//! Sums up what an instance has done since its last report.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mysimbdp_model::message::Report;

use super::StreamAppSettings;
use super::write::DurableBatch;

/// Measures one interval, from the last report that the broker has acknowledged to the next one.
#[derive(Debug)]
pub(crate) struct Meter {
    interval: Interval,
    /// Since when batches have been written without a pause in this interval.
    storing_since: Option<Instant>,
}

/// What has been done since an instant.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    since: Instant,
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    pub(crate) rejected: u64,
    bytes: u64,
    /// Time from arrival to acknowledgement, summed over all messages.
    waited: Duration,
    /// Time in which at least one batch was being written.
    stored_for: Duration,
}

impl Interval {
    fn new(since: Instant) -> Self {
        Self {
            since,
            stored: 0,
            duplicates: 0,
            rejected: 0,
            bytes: 0,
            waited: Duration::ZERO,
            stored_for: Duration::ZERO,
        }
    }

    /// Returns the number of acknowledged messages.
    pub(crate) fn messages(&self) -> u64 {
        self.stored + self.duplicates + self.rejected
    }
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { interval: Interval::new(now), storing_since: None }
    }

    pub(crate) fn write_began(&mut self, now: Instant) {
        self.storing_since.get_or_insert(now);
    }

    /// Counts a batch that is durable. `is_last`: no other batch is being written.
    pub(crate) fn write_ended(&mut self, batch: &DurableBatch, is_last: bool, now: Instant) {
        let interval = &mut self.interval;
        if is_last && let Some(since) = self.storing_since.take() {
            interval.stored_for += now.duration_since(since);
        }
        interval.stored += batch.stored;
        interval.duplicates += batch.duplicates;
        interval.rejected += batch.rejected;
        interval.bytes += batch.bytes;
        interval.waited +=
            batch.arrivals.iter().map(|arrival| now.duration_since(*arrival)).sum::<Duration>();
    }

    /// Ends the interval and begins the next one. If its report does not arrive, the interval must be
    /// [carried over](Self::carry_over).
    pub(crate) fn end(&mut self, now: Instant) -> Interval {
        let mut ended = std::mem::replace(&mut self.interval, Interval::new(now));
        // The time of a write that has not ended belongs to this interval up to now.
        if let Some(since) = &mut self.storing_since {
            ended.stored_for += now.duration_since(std::mem::replace(since, now));
        }
        ended
    }

    /// Adds an interval whose report has not arrived, so that the next report has its numbers too.
    pub(crate) fn carry_over(&mut self, earlier: &Interval) {
        let interval = &mut self.interval;
        interval.since = interval.since.min(earlier.since);
        interval.stored += earlier.stored;
        interval.duplicates += earlier.duplicates;
        interval.rejected += earlier.rejected;
        interval.bytes += earlier.bytes;
        interval.waited += earlier.waited;
        interval.stored_for += earlier.stored_for;
    }

    /// Returns what no report contains yet.
    pub(crate) fn unreported(&self) -> &Interval {
        &self.interval
    }
}

/// Returns the report of an interval that ends now.
pub(crate) fn report(
    interval: &Interval,
    settings: &StreamAppSettings,
    backlog: u64,
    now: Instant,
) -> Report {
    // After a long outage the time is capped at the most that a report can say.
    let seconds = |duration: Duration| duration.as_secs_f64().min(Report::SECONDS_MAX);
    let length = seconds(now.duration_since(interval.since));
    let handled = interval.messages();
    let busy = interval.stored_for.as_secs_f64() / length.max(f64::EPSILON);
    Report {
        client_name: settings.client.clone(),
        average_processing_time: if handled == 0 {
            0.0
        } else {
            seconds(interval.waited.div_f64(handled as f64))
        },
        total_number_of_messages_ingested: interval.stored + interval.duplicates,
        total_size_of_messages_ingested: interval.bytes,
        instance: Some(settings.instance.clone()),
        interval: Some(length),
        utilization: Some(busy.clamp(0.0, 1.0)),
        stored: Some(interval.stored),
        duplicates: Some(interval.duplicates),
        rejected: interval.rejected,
        backlog,
    }
}

pub(crate) fn to_json(report: &Report) -> Bytes {
    serde_json::to_vec(report).expect("all keys of a report are strings").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::test_settings;

    fn durable_batch(arrivals: Vec<Instant>, rejected: u64) -> DurableBatch {
        let stored = arrivals.len() as u64 - rejected;
        DurableBatch { arrivals, bytes: 100, stored, rejected, ..DurableBatch::default() }
    }

    #[test]
    fn a_report_covers_only_its_own_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(start);
        let ended = |meter: &mut Meter, now| {
            let interval = meter.end(now);
            let report = report(&interval, &test_settings(), 5, now);
            (interval, report)
        };
        meter.write_began(at(1));
        meter.write_began(at(2));
        meter.write_ended(&durable_batch(vec![at(1), at(1)], 1), false, at(2));
        meter.write_ended(&durable_batch(vec![at(2)], 0), true, at(3));
        meter.write_began(at(9));
        let (interval, report) = ended(&mut meter, at(10));
        assert_eq!(report.total_number_of_messages_ingested, 2);
        assert_eq!((report.stored, report.duplicates), (Some(2), Some(0)));
        assert_eq!((report.rejected, report.backlog), (1, 5));
        assert_eq!(report.average_processing_time, 1.0);
        assert_eq!((report.interval, report.utilization), (Some(10.0), Some(0.3)));
        // The write that continues fills the next interval from its start.
        let (_, next) = ended(&mut meter, at(20));
        assert_eq!((next.total_number_of_messages_ingested, next.utilization), (0, Some(1.0)));
        // An interval whose report did not arrive is part of the next one.
        meter.write_ended(&durable_batch(vec![at(21)], 0), true, at(22));
        meter.carry_over(&interval);
        let (_, both) = ended(&mut meter, at(22));
        assert_eq!((both.total_number_of_messages_ingested, both.rejected), (3, 1));
        assert_eq!((both.interval, both.average_processing_time), (Some(22.0), 1.0));
        assert_eq!(meter.unreported().messages(), 0);
        meter.carry_over(&interval);
        let (_, late) = ended(&mut meter, at(200_000));
        assert_eq!(late.interval, Some(86_400.0));
        Report::parse(&to_json(&late)).expect("it is a report however long the outage was");
    }
}
