//! The steps of a round of receipts: each ends when store or broker have done their part.

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

/// Sources that are asked about, and receipts that are published, at the same time.
const AT_ONCE: usize = 8;

/// What a step has come to.
#[derive(Debug)]
pub(crate) enum Step {
    Looked(Vec<(Source, Progress)>),
    /// The sources whose receipts the broker has not taken.
    Published(Vec<Source>),
}

/// Marks what is durable, records what is gone, and reads how far the sources are. `known` is what is known of each.
pub(crate) async fn settle(sequences: Sequences, durable: DurableBySource, known: Vec<u64>) -> Step {
    let received: BTreeMap<Source, Ranges> = durable
        .iter()
        .filter(|(_, durable)| !durable.received.is_empty())
        .map(|(source, durable)| (source.clone(), durable.received.clone()))
        .collect();
    if !received.is_empty() {
        until_done("mark received numbers", || sequences.mark(&received)).await;
        failpoint::hit("stream-app.numbers-marked");
    }
    for (source, durable) in &durable {
        for gone in durable.gone_in_parts(source) {
            let lost = until_done("record losses", || sequences.lose(&gone)).await;
            if !lost.is_empty() {
                tracing::warn!(
                    source = %source.name,
                    epoch = source.epoch,
                    first = gone.first,
                    last = gone.last,
                    lost = lost.count(),
                    "the source has lost messages"
                );
            }
        }
    }
    let looks = durable.into_keys().zip(known).map(|(source, known)| {
        let sequences = &sequences;
        async move {
            let progress = until_done("read receipts", || sequences.progress(&source, known)).await;
            (source, progress)
        }
    });
    Step::Looked(futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await)
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
    let sent = futures::stream::iter(sent).buffer_unordered(AT_ONCE);
    Step::Published(sent.filter_map(std::future::ready).collect().await)
}

/// Repeats `operation` until the store has done it. One WARN per outage.
async fn until_done<T, F: Future<Output = Result<T, CoredmsError>>>(
    what: &'static str,
    mut operation: impl FnMut() -> F,
) -> T {
    let mut backoff = Backoff::default();
    let mut is_away = false;
    loop {
        match operation().await {
            Ok(value) => return value,
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(operation = what, error = %error_chain(&error), "receipts wait for the store");
                }
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}
