//! The steps of a receipt cycle: each ends when the store or the broker has done its part.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use mysimbdp_broker::Publish;
use mysimbdp_broker::consumer::Consumer;
use mysimbdp_model::error_chain;
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::Source;
use mysimbdp_platform::backoff::Backoff;
use mysimbdp_platform::failpoint;
use mysimbdp_store::CoredmsError;
use mysimbdp_store::sequences::{Progress, Sequences};

use super::durable::DurableBySource;

/// Sources that are read, and receipts that are published, at the same time.
const CONCURRENT_MAX: usize = 8;

/// The result of a step.
#[derive(Debug)]
pub(crate) enum Step {
    ProgressRead(Vec<(Source, Progress)>),
    /// The sources whose receipts the broker has not accepted.
    Published(Vec<Source>),
}

/// Marks durable numbers, records the numbers that their source has lost, and reads the progress of the sources.
/// `known` is the `through` of each source in `durable`, in its order.
pub(crate) async fn mark_and_read(sequences: Sequences, durable: DurableBySource, known: Vec<u64>) -> Step {
    let received: BTreeMap<Source, Ranges> = durable
        .iter()
        .filter(|(_, durable)| !durable.received.is_empty())
        .map(|(source, durable)| (source.clone(), durable.received.clone()))
        .collect();
    if !received.is_empty() {
        until_done("mark received numbers", || sequences.mark(&received)).await;
        failpoint::hit("stream-app.numbers-recorded");
    }
    for (source, durable) in &durable {
        for lost_numbers in durable.lost_in_parts(source) {
            let lost = until_done("record losses", || sequences.record_lost(&lost_numbers)).await;
            if !lost.is_empty() {
                tracing::warn!(
                    source = %source.name,
                    epoch = source.epoch,
                    first = lost_numbers.first,
                    last = lost_numbers.last,
                    lost = lost.count(),
                    "the source has lost messages"
                );
            }
        }
    }
    let reads = durable.into_keys().zip(known).map(|(source, known)| {
        let sequences = &sequences;
        async move {
            let progress = until_done("read receipts", || sequences.progress(&source, known)).await;
            (source, progress)
        }
    });
    Step::ProgressRead(futures::stream::iter(reads).buffer_unordered(CONCURRENT_MAX).collect().await)
}

/// Publishes receipts.
pub(crate) async fn send(consumer: Arc<Consumer>, receipts: Vec<(Source, Publish)>) -> Step {
    let sent = receipts.into_iter().map(|(source, publish)| {
        let consumer = Arc::clone(&consumer);
        async move {
            let sent = consumer.publish(publish).await;
            failpoint::hit("stream-app.receipt-sent");
            match sent {
                Ok(()) => None,
                Err(error) => {
                    tracing::debug!(source = %source.name, error = %error_chain(&error), "receipt not sent");
                    Some(source)
                }
            }
        }
    });
    let sent = futures::stream::iter(sent).buffer_unordered(CONCURRENT_MAX);
    Step::Published(sent.filter_map(std::future::ready).collect().await)
}

/// Repeats `operation` until the store has done it. Logs one WARN per outage.
async fn until_done<T, F: Future<Output = Result<T, CoredmsError>>>(
    what: &'static str,
    mut operation: impl FnMut() -> F,
) -> T {
    let mut backoff = Backoff::default();
    let mut is_unavailable = false;
    loop {
        match operation().await {
            Ok(value) => return value,
            Err(error) => {
                if !std::mem::replace(&mut is_unavailable, true) {
                    tracing::warn!(operation = what, error = %error_chain(&error), "receipts wait for the store");
                }
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}
