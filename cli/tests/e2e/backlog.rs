//! More messages than fit anywhere in between, for a consumer that is away.

use std::process::{Command, Stdio};

use mysimbdp_testbed::{Daemon, Mosquitto, Process, mongodb, program, until};
use serde_json::json;

use crate::support::{LOADED, Platform, SOON, keyed_stream, messages, stream};

/// The instance has made its session, and is gone again.
async fn until_offline(platform: &Platform) {
    let mut stream_manager = platform.start("stream-manager");
    platform.instances("client3", 1).await;
    until(SOON, "the session is there", || {
        platform.root.log("clients/client3/stream.log").contains("connected to the broker")
    });
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
}

/// mosquitto keeps them all, as it is configured for this platform.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_hundred_thousand_messages_wait_for_a_consumer_that_is_offline() {
    const BACKLOG: u64 = 100_000;
    // It would write all of them to disk every second.
    let broker = Mosquitto::with("autosave_interval 1800");
    let platform = Platform::new(mongodb().url(), &broker.url(), json!([keyed_stream("client3")])).await;
    until_offline(&platform).await;
    Mosquitto::publish(&broker.url(), &platform.ingest_topic("client3"), &messages(0, BACKLOG));
    assert_eq!(platform.count("client3", "readings").await, 0);

    let _stream_manager = platform.start("stream-manager");
    platform.stored("client3", "readings", BACKLOG, LOADED).await;
    assert_eq!(platform.count("client3", "rejected").await, 0);
}

/// The embedded broker keeps 10,000 and lets the oldest go: numbered sources send again what nobody confirms.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_the_embedded_broker_has_no_room_for_is_sent_again_by_numbered_sources() {
    const SOURCES: u64 = 3;
    const EACH: u64 = 4_000;
    let clients = json!([stream("client3", json!({}))]);
    let platform = Platform::new(mongodb().url(), "mqtt://127.0.0.1:1", clients).await;
    platform.use_embedded_broker();
    let _broker = Daemon::start(&platform.root, &["broker", "--port", "0"], &[]);
    let url = platform.embedded_broker();
    until_offline(&platform).await;

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
    // More than is kept.
    assert!(sent.wait(LOADED).success());
    assert_eq!(platform.count("client3", "readings").await, 0);

    let _stream_manager = platform.start("stream-manager");
    platform.stored("client3", "readings", SOURCES * EACH, LOADED).await;
    assert_eq!(platform.count("client3", "rejected").await, 0);
    for edge in &mut edges {
        assert!(edge.terminate().success(), "{}", edge.output());
    }
}

/// Ends when so many messages have come.
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
