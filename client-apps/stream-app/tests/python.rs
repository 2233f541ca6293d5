//! Tests that the stream app in Python gives the same guarantees, on a real broker and a real store.

mod support;

use std::path::Path;

use mysimbdp_model::message::Report;
use mysimbdp_testbed as testbed;
use support::{DEADLINE, Stream, connect, next_message, shared_broker, shared_store};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python/stream_app.py");

async fn stream() -> Stream {
    stream_on(&shared_broker()).await
}

async fn stream_on(broker: &str) -> Stream {
    Stream::new(&[&testbed::python(), Path::new(PROGRAM)], broker, &shared_store()).await
}

/// Starts the app and waits for its first report: it publishes nothing before that.
async fn start(stream: &Stream) -> testbed::Process {
    let (_link, mut reports) = connect(&stream.broker, vec![format!("{}/reports", stream.client)]).await;
    let process = stream.spawn();
    let (_, payload, _) = next_message(&mut reports).await;
    Report::parse(&payload).expect("a report of the contract");
    process
}

fn message(number: u64) -> String {
    format!("{{\"n\":{number}}}")
}

#[tokio::test]
async fn it_stores_and_rejects_messages_and_keeps_its_session_when_stopped() {
    let stream = stream().await;
    let mut app = start(&stream).await;
    for number in 0..300 {
        stream.publish(message(number)).await;
    }
    stream.publish("not json").await;
    stream.publish("[1]").await;
    // An integer of more than 64 bits: valid in JSON, but not in BSON.
    stream.publish("{\"n\":18446744073709551617}").await;
    stream.until_count("messages", 300).await;
    stream.until_count("rejected", 3).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0), "{}", stream.log());
    for number in 300..400 {
        stream.publish(message(number)).await;
    }
    let mut app = start(&stream).await;
    stream.until_count("messages", 400).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0), "{}", stream.log());
}

#[tokio::test]
async fn a_message_with_its_own_id_is_rejected() {
    let stream = stream().await;
    let mut app = start(&stream).await;
    for payload in [r#"{"_id":5,"v":1}"#, r#"{"_id":5,"v":2}"#, r#"{"v":3}"#] {
        stream.publish(payload).await;
    }
    stream.until_count("rejected", 2).await;
    stream.until_count("messages", 1).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0), "{}", stream.log());
}

#[tokio::test]
async fn rejected_messages_are_kept_whole() {
    let broker = testbed::Mosquitto::with("max_packet_size 268435455");
    let stream = stream_on(&broker.url()).await;
    let mut app = start(&stream).await;
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(16_800_000)).into_bytes();
    let payloads = [
        b"{\"a\":1,\"a\":2}".to_vec(),
        b"{\"a\":1.00000000000000000001}".to_vec(),
        b"\xff\0{".to_vec(),
        large,
    ];
    for payload in &payloads {
        stream.publish(payload.clone()).await;
    }
    stream.until_count("rejected", payloads.len() as u64).await;
    let mut kept = Vec::new();
    for reject in stream.documents("rejected").await {
        kept.push(stream.kept(&reject).await);
    }
    for payload in payloads {
        assert!(kept.contains(&payload), "{} bytes are not kept as they were", payload.len());
    }
    assert_eq!(stream.count("messages").await, 0);
    assert_eq!(app.terminate(DEADLINE).code(), Some(0), "{}", stream.log());
}

#[tokio::test]
async fn it_drains_and_ends_its_session() {
    let stream = stream().await;
    let mut app = start(&stream).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0), "{}", stream.log());
    for number in 0..500 {
        stream.publish(message(number)).await;
    }
    let mut app = start(&stream).await;
    app.signal(rustix::process::Signal::USR1);
    assert_eq!(app.wait(DEADLINE).code(), Some(0), "{}", stream.log());
    assert_eq!(stream.count("messages").await, 500);
    stream.publish(message(9_999)).await;
    let mut app = start(&stream).await;
    stream.publish(message(10_000)).await;
    stream.until_count("messages", 501).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0), "{}", stream.log());
}
