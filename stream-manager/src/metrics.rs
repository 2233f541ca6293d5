//! What of the streams is counted: reports, instances, and changes of their number.

use std::cmp::Ordering;

use mysimbdp_model::message::Report;
use mysimbdp_telemetry::metrics::metrics;

use crate::key::StreamKey;

/// The instances of a stream now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instances {
    pub(crate) desired: u32,
    pub(crate) running: usize,
    pub(crate) backlog: u64,
}

fn labels(key: &StreamKey) -> [&str; 2] {
    [key.client.as_str(), &key.stream]
}

pub(crate) fn instances(key: &StreamKey, now: Instances) {
    let labels = labels(key);
    metrics().stream_desired.with(labels).set(now.desired.into());
    metrics().stream_running.with(labels).set(i64::try_from(now.running).unwrap_or(i64::MAX));
    metrics().stream_backlog.with(labels).set(i64::try_from(now.backlog).unwrap_or(i64::MAX));
    // Shown as 0, so that the first restart is an increase.
    metrics().stream_restarts.with(labels);
}

/// The stream is no longer configured.
pub(crate) fn removed(key: &StreamKey) {
    let labels = labels(key);
    metrics().stream_desired.remove(labels);
    metrics().stream_running.remove(labels);
    metrics().stream_backlog.remove(labels);
}

pub(crate) fn reported(key: &StreamKey, report: &Report) {
    let [client, stream] = labels(key);
    let count =
        |outcome, messages| metrics().stream_messages.with([client, stream, outcome]).inc_by(messages);
    // An app that tells no duplicates has stored everything.
    count("stored", report.stored.unwrap_or(report.total_number_of_messages_ingested));
    count("duplicate", report.duplicates.unwrap_or(0));
    count("rejected", report.rejected);
    metrics().stream_bytes.with([client, stream]).inc_by(report.total_size_of_messages_ingested);
    let seconds = report.average_processing_time * report.total_number_of_messages_ingested as f64;
    metrics().stream_acknowledgement_seconds.with([client, stream]).inc_by(seconds);
}

pub(crate) fn restarted(key: &StreamKey) {
    metrics().stream_restarts.with(labels(key)).inc();
}

pub(crate) fn scaled(key: &StreamKey, from: u32, to: u32) {
    let direction = match to.cmp(&from) {
        Ordering::Greater => "up",
        Ordering::Less => "down",
        Ordering::Equal => return,
    };
    let [client, stream] = labels(key);
    metrics().stream_scalings.with([client, stream, direction]).inc();
}

pub(crate) fn ended(key: &StreamKey, has_crashed: bool) {
    let [client, stream] = labels(key);
    metrics().stream_exits.with([client, stream, if has_crashed { "crashed" } else { "ended" }]).inc();
}
