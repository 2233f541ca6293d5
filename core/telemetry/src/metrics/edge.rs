//! What an edge counts.

use prometheus_client::metrics::counter::Counter;

use super::family::Registrar;
use super::{Family, FloatGauge, NumberGauge};

/// What an edge counts, all of it by client and source.
#[derive(Debug)]
pub struct EdgeMetrics {
    pub outbox_messages: Family<NumberGauge, 2>,
    pub outbox_used_bytes: Family<NumberGauge, 2>,
    pub outbox_capacity_bytes: Family<NumberGauge, 2>,
    pub outbox_oldest_seconds: Family<FloatGauge, 2>,
    pub accepted: Family<Counter, 2>,
    pub published: Family<Counter, 2>,
    pub acknowledged: Family<Counter, 2>,
    pub refused: Family<Counter, 2>,
    pub confirmed: Family<Counter, 2>,
    pub broker_connected: Family<NumberGauge, 2>,
    pub broker_reconnects: Family<Counter, 2>,
}

impl EdgeMetrics {
    pub(super) fn new(all: &mut Registrar) -> Self {
        let labels = ["client", "source"];
        Self {
            outbox_messages: all.number(
                "mysimbdp_edge_outbox_messages",
                labels,
                "Messages in the outbox that the platform has not confirmed",
            ),
            outbox_used_bytes: all.number(
                "mysimbdp_edge_outbox_used_bytes",
                labels,
                "Bytes of the outbox on disk; a part with confirmed messages is removed as a whole",
            ),
            outbox_capacity_bytes: all.number(
                "mysimbdp_edge_outbox_capacity_bytes",
                labels,
                "Bytes that the outbox may have; while it is full, nothing is read",
            ),
            outbox_oldest_seconds: all.float(
                "mysimbdp_edge_outbox_oldest_age_seconds",
                labels,
                "How long ago the oldest message that is not confirmed was accepted; 0 if there is none",
            ),
            accepted: all.counter(
                "mysimbdp_edge_messages_accepted_total",
                labels,
                "Messages that were read and written to the outbox",
            ),
            published: all.counter(
                "mysimbdp_edge_messages_published_total",
                labels,
                "Messages that were sent to the broker, repeats included",
            ),
            acknowledged: all.counter(
                "mysimbdp_edge_messages_acknowledged_total",
                labels,
                "Messages that the broker has acknowledged and had a subscriber for, repeats included",
            ),
            refused: all.counter(
                "mysimbdp_edge_messages_refused_total",
                labels,
                "Messages that the broker has refused; they are sent again",
            ),
            confirmed: all.counter(
                "mysimbdp_edge_messages_confirmed_total",
                labels,
                "Messages that the platform has confirmed: stored, rejected, or lost for good",
            ),
            broker_connected: all.number(
                "mysimbdp_edge_broker_connected",
                labels,
                "Whether the edge is connected to the broker",
            ),
            broker_reconnects: all.counter(
                "mysimbdp_edge_broker_reconnects_total",
                labels,
                "Connections to the broker after the first one",
            ),
        }
    }
}
