//! The platform as an edge sees it: it receives numbered messages and answers with retained receipts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mysimbdp_broker::{BrokerLink, ConnectOptions, Incoming, LinkEvent, Publish};
use mysimbdp_edge::{BrokerAddress, Edge, EdgeSettings};
use mysimbdp_model::message::{Receipt, VERSION};
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::{self, Number};
use mysimbdp_model::topic::Topics;
use mysimbdp_testbed::{Mosquitto, unique, until_async};
use tokio::sync::mpsc::Receiver;

pub use mysimbdp_testbed::SOON;

/// A broker that loses all its state when it ends.
pub fn broker_without_persistence() -> Mosquitto {
    Mosquitto::with("persistence false")
}

/// The settings of the one source of these tests. The platform is asked for its progress after a second.
pub fn settings(url: &str, outbox: &Path) -> EdgeSettings {
    let (client, source) = ("client1".parse().expect("client id"), "sensor-1".parse().expect("source name"));
    EdgeSettings {
        resend_after: Duration::from_secs(1),
        keep_alive: Duration::from_secs(5),
        ..EdgeSettings::new(client, source, outbox, BrokerAddress::Url(url.to_owned()))
    }
}

/// The payload of message `number`.
pub fn payload(number: u64) -> String {
    format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(number as usize % 100))
}

pub async fn send(edge: &Edge, first: u64, last: u64) {
    let messages = (first..=last).map(|number| bytes(number).into()).collect();
    assert_eq!(edge.send_batch(messages).await.expect("accepted"), first..=last);
}

fn bytes(number: u64) -> bytes::Bytes {
    payload(number).into()
}

/// The stored messages, and the faults of the platform.
#[derive(Debug, Default)]
pub struct State {
    epoch: Option<u64>,
    pub stored: BTreeMap<u64, Vec<u8>>,
    pub lost: Ranges,
    /// How many messages have arrived, including repeats.
    pub deliveries: u64,
    /// How often it was connected.
    connections: u32,
    /// Messages are neither stored nor confirmed.
    pub ignores_messages: bool,
    /// No receipts are published.
    pub withholds_receipts: bool,
    /// These numbers are not stored when they arrive for the first time.
    pub lose_once: BTreeSet<u64>,
}

impl State {
    pub fn numbers(&self) -> Vec<u64> {
        self.stored.keys().copied().collect()
    }

    fn receive(&mut self, message: &Incoming) {
        let property = |requested| {
            let mut properties = message.user_properties.iter();
            properties.find(|(name, _)| name == requested).map(|(_, value)| value.clone())
        };
        self.deliveries += 1;
        if self.ignores_messages {
            return;
        }
        if let Some(range) = property(source::GONE) {
            let (first, last) = range.split_once('-').expect("first-last");
            let number = |text: &str| text.parse().expect("a number");
            assert!(message.payload.is_empty());
            self.lost.insert(number(first), number(last));
            return;
        }
        let texts = [source::SOURCE, source::EPOCH, source::SEQUENCE].map(property);
        let Number { source, sequence } = Number::read(texts).expect("well numbered").expect("numbered");
        assert_eq!(*self.epoch.get_or_insert(source.epoch), source.epoch, "one epoch");
        if self.lose_once.remove(&sequence) {
            return;
        }
        let before = self.stored.insert(sequence, message.payload.to_vec());
        assert!(before.is_none_or(|before| before == message.payload), "{sequence} has two contents");
    }

    fn receipt(&self) -> Option<Receipt> {
        let epoch = self.epoch.filter(|_| !self.withholds_receipts && !self.ignores_messages)?;
        let mut received: Ranges = self.stored.keys().map(|number| (*number, *number)).collect();
        received.extend(&self.lost);
        let highest = received.last().map_or(0, |(_, last)| last);
        let stored_through = received.first().filter(|(first, _)| *first == 1).map_or(0, |(_, last)| last);
        Some(Receipt {
            version: VERSION,
            client_id: "client1".parse().expect("client id"),
            source: "sensor-1".parse().expect("source name"),
            epoch,
            stored_through,
            stored: received
                .iter()
                .filter(|(first, _)| *first > stored_through)
                .take(Receipt::RANGES_MAX)
                .collect(),
            missing: received.holes(1, highest).iter().take(Receipt::RANGES_MAX).collect(),
            seen: Some(highest),
        })
    }
}

/// A running platform, which ends when it is dropped.
pub struct FakePlatform {
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakePlatform {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakePlatform {
    pub async fn start(url: &str) -> Self {
        let topics = Topics::new("mysimbdp");
        let client = "client1".parse().expect("client id");
        let filters = vec![topics.ingest_filter(&client)];
        let options = ConnectOptions {
            keep_alive: Duration::from_secs(5),
            ..ConnectOptions::new(url, unique("platform"))
        };
        let (link, events) = BrokerLink::connect(options, filters).expect("a good address");
        link.wait_connected(SOON).await.expect("connected");
        let state = Arc::new(Mutex::new(State::default()));
        let topic = topics.receipts(&client, &"sensor-1".parse().expect("source name"));
        let task = tokio::spawn(run(Arc::clone(&state), link, events, topic));
        Self { state, task }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        assert!(!self.task.is_finished(), "the platform has panicked");
        self.state.lock().expect("the platform has not panicked")
    }

    /// Waits until it is connected for the second time: that the first connection has ended may not be known yet.
    pub async fn reconnected(&self) {
        self.until("it is connected again", |state| state.connections == 2).await;
    }

    pub async fn until(&self, what: &str, mut condition: impl FnMut(&State) -> bool) {
        until_async(SOON, what, async || condition(&self.state())).await;
    }

    /// Asserts that all messages through `last` are stored with the right content, and nothing else.
    pub fn assert_stored(&self, last: u64) {
        let state = self.state();
        assert_eq!(state.numbers(), (1..=last).collect::<Vec<_>>());
        for (number, content) in &state.stored {
            assert_eq!(String::from_utf8_lossy(content), payload(*number));
        }
    }
}

async fn run(state: Arc<Mutex<State>>, link: BrokerLink, mut events: Receiver<LinkEvent>, topic: String) {
    while let Some(event) = events.recv().await {
        let mut event = Some(event);
        while let Some(LinkEvent::Message(message)) = event {
            state.lock().expect("no test panics with it").receive(&message);
            event = events.try_recv().ok();
        }
        if let Some(LinkEvent::Connected) = event {
            state.lock().expect("no test panics with it").connections += 1;
        }
        let receipt = state.lock().expect("no test panics with it").receipt();
        if let Some(receipt) = receipt {
            let payload = serde_json::to_vec(&receipt).expect("JSON");
            // Without a connection the receipt is lost, which an edge must tolerate.
            let _ = link.publish(Publish { retain: true, ..Publish::new(&*topic, payload) }).await;
        }
    }
}
