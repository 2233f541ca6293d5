//! Backlogs larger than any buffer on the way, for a consumer that is offline.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mysimbdp_testbed::{Daemon, Mosquitto, Process, Proxy, mongodb, program, until, until_async};
use serde_json::json;

use crate::support::{LOADED, Platform, SOON, keyed_stream, messages, stream};

/// Waits until `instances` instances have created their sessions, and stops them.
async fn until_offline(platform: &Platform, instances: usize) {
    let mut stream_manager = platform.start("stream-manager");
    platform.until_instances("client3", instances).await;
    until(SOON, "the sessions are there", || {
        platform.root.log("clients/client3/stream.log").matches("connected to the broker").count()
            >= instances
    });
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
}

/// mosquitto keeps all of them, as it is configured for this platform.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_hundred_thousand_messages_wait_for_a_consumer_that_is_offline() {
    const BACKLOG: u64 = 100_000;
    // Otherwise it would write all of them to disk every second.
    let broker = Mosquitto::with("autosave_interval 1800");
    let platform = Platform::new(mongodb().url(), &broker.url(), json!([keyed_stream("client3")])).await;
    until_offline(&platform, 1).await;
    Mosquitto::publish(&broker.url(), &platform.ingest_topic("client3"), &messages(0, BACKLOG));
    assert_eq!(platform.count("client3", "readings").await, 0);

    let _stream_manager = platform.start("stream-manager");
    platform.until_stored("client3", "readings", BACKLOG, LOADED).await;
    assert_eq!(platform.count("client3", "rejected").await, 0);
}

/// The embedded broker keeps 10,000 messages and drops the oldest: numbered sources send unconfirmed messages again.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_messages_that_exceed_the_embedded_brokers_capacity_are_sent_again_by_numbered_sources() {
    const SOURCES: u64 = 3;
    const EACH: u64 = 4_000;
    let clients = json!([stream("client3", json!({}))]);
    let platform = Platform::new(mongodb().url(), "mqtt://127.0.0.1:1", clients).await;
    platform.use_embedded_broker();
    let _broker = Daemon::start(&platform.root, &["broker", "--port", "0"], &[]);
    let url = platform.embedded_broker();
    until_offline(&platform, 1).await;

    let lines = platform.root.path().join("readings.ndjson");
    std::fs::write(&lines, messages(0, EACH)).expect("write what is published");
    let mut sent = counter(&url, &platform.topic_prefix, 10_500);
    let mut edges: Vec<Daemon> = (0..SOURCES)
        .map(|source| {
            let source = format!("s{source}");
            let lines = lines.to_str().expect("UTF-8");
            let words = [
                "edge",
                "--client",
                "client3",
                "--source",
                &source,
                "--follow",
                lines,
                "--resend-after",
                "2s",
            ];
            Daemon::start(&platform.root, &words, &[])
        })
        .collect();
    // More than the broker keeps.
    assert!(sent.wait(LOADED).success());
    assert_eq!(platform.count("client3", "readings").await, 0);

    let _stream_manager = platform.start("stream-manager");
    platform.until_stored("client3", "readings", SOURCES * EACH, LOADED).await;
    assert_eq!(platform.count("client3", "rejected").await, 0);
    for edge in &mut edges {
        assert!(edge.terminate().success(), "{}", edge.output());
    }
}

/// Three numbered sources with a backlog, two instances that start late, and a store behind a network delay.
struct Backlog {
    platform: Platform,
    /// The proxy in front of the broker, which only the edges use.
    sent: Proxy,
    edges: Vec<Daemon>,
    _store: Proxy,
    _broker: Mosquitto,
}

impl Backlog {
    const SOURCES: u64 = 3;
    const EACH: u64 = 30_000;
    const ALL: u64 = Self::SOURCES * Self::EACH;
    /// The default window of each edge.
    const WINDOW: u64 = 10_000;
    /// Several times what it takes on a machine that is busy with other work.
    const DRAINED_WITHIN: Duration = Duration::from_secs(180);

