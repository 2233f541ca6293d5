//! Answers the requests that arrived over MQTT, on their response topics.

use bytes::Bytes;
use mysimbdp_broker::{BrokerLink, Incoming, Publish};
use mysimbdp_model::error_chain;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Refusal, RequestOutcome, Response};
use crate::observe::InvalidMessage;

/// How many answers may be pending; a request beyond this is run, but not answered.
const ANSWERS_MAX: usize = 64;

/// Publishes each answer as soon as it is known, on the topic that its request named.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    tasks: JoinSet<()>,
}

impl Replies {
    /// Publishes the answer to request `id` once it is known, as the message `from` asks.
    ///
    /// # Errors
    ///
    /// If the request cannot be answered; it may be run all the same.
    pub(crate) fn publish_when_answered(
        &mut self,
        id: String,
        from: Incoming,
        link: BrokerLink,
        answered: oneshot::Receiver<RequestOutcome>,
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
            let outcome = answered.await.unwrap_or_else(|_| RequestOutcome::from(Refusal::ShuttingDown));
            // These types have nothing that JSON cannot represent.
            let payload = Bytes::from(serde_json::to_vec(&Response { id, outcome }).unwrap_or_default());
            let publish = Publish { correlation: from.correlation, ..Publish::new(topic, payload) };
            if let Err(error) = link.publish(publish).await {
                tracing::warn!(error = %error_chain(&error), "answer to a request not delivered");
            }
        });
        Ok(())
    }
}
