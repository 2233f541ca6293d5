//! The metrics of an edge.

use std::convert::Infallible;
use std::time::Duration;

use mysimbdp_edge::{Edge, Statistics};
use mysimbdp_telemetry::metrics::metrics;
use tokio::time::{MissedTickBehavior, interval};

/// As often as batch-manager measures its queue.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Keeps the metrics of this client and source up to date.
pub async fn keep(edge: &Edge, labels: [&str; 2]) -> Infallible {
    let mut clock = interval(MEASURE_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Statistics::default();
    loop {
        clock.tick().await;
        let now = edge.statistics();
        show(labels, before, now);
        before = now;
    }
}

fn show(labels: [&str; 2], before: Statistics, now: Statistics) {
    let metrics = &metrics().edge;
    let reconnects = |statistics: Statistics| statistics.connections.saturating_sub(1);
    for (counter, before, now) in [
        (&metrics.accepted, before.accepted, now.accepted),
        (&metrics.published, before.published, now.published),
        (&metrics.acknowledged, before.acknowledged, now.acknowledged),
        (&metrics.refused, before.refused, now.refused),
        (&metrics.confirmed, before.confirmed, now.confirmed),
        (&metrics.broker_reconnects, reconnects(before), reconnects(now)),
    ] {
        counter.with(labels).inc_by(now - before);
    }
    for (gauge, value) in [
        (&metrics.outbox_messages, now.waiting),
        (&metrics.outbox_used_bytes, now.outbox_bytes),
        (&metrics.outbox_capacity_bytes, now.capacity_bytes),
        (&metrics.broker_connected, now.connected.into()),
    ] {
        gauge.with(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    metrics.outbox_oldest_seconds.with(labels).set(now.oldest_waiting.as_secs_f64());
}
