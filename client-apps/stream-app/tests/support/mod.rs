//! Runs stream apps as the platform does, and publishes to them.

#![allow(clippy::disallowed_methods, reason = "tests start processes and read files themselves")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bson::{Document, doc};
use mysimbdp_broker::{BrokerLink, ConnectOptions, LinkEvent, Publish};
use mysimbdp_store::Coredms;
use mysimbdp_store::rejected::RejectedBytes;
use mysimbdp_testbed::{self as testbed, Process, unique, until_async};
use tempfile::TempDir;

pub use mysimbdp_testbed::SOON as DEADLINE;

/// A client with its own stream on a broker and a store.
pub struct Stream {
    pub client: String,
    pub broker: String,
    pub coredms: Arc<dyn Coredms>,
    program: Vec<PathBuf>,
    env: Vec<(String, String)>,
    topic: String,
    directory: TempDir,
    publisher: BrokerLink,
}

impl Stream {
    /// Creates a stream that runs `program`, with the broker and the store at these addresses.
    pub async fn new(program: &[&Path], broker: &str, store: &str) -> Self {
        let directory = TempDir::with_prefix("mysimbdp-stream-").expect("temporary directory");
        let store = match store {
            "embedded" => format!("sqlite:{}", directory.path().display()),
            url => url.to_owned(),
        };
        let client = unique("c");
        let database = unique("stream");
        let topic = format!("{client}/data");
        let own = |name: &str, value: &str| (format!("MYSIMBDP_{name}"), value.to_owned());
        let env = vec![
            own("CLIENT_ID", &client),
            own("BROKER", broker),
            own("COREDMS", &store),
            own("DATABASE", &database),
            own("COLLECTION", "messages"),
            own("REJECTED_COLLECTION", "rejected"),
            own("TOPIC_FILTER", &format!("$share/{client}/{client}/data/#")),
            own("INSTANCE", &format!("{client}-0")),
            own("SLOT", "0"),
            own("INSTANCE_TOPIC", &format!("{client}/instance")),
            own("REPORT_TOPIC", &format!("{client}/reports")),
            own("REPORT_SECONDS", "1"),
            own("RECEIPT_TOPIC", &format!("{client}/receipts")),
            own("GAP_DELAY_MILLIS", "300"),
            own("BATCH_MESSAGES", "200"),
            own("BATCH_MILLIS", "20"),
            own("DRAIN_QUIET_MILLIS", "500"),
        ];
        let coredms = mysimbdp_store::open(&store, &database).await.expect("the store opens");
        let (publisher, _events) = connect(broker, vec![]).await;
        let program = program.iter().map(|part| part.to_path_buf()).collect();
        Self { client, broker: broker.to_owned(), coredms, program, env, topic, directory, publisher }
    }

    /// Adds to the environment, or replaces what is in it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((format!("MYSIMBDP_{name}"), value.to_owned()));
    }

    /// Starts an instance and waits until it has its session: messages that are published from then on are queued for it.
    pub async fn start(&self) -> Process {
        let process = self.spawn();
        self.until_status(&process, "running").await;
        process
    }

    /// Waits until the retained status of an instance has this state.
    pub async fn until_status(&self, process: &Process, state: &str) {
        let (_link, mut events) = connect(&self.broker, vec![format!("{}/instance", self.client)]).await;
        loop {
            let (_, payload, _) = next_message(&mut events).await;
            let status: serde_json::Value = serde_json::from_slice(&payload).expect("the status is JSON");
            if status["pid"] == process.id() && status["state"] == state {
                return;
            }
        }
    }

    /// Starts an instance. All instances append their output to the same log.
    pub fn spawn(&self) -> Process {
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log");
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        Process::spawn(command)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("stream.log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub async fn until_log(&self, what: &str, holds: impl Fn(&str) -> bool) {
        until_async(DEADLINE, what, async || holds(&self.log())).await;
    }

    /// Publishes a message and waits for the broker's acknowledgement.
    pub async fn publish(&self, payload: impl Into<Vec<u8>>) {
        self.send(payload.into(), vec![]).await;
    }

    /// Publishes a message of a numbered source.
    pub async fn publish_numbered(&self, source: &str, sequence: u64, payload: impl Into<Vec<u8>>) {
        let sequence = sequence.to_string();
        self.publish_with(payload, &[("source", source), ("epoch", "7"), ("seq", &sequence)]).await;
    }

    /// Publishes a message with these user properties.
    pub async fn publish_with(&self, payload: impl Into<Vec<u8>>, properties: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.send(payload.into(), properties.iter().map(owned).collect()).await;
    }

    /// Returns the payload of a rejected message.
    pub async fn kept(&self, reject: &Document) -> Vec<u8> {
        match RejectedBytes::of(reject, "payload") {
            RejectedBytes::Inline(kept) => kept,
            RejectedBytes::Object(id) => {
                let bucket = self.coredms.object("rejected", id).await;
                bucket.expect("the bucket can be read").expect("an object")
            }
            RejectedBytes::NotKept => panic!("nothing is kept: {reject:?}"),
        }
    }

    async fn send(&self, payload: Vec<u8>, user_properties: Vec<(String, String)>) {
        self.send_to("x", payload, user_properties).await;
    }

    /// Publishes a message to this level below the stream's topic.
    pub async fn send_to(&self, level: &str, payload: Vec<u8>, user_properties: Vec<(String, String)>) {
        let topic = format!("{}/{level}", self.topic);
        let publish = Publish { user_properties, ..Publish::new(topic, payload) };
        self.publisher.wait_connected(DEADLINE).await.expect("the broker is available");
        self.publisher.publish(publish).await.expect("the broker acknowledges");
    }

    pub async fn count(&self, collection: &str) -> u64 {
        self.coredms.count(collection).await.expect("the store answers")
    }

    pub async fn until_count(&self, collection: &str, count: u64) {
        let what = format!("{collection} has {count} documents");
        until_async(DEADLINE, &what, async || self.count(collection).await >= count).await;
        assert_eq!(self.count(collection).await, count, "log: {}", self.log());
    }

    pub async fn documents(&self, collection: &str) -> Vec<Document> {
        self.coredms.find(collection, doc! {}, 100_000).await.expect("documents")
    }
}

/// Connects the test itself to the broker, and waits until it is connected.
pub async fn connect(
    broker: &str,
    filters: Vec<String>,
) -> (BrokerLink, tokio::sync::mpsc::Receiver<LinkEvent>) {
    let options = ConnectOptions::new(broker, unique("test"));
    let (link, events) = BrokerLink::connect(options, filters).expect("a valid address");
    link.wait_connected(DEADLINE).await.expect("the broker is available");
    (link, events)
}

/// Returns the next message on `events`.
pub async fn next_message(events: &mut tokio::sync::mpsc::Receiver<LinkEvent>) -> (String, Vec<u8>, bool) {
    let wait = async {
        loop {
            match events.recv().await.expect("the link lives") {
                LinkEvent::Message(message) => {
                    return (message.topic, message.payload.to_vec(), message.retained);
                }
                _ => continue,
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("a message arrives")
}

pub fn shared_broker() -> String {
    testbed::mosquitto().url().to_owned()
}

pub fn shared_store() -> String {
    testbed::mongodb().url().to_owned()
}
