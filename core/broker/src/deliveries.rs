//! The queue of messages for a stream app.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5 as packet;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::poller::Inbox;
use super::shared::AckToken;

/// A message that has arrived and that this process has to store.
#[derive(Debug)]
pub struct Delivery {
    pub topic: String,
    pub payload: Bytes,
    /// 0 or 1. Only QoS 1 can be acknowledged, and is delivered again until it is.
    pub qos: u8,
    /// The broker has sent it before.
    pub duplicate: bool,
    pub retained: bool,
    pub user_properties: Vec<(String, String)>,
    pub received_at: Instant,
    /// For [`super::consumer::Consumer::acknowledge`], once the message is stored.
    pub ack: AckToken,
}

/// The receiving end of a consumer, in order of arrival.
///
/// When the connection is lost, the messages that wait here are removed: they can no longer be acknowledged, and the
/// broker delivers them again.
#[derive(Debug)]
pub struct Deliveries {
    queue: Arc<Queue>,
}

impl Deliveries {
    /// Returns the next message; `None` if the consumer has ended. May be dropped at any await without losing a message.
    pub async fn recv(&mut self) -> Option<Delivery> {
        loop {
            let arrived = self.queue.arrived.notified();
            {
                let mut waiting = self.queue.waiting();
                if let Some(delivery) = waiting.pop() {
                    self.queue.taken.notify_one();
                    return Some(delivery);
                }
                if waiting.ended {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Returns the next message if one is waiting.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        let delivery = self.queue.waiting().pop();
        self.queue.taken.notify_one();
        delivery
    }
}

/// The most bytes that may wait; the last message may exceed it.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// QoS 0 is dropped before it keeps messages of QoS 1 from being read.
const AT_MOST_ONCE_BYTES_MAX: usize = WAITING_BYTES_MAX / 2;

/// If a window is waiting and some of it is QoS 0, nothing is read from the network for this long after a message was
/// taken: longer than the store takes for a batch. After that, further QoS 0 messages are dropped.
const QOS_0_TIMEOUT: Duration = Duration::from_millis(500);

/// Bounded by the window: without acknowledgements the broker sends no more QoS 1 messages than that.
///
/// Not every broker respects the window. mosquitto 2.0 was seen to send 1,700 messages into a window of 10 while some of
/// them were being acknowledged. So if more than two windows of QoS 1 or 64 MiB are waiting, nothing more is read from the
/// network until a message is taken. QoS 0 alone never gets that far: the embedded broker ends a connection that reads
/// nothing of what it writes, so a flood must be read, and dropped, however long the store takes.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    taken: Notify,
    window: usize,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    deliveries: VecDeque<Delivery>,
    /// The size of their payloads.
    bytes: usize,
    /// How many are of QoS 0.
    at_most_once: usize,
    /// When a message was last taken, or the first one had to wait.
    progressed_at: Option<Instant>,
    closing: bool,
    ended: bool,
}

impl Waiting {
    fn push(&mut self, delivery: Delivery) {
        if self.deliveries.is_empty() {
            self.progressed_at = Some(delivery.received_at);
        }
        self.bytes += delivery.payload.len();
        self.at_most_once += usize::from(delivery.qos == 0);
        self.deliveries.push_back(delivery);
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        self.bytes -= delivery.payload.len();
        self.at_most_once -= usize::from(delivery.qos == 0);
        self.progressed_at = Some(Instant::now());
        Some(delivery)
    }

    fn clear(&mut self) {
        self.deliveries.clear();
        (self.bytes, self.at_most_once) = (0, 0);
    }
}

impl Queue {
    pub(super) fn new(receive_maximum: u16) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            taken: Notify::new(),
            window: usize::from(receive_maximum.max(1)),
            lost: AtomicU64::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().deliveries.len()
    }

    /// How many QoS 0 messages were dropped because the queue was full.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Accepts nothing more: messages that have not been taken are left to the session.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closing = true;
        waiting.clear();
        drop(waiting);
        self.taken.notify_one();
    }

