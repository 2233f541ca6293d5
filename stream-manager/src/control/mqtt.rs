//! Answers requests that came over MQTT, where they say.

use bytes::Bytes;
use mysimbdp_core::chain;
use mysimbdp_core::io::broker::{BrokerLink, Incoming, Publish};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Outcome, Refusal, Response};

/// Answers on their way; who asks more at a time than this is not answered, though heard.
const ANSWERS_MAX: usize = 64;

/// Publishes answers as they come, each as its request wanted it.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    tasks: JoinSet<()>,
}

impl Replies {
    /// Takes care that the answer to request `id` gets to who sent `from`.
    pub(crate) fn expect(
        &mut self,
        id: String,
        from: Incoming,
        link: BrokerLink,
        answered: oneshot::Receiver<Outcome>,
    ) {
        while self.tasks.try_join_next().is_some() {}
        let Some(topic) = from.response_topic else { return };
        if self.tasks.len() >= ANSWERS_MAX {
            tracing::warn!(id, "too many requests over MQTT at once, this one is not answered");
            return;
        }
        self.tasks.spawn(async move {
            let outcome = answered.await.unwrap_or_else(|_| Outcome::from(Refusal::ShuttingDown));
            // These types have nothing that JSON could refuse.
            let payload = Bytes::from(serde_json::to_vec(&Response { id, outcome }).unwrap_or_default());
            let publish = Publish { correlation: from.correlation, ..Publish::new(topic, payload) };
            if let Err(error) = link.publish(publish).await {
                tracing::warn!(error = %chain(&error), "answer to a request not delivered");
            }
        });
    }
}