    /// Starts everything except the instances, and waits until the edges have sent all that they may.
    async fn new(each_direction: Duration) -> Self {
        // Otherwise it would write all of them to disk every second.
        let broker = Mosquitto::with("autosave_interval 1800");
        let clients = json!([stream("client3", json!({"instances": {"min": 2, "max": 2}}))]);
        let platform = Platform::new(mongodb().url(), &broker.url(), clients).await;
        let store = Proxy::before_mongodb(mongodb().url());
        store.delay(each_direction);
        platform.set("coredms", json!({"url": store.mongodb_url()}));
        until_offline(&platform, 2).await;

        std::fs::write(platform.root.path().join("readings.ndjson"), messages(0, Self::EACH))
            .expect("write lines");
        let sent = Proxy::before_broker(&broker.url());
        let mut backlog = Self { platform, sent, edges: Vec::new(), _store: store, _broker: broker };
        backlog.start_edges();
        until(LOADED, "the windows are sent", || backlog.sent.published() >= Self::SOURCES * Self::WINDOW);
        assert_eq!(backlog.platform.count("client3", "readings").await, 0);
        backlog
    }

    /// Starts the edges with their default settings.
    fn start_edges(&mut self) {
        let (root, broker) = (&self.platform.root, self.sent.mqtt_url());
        let lines = root.path().join("readings.ndjson");
        let start = |source: u64| {
            let (source, lines) = (format!("s{source}"), lines.to_str().expect("UTF-8"));
            let words =
                ["edge", "--client", "client3", "--source", &source, "--follow", lines, "--broker", &broker];
            Daemon::start(root, &words, &[])
        };
        self.edges = (0..Self::SOURCES).map(start).collect();
    }

    fn kill_edges(&mut self) {
        self.edges.iter_mut().for_each(|edge| edge.kill9());
        self.start_edges();
    }

    /// Starts the instances, and kills the edges each time one of the counts in `killed_at` is stored.
    async fn drain(mut self, what: &str, killed_at: &[u64]) {
        let start = Instant::now();
        let _stream_manager = self.platform.start("stream-manager");
        for &stored in killed_at {
            let is_stored = async || self.platform.count("client3", "readings").await >= stored;
            until_async(Self::DRAINED_WITHIN, &format!("{stored} are stored"), is_stored).await;
            self.kill_edges();
        }
        self.platform.until_stored("client3", "readings", Self::ALL, Self::DRAINED_WITHIN).await;
        let sent = self.sent.published();
        // For the log of the test; the benches measure how long it takes.
        println!(
            "{what}: {} stored in {:.1} s, {sent} sent, sent/stored {:.2}",
            Self::ALL,
            start.elapsed().as_secs_f64(),
            sent as f64 / Self::ALL as f64
        );
        assert_eq!(self.platform.count("client3", "rejected").await, 0);
        assert!(sent < 2 * Self::ALL, "{sent} messages for {}", Self::ALL);
        let log = self.platform.root.log("clients/client3/stream.log");
        assert!(!log.contains("no connection to the broker"), "{log}");
        for edge in &mut self.edges {
            assert!(edge.terminate().success(), "{}", edge.output());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_backlog_of_three_sources_drains() {
    Backlog::new(Duration::ZERO).await.drain("store nearby", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_backlog_of_three_sources_drains_into_a_store_10_ms_away() {
    Backlog::new(Duration::from_millis(5)).await.drain("round trip 10 ms", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_backlog_of_three_sources_drains_into_a_store_50_ms_away() {
    Backlog::new(Duration::from_millis(25)).await.drain("round trip 50 ms", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_backlog_of_three_sources_drains_though_each_is_killed_three_times() {
    let mut backlog = Backlog::new(Duration::from_millis(5)).await;
    backlog.kill_edges();
    backlog.drain("killed three times", &[20_000, 50_000]).await;
}

/// A subscriber that ends when it has received `messages` messages.
fn counter(url: &str, prefix: &str, messages: u32) -> Process {
    let (host, port) = url.trim_start_matches("mqtt://").split_once(':').expect("host and port");
    let mut command = Command::new(program("mosquitto_sub"));
    command.args(["-V", "5", "-q", "1", "-h", host, "-p", port, "-t", &format!("{prefix}/ingest/#")]);
    command
        .args(["-C", &messages.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process::spawn(command)
}
