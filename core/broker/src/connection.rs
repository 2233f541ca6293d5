//! One connection with all its reconnects, as used by link and consumer.
//!
//! [`Connection`] is the callers' side; the network side is the task in [`super::poller`]. They share
//! [`super::shared::Shared`]. A caller submits a request, registers itself in [`Pending`] and waits; the task receives the
//! answer. When the connection is lost, everybody who waits on it is notified: nothing is carried over to the next one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::Request as Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{self as packet, PublishProperties};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::options::Dialer;
use super::pending::{Answer, Pending, Waiter};
use super::poller::{Inbox, Poller, subscription};
use super::shared::{ANSWER_DEADLINE, AckToken, Live, Phase, Shared, State};
use super::wire::Request;
use super::{BrokerError, Publish, Reach};

/// The callers' side. Dropping it also ends the connection, but only [`Connection::close`] waits for the end.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Connection {
    /// Starts connecting. `ends_if_taken_over`: whether to stop if another process takes over the client id.
    pub(super) fn start(
        dialer: Dialer,
        filters: Vec<String>,
        ends_if_taken_over: bool,
        inbox: impl Inbox,
    ) -> Result<Self, BrokerError> {
        for filter in &filters {
            check_filter(filter)?;
        }
        let shared = Arc::new(Shared::new(dialer, filters));
        let task = tokio::spawn(Poller::new(Arc::clone(&shared), inbox, ends_if_taken_over).run());
        Ok(Self { shared, task: tokio::sync::Mutex::new(Some(task)) })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(*self.shared.phase.borrow(), Phase::Connected)
    }

    /// Waits until the connection is up and its subscriptions are acknowledged.
    pub(super) async fn wait_connected(&self, deadline: Duration) -> Result<(), BrokerError> {
        let mut phase = self.shared.phase.subscribe();
        let left_connecting = phase.wait_for(|phase| !matches!(phase, Phase::Connecting));
        match timeout(deadline, left_connecting).await {
            Ok(Ok(phase)) if matches!(*phase, Phase::Connected) => Ok(()),
            _ => Err(self.shared.not_connected()),
        }
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    pub(super) async fn publish(&self, publish: Publish) -> Result<Reach, BrokerError> {
        let Publish { topic, payload, retain, response_topic, correlation, user_properties, expires } =
            publish;
        check_topic(&topic)?;
        let properties = PublishProperties {
            message_expiry_interval: expires
                .map(|expires| u32::try_from(expires.as_secs().max(1)).unwrap_or(u32::MAX)),
            response_topic,
            correlation_data: correlation,
            user_properties,
            ..PublishProperties::default()
        };
        // Checked before waiting for the permit: without a connection the call fails at once.
        let packet_bytes_max = match &self.shared.state().live {
            Some(live) => live.packet_bytes_max,
            None => return Err(self.shared.not_connected()),
        };
        let bytes = packet_bytes(&topic, payload.clone(), properties.clone());
        if bytes > packet_bytes_max {
            return Err(BrokerError::TooLarge { topic, bytes, bytes_max: packet_bytes_max });
        }
        let answered = async {
            let Ok(permit) = Arc::clone(&self.shared.permits).acquire_owned().await else {
                return Err(self.shared.not_connected());
            };
            let object = format!("message to {topic:?}");
            let answer = self.submit(Some(permit), |live| {
                let message = packet::Publish {
                    retain,
                    ..packet::Publish::new(topic, QoS::AtLeastOnce, payload, Some(properties))
                };
                (live.request(Outgoing::Publish(message)), &mut live.publishes)
            })?;
            self.answer(object, answer).await
        };
        timeout(ANSWER_DEADLINE, answered).await.unwrap_or_else(|_| Err(self.shared.not_acknowledged()))
    }

    /// Subscribes now and on every later connection.
    pub(super) async fn subscribe(&self, filter: &str) -> Result<(), BrokerError> {
        check_filter(filter)?;
        {
            let mut state = self.shared.state();
            state.revoked.retain(|revoked| revoked != filter);
            if !state.desired.iter().any(|desired| desired == filter) {
                state.desired.push(filter.to_owned());
            }
        }
        let answer = self.submit(None, |live| {
            let subscribe = packet::Subscribe::new_many([subscription(filter)], None);
            (live.request(Outgoing::Subscribe(subscribe)), &mut live.subscribes)
        })?;
        self.answer(format!("subscription to {filter:?}"), answer).await.map(drop)
    }

    /// Unsubscribes now; if the session is kept, also on every later connection, in case this one is lost first.
    pub(super) async fn unsubscribe(&self, filter: &str, session_is_kept: bool) -> Result<(), BrokerError> {
        {
            let mut state = self.shared.state();
            state.desired.retain(|desired| desired != filter);
            if session_is_kept && !state.revoked.iter().any(|revoked| revoked == filter) {
                state.revoked.push(filter.to_owned());
            }
        }
        let answer = self.submit(None, |live| {
            let unsubscribe = packet::Unsubscribe::new(filter, None);
            (live.request(Outgoing::Unsubscribe(unsubscribe)), &mut live.unsubscribes)
        })?;
        self.answer(format!("end of the subscription to {filter:?}"), answer).await.map(drop)
    }

    /// Acknowledges messages, and returns how many of them could be acknowledged. One from an earlier connection cannot, as
    /// its identifier may now belong to another message; the broker delivers it again.
    pub(super) fn acknowledge(&self, tokens: impl IntoIterator<Item = AckToken>) -> usize {
        let mut state = self.shared.state();
        let State { generation, live: Some(live), .. } = &mut *state else { return 0 };
        let possible = |token: &AckToken| token.packet_id != 0 && token.generation == *generation;
        let ids: Vec<u16> = tokens.into_iter().filter(possible).map(|token| token.packet_id).collect();
        let acknowledged = ids.len();
        // There is capacity for the whole window, so this fails only while the connection is being lost.
        if acknowledged == 0 || live.requests.try_send(Request::Acknowledge(ids)).is_err() {
            return 0;
        }
        live.unacknowledged = live.unacknowledged.saturating_sub(acknowledged);
        acknowledged
    }

    /// Sends DISCONNECT after all submitted requests, and waits for the task to end.
    pub(super) async fn close(&self) {
        self.shared.stop.send_replace(true);
        let mut task = self.task.lock().await;
        if let Some(task) = task.take()
            && let Err(error) = task.await
        {
            tracing::error!(error = %error, "the task of a broker connection has failed");
        }
    }

    /// Submits a request and registers who waits for it, in one step: both queues must have the same order.
    fn submit(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        request: impl FnOnce(&mut Live) -> (bool, &mut Pending),
    ) -> Result<oneshot::Receiver<Answer>, BrokerError> {
        let mut state = self.shared.state();
        let Some(live) = &mut state.live else {
            drop(state);
            return Err(self.shared.not_connected());
        };
        let (sent, pending) = request(live);
        // The queue is full, which means that the broker does not answer.
        if !sent {
            return Err(self.shared.not_acknowledged());
        }
        let (answer, receiver) = oneshot::channel();
        pending.submitted(Waiter::Caller { answer, _permit: permit });
        Ok(receiver)
    }

    async fn answer(&self, object: String, answer: oneshot::Receiver<Answer>) -> Result<Reach, BrokerError> {
        match timeout(ANSWER_DEADLINE, answer).await {
            Ok(Ok(Ok(reach))) => Ok(reach),
            Ok(Ok(Err(reason))) => {
                Err(BrokerError::Refused { address: self.shared.dialer.address.to_string(), object, reason })
            }
            Ok(Err(_)) => Err(self.shared.not_connected()),
            Err(_) => Err(self.shared.not_acknowledged()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}

fn packet_bytes(topic: &str, payload: Bytes, properties: PublishProperties) -> usize {
    let mut message = packet::Publish::new(topic, QoS::AtLeastOnce, payload, Some(properties));
    message.pkid = 1;
    message.size()
}

fn check_topic(topic: &str) -> Result<(), BrokerError> {
    if topic.is_empty() || topic.len() > usize::from(u16::MAX) || topic.contains(['+', '#', '\0']) {
        return Err(BrokerError::Topic(topic.to_owned()));
    }
    Ok(())
}

fn check_filter(filter: &str) -> Result<(), BrokerError> {
    if mysimbdp_model::topic::is_filter(filter) {
        Ok(())
    } else {
        Err(BrokerError::Filter(filter.to_owned()))
    }
}
