//! What an instance did since its last report.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mysimbdp_model::message::Report;

use super::Settings;
use super::write::Settled;

/// Sums up one interval, from the last report that the broker has acknowledged to the next one.
#[derive(Debug)]
pub(crate) struct Meter {
    interval: Interval,
    /// Since when a batch is being stored again, or the interval began.
    storing_since: Option<Instant>,
}

/// What was done since an instant.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    since: Instant,
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    pub(crate) rejected: u64,
    bytes: u64,
    /// Arrival to acknowledgement, summed over all messages.
    waited: Duration,
    /// Time in which at least one batch was being stored.
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

    /// Messages that were acknowledged.
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

    /// `is_last`: no other batch is being stored.
    pub(crate) fn write_ended(&mut self, settled: &Settled, is_last: bool, now: Instant) {
        let interval = &mut self.interval;
        if is_last && let Some(since) = self.storing_since.take() {
            interval.stored_for += now.duration_since(since);
        }
        interval.stored += settled.stored;
        interval.duplicates += settled.duplicates;
        interval.rejected += settled.rejected;
        interval.bytes += settled.bytes;
        interval.waited +=
            settled.arrivals.iter().map(|arrival| now.duration_since(*arrival)).sum::<Duration>();
    }

    /// Ends the interval and begins the next one. If its report does not arrive it is to be [carried on](Self::carry_on).
    pub(crate) fn end(&mut self, now: Instant) -> Interval {
        let mut ended = std::mem::replace(&mut self.interval, Interval::new(now));
        // A write that is still on its way belongs to this interval for its part.
        if let Some(since) = &mut self.storing_since {
            ended.stored_for += now.duration_since(std::mem::replace(since, now));
        }
        ended
    }

    /// Takes up an interval whose report has not arrived: the next report has its numbers too.
    pub(crate) fn carry_on(&mut self, earlier: &Interval) {
        let interval = &mut self.interval;
        interval.since = interval.since.min(earlier.since);
        interval.stored += earlier.stored;
        interval.duplicates += earlier.duplicates;
        interval.rejected += earlier.rejected;
        interval.bytes += earlier.bytes;
        interval.waited += earlier.waited;
        interval.stored_for += earlier.stored_for;
    }

    /// What no report has told yet.
    pub(crate) fn untold(&self) -> &Interval {
        &self.interval
    }
}

/// The report of an interval that ends now.
pub(crate) fn report(interval: &Interval, settings: &Settings, backlog: u64, now: Instant) -> Report {
    // After a long outage as much as a report can say.
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
        let ended = |meter: &mut Meter, now| {
            let interval = meter.end(now);
            let report = report(&interval, &test_settings(), 5, now);
            (interval, report)
        };
        meter.write_began(at(1));
        meter.write_began(at(2));
        meter.write_ended(&settled(vec![at(1), at(1)], 1), false, at(2));
        meter.write_ended(&settled(vec![at(2)], 0), true, at(3));
        meter.write_began(at(9));
        let (interval, report) = ended(&mut meter, at(10));
        assert_eq!(report.total_number_of_messages_ingested, 2);
        assert_eq!((report.stored, report.duplicates), (Some(2), Some(0)));
        assert_eq!((report.rejected, report.backlog), (1, 5));
        assert_eq!(report.average_processing_time, 1.0);
        assert_eq!((report.interval, report.utilization), (Some(10.0), Some(0.3)));
        // The write that goes on fills the next interval from its start.
        let (_, next) = ended(&mut meter, at(20));
        assert_eq!((next.total_number_of_messages_ingested, next.utilization), (0, Some(1.0)));
        // One that did not arrive is part of the next.
        meter.write_ended(&settled(vec![at(21)], 0), true, at(22));
        meter.carry_on(&interval);
        let (_, both) = ended(&mut meter, at(22));
        assert_eq!((both.total_number_of_messages_ingested, both.rejected), (3, 1));
        assert_eq!((both.interval, both.average_processing_time), (Some(22.0), 1.0));
        assert_eq!(meter.untold().messages(), 0);
        meter.carry_on(&interval);
        let (_, late) = ended(&mut meter, at(200_000));
        assert_eq!(late.interval, Some(86_400.0));
        Report::parse(&to_json(&late)).expect("it is a report however long the outage was");
    }
}
