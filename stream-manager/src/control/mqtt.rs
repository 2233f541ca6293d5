//! Answers requests that came over MQTT, where they say.

use bytes::Bytes;
use mysimbdp_broker::{BrokerLink, Incoming, Publish};
use mysimbdp_model::error_chain;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Outcome, Refusal, Response};
use crate::observe::InvalidMessage;

/// Answers on their way; who asks more at a time than this is not answered, though heard.
const ANSWERS_MAX: usize = 64;

/// Publishes answers as they come, each as its request wanted it.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    tasks: JoinSet<()>,
}

impl Replies {
    /// Takes care that the answer to request `id` gets to who sent `from`.
    ///
    /// # Errors
    ///
    /// It cannot be answered; it is run all the same.
    pub(crate) fn expect(
        &mut self,
        id: String,
        from: Incoming,
        link: BrokerLink,
        answered: oneshot::Receiver<Outcome>,
    ) -> Result<(), InvalidMessage> {
        while self.tasks.try_join_next().is_some() {}
        let Some(topic) = from.response_topic else { return Ok(()) };
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            return Err(InvalidMessage::ResponseTopic { topic });
        }
        if self.tasks.len() >= ANSWERS_MAX {
            return Err(InvalidMessage::TooManyRequests);
        }
        self.tasks.spawn(async move {
            let outcome = answered.await.unwrap_or_else(|_| Outcome::from(Refusal::ShuttingDown));
            // These types have nothing that JSON could refuse.
            let payload = Bytes::from(serde_json::to_vec(&Response { id, outcome }).unwrap_or_default());
            let publish = Publish { correlation: from.correlation, ..Publish::new(topic, payload) };
            if let Err(error) = link.publish(publish).await {
                tracing::warn!(error = %error_chain(&error), "answer to a request not delivered");
            }
        });
        Ok(())
    }
}