    /// Returns for how long nothing is to be read; `None` if there is capacity.
    fn read_pause(&self) -> Option<Duration> {
        let waiting = self.waiting();
        let at_least_once = waiting.deliveries.len() - waiting.at_most_once;
        if at_least_once > 2 * self.window || waiting.bytes >= WAITING_BYTES_MAX {
            return Some(Duration::MAX);
        }
        let is_crowded = waiting.deliveries.len() >= self.window || waiting.bytes >= AT_MOST_ONCE_BYTES_MAX;
        if waiting.at_most_once == 0 || !is_crowded {
            return None;
        }
        let stalled_for =
            waiting.progressed_at.map_or(QOS_0_TIMEOUT, |progressed_at| progressed_at.elapsed());
        QOS_0_TIMEOUT.checked_sub(stalled_for).filter(|remaining| !remaining.is_zero())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates both halves of a queue.
pub(super) fn deliveries(receive_maximum: u16) -> (Arc<Queue>, Deliveries) {
    let queue = Arc::new(Queue::new(receive_maximum));
    (Arc::clone(&queue), Deliveries { queue })
}

impl Inbox for Arc<Queue> {
    fn disconnected(&self, _reason: &str) {
        self.waiting().clear();
    }

    async fn wait_for_capacity(&self) {
        while let Some(read_pause) = self.read_pause() {
            // After a timeout the condition is checked again.
            let _ = timeout(read_pause, self.taken.notified()).await;
        }
    }

    fn messages(&self, messages: impl Iterator<Item = packet::Publish>, generation: u64) {
        let received_at = Instant::now();
        let mut waiting = self.waiting();
        if waiting.closing {
            return;
        }
        for message in messages {
            let at_most_once = message.qos == QoS::AtMostOnce;
            let has_capacity =
                waiting.deliveries.len() < 2 * self.window && waiting.bytes < AT_MOST_ONCE_BYTES_MAX;
            if at_most_once && !has_capacity {
                self.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let properties = message.properties.unwrap_or_default();
            waiting.push(Delivery {
                topic: String::from_utf8_lossy(&message.topic).into_owned(),
                payload: message.payload,
                qos: message.qos as u8,
                duplicate: message.dup,
                retained: message.retain,
                user_properties: properties.user_properties,
                received_at,
                ack: AckToken { generation, packet_id: if at_most_once { 0 } else { message.pkid } },
            });
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    fn ended(&self) {
        self.waiting().ended = true;
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn message(qos: QoS, id: u16) -> packet::Publish {
        packet::Publish { qos, pkid: id, topic: Bytes::from_static(b"t"), ..packet::Publish::default() }
    }

    #[test]
    fn qos_0_is_dropped_when_two_windows_are_full_and_qos_1_is_not() {
        let (queue, mut deliveries) = deliveries(1);
        for _ in 0..5 {
            queue.messages([message(QoS::AtMostOnce, 0)].into_iter(), 1);
        }
        assert_eq!((queue.len(), queue.lost()), (2, 3));
        queue.messages([message(QoS::AtLeastOnce, 1)].into_iter(), 1);
        let taken = std::iter::from_fn(|| deliveries.try_recv());
        assert_eq!(taken.map(|delivery| delivery.ack.packet_id).collect::<Vec<_>>(), [0, 0, 1]);
    }

    #[tokio::test]
    async fn qos_0_waits_for_a_receiver_and_is_dropped_without_one() {
        let (queue, mut deliveries) = deliveries(2);
        queue.messages([message(QoS::AtMostOnce, 0), message(QoS::AtMostOnce, 0)].into_iter(), 1);
        assert!(queue.wait_for_capacity().now_or_never().is_none(), "a window is waiting");
        let (delivery, ()) = tokio::join!(deliveries.recv(), queue.wait_for_capacity());
        assert!(delivery.is_some());
        queue.messages([message(QoS::AtMostOnce, 0)].into_iter(), 1);
        assert!(queue.wait_for_capacity().now_or_never().is_none(), "one was taken just now");
        queue.wait_for_capacity().await;
        queue.messages(std::iter::repeat_n(message(QoS::AtMostOnce, 0), 4), 1);
        assert_eq!((queue.len(), queue.lost()), (4, 2));
        assert!(
            queue.wait_for_capacity().now_or_never().is_some(),
            "the time limit has passed until one is taken"
        );
    }

    #[tokio::test]
    async fn a_broker_that_sends_beyond_the_window_is_no_longer_read() {
        let (queue, mut deliveries) = deliveries(2);
        for id in 1..=5 {
            assert!(queue.wait_for_capacity().now_or_never().is_some(), "capacity for message {id}");
            queue.messages([message(QoS::AtLeastOnce, id)].into_iter(), 1);
        }
        assert!(queue.wait_for_capacity().now_or_never().is_none());
        let (delivery, ()) = tokio::join!(deliveries.recv(), queue.wait_for_capacity());
        assert_eq!(delivery.map(|delivery| delivery.ack.packet_id), Some(1));
        queue.messages([message(QoS::AtLeastOnce, 6)].into_iter(), 1);
        queue.close();
        assert!(queue.wait_for_capacity().now_or_never().is_some(), "it can end");
    }

    #[tokio::test]
    async fn large_messages_stop_the_reading_before_they_are_many() {
        let (queue, mut deliveries) = deliveries(100);
        for id in 1..=4 {
            assert!(queue.wait_for_capacity().now_or_never().is_some(), "capacity for message {id}");
            let payload = Bytes::from(vec![0; WAITING_BYTES_MAX / 4]);
            queue.messages([packet::Publish { payload, ..message(QoS::AtLeastOnce, id) }].into_iter(), 1);
        }
        assert!(queue.wait_for_capacity().now_or_never().is_none());
        assert!(deliveries.try_recv().is_some());
        assert!(queue.wait_for_capacity().now_or_never().is_some());
        queue.disconnected("test");
        assert_eq!((queue.len(), queue.waiting().bytes), (0, 0));
    }

    #[tokio::test]
    async fn waiting_messages_are_removed_when_the_connection_is_lost() {
        let (queue, mut deliveries) = deliveries(2);
        queue.messages([message(QoS::AtLeastOnce, 1)].into_iter(), 1);
        queue.disconnected("test");
        queue.messages([message(QoS::AtLeastOnce, 1)].into_iter(), 2);
        queue.ended();
        assert_eq!(deliveries.recv().await.map(|delivery| delivery.ack.generation), Some(2));
        assert!(deliveries.recv().await.is_none());
    }
}
