//! Tests the stream app on a network that fails: messages and replies that arrive twice or not at all, and connections that
//! die silently.

mod support;

use std::path::Path;

use mysimbdp_model::message::Report;
use mysimbdp_testbed::{Proxy, ProxyFault, until_async};
use support::{DEADLINE, Stream, connect, next_message, shared_broker, shared_store};

const PROGRAM: &str = env!("CARGO_BIN_EXE_stream-app");

/// Short timeouts, to keep the tests short: with the defaults a connection may take half a minute to recover.
const STORE_OPTIONS: &str = "&socketTimeoutMS=2000&connectTimeoutMS=1000&heartbeatFrequencyMS=500";

async fn stream() -> Stream {
    Stream::new(&[Path::new(PROGRAM)], &shared_broker(), &shared_store()).await
}

/// Makes the app connect to the broker through a proxy; the test connects directly.
fn before_broker(stream: &mut Stream) -> Proxy {
    let proxy = Proxy::before_broker(&shared_broker());
    stream.set("BROKER", &proxy.mqtt_url());
    proxy
}

fn before_store(stream: &mut Stream) -> Proxy {
    let proxy = Proxy::before_mongodb(&shared_store());
    stream.set("COREDMS", &(proxy.mongodb_url() + STORE_OPTIONS));
    proxy
}

fn message(number: u64) -> String {
    format!("{{\"n\":{number},\"temp\":39.02}}")
}

async fn publish_numbered(stream: &Stream, numbers: std::ops::Range<u64>) {
    for number in numbers {
        stream.publish_numbered("s", number, message(number)).await;
    }
}

#[tokio::test]
async fn a_message_that_arrives_twice_is_one_document_if_it_has_a_number_or_a_key() {
    for (marked, ids, documents) in [
        (false, "platform", 50),
        (true, "platform", 50),
        (false, "key", 50),
        (true, "key", 50),
        (true, "none", 100),
    ] {
        let mut stream = stream().await;
        stream.set("IDS", ids);
        stream.set("RECORD_KEY", "n");
        let network = before_broker(&mut stream);
        network.inject(ProxyFault::MessagesTwice { marked });
        let mut app = stream.start().await;
        publish_numbered(&stream, 1..51).await;
        // For each message the proxy adds one message and removes one acknowledgement.
        until_async(DEADLINE, "both of each are acknowledged", async || network.faults() == 100).await;
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
        let counts = (stream.count("messages").await, stream.count("rejected").await);
        assert_eq!(counts, (documents, 0), "ids {ids}, marked as repeated: {marked}");
    }
}

#[tokio::test]
async fn a_message_delivered_again_because_its_acknowledgement_was_lost_is_one_document() {
    let mut stream = stream().await;
    let network = before_broker(&mut stream);
    network.inject(ProxyFault::AcknowledgementsLost);
    let mut app = stream.start().await;
    publish_numbered(&stream, 1..101).await;
    until_async(DEADLINE, "all acknowledgements are lost", async || network.faults() == 100).await;
    assert_eq!(stream.count("messages").await, 100);
    network.inject(ProxyFault::None);
    network.cut();
    // This message arrives after everything that the broker delivers again.
    publish_numbered(&stream, 101..102).await;
    stream.until_count("messages", 101).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    assert_eq!(
        (stream.count("messages").await, stream.count("rejected").await),
        (101, 0),
        "{}",
        stream.log()
    );
}

#[tokio::test]
async fn a_broker_that_is_silent_on_an_open_connection_is_detected_and_nothing_is_lost() {
    let mut stream = stream().await;
    stream.set("KEEP_ALIVE_SECONDS", "5");
    let network = before_broker(&mut stream);
    let mut app = stream.start().await;
    publish_numbered(&stream, 1..21).await;
    stream.until_count("messages", 20).await;
    network.fall_silent();
    publish_numbered(&stream, 21..41).await;
    // The dead connection stays dead: only a new connection works.
    network.heal();
    until_async(DEADLINE, "all is stored", async || stream.count("messages").await == 40).await;
    let log = stream.log();
    assert_eq!(log.matches("no connection to the broker").count(), 1, "one outage, one line: {log}");
    assert!(log.contains("connected to the broker again"), "{log}");
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    assert_eq!((stream.count("messages").await, stream.count("rejected").await), (40, 0));
}

#[tokio::test]
async fn a_store_that_is_silent_on_an_open_connection_is_detected_and_nothing_is_lost_or_duplicated() {
    let mut stream = stream().await;
    let network = before_store(&mut stream);
    let mut app = stream.start().await;
    publish_numbered(&stream, 1..21).await;
    stream.until_count("messages", 20).await;
    network.fall_silent();
    for number in 21..341 {
        // Messages without a number: a repeated write must not store them twice either.
        stream.publish(message(number)).await;
    }
    stream.until_log("the silence is detected", |log| log.contains("store is unavailable")).await;
    network.heal();
    until_async(DEADLINE, "all is stored", async || stream.count("messages").await >= 340).await;
    stream.until_log("the end of the outage is logged", |log| log.contains("store is available again")).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    assert_eq!((stream.count("messages").await, stream.count("rejected").await), (340, 0));
}

/// The driver recovers from one lost reply, the app from two: it writes the same documents again.
#[tokio::test]
async fn a_lost_reply_of_the_store_causes_no_second_document_and_no_reject() {
    for times in [1, 2, 3] {
        let mut stream = stream().await;
        let network = before_store(&mut stream);
        let mut app = stream.start().await;
        let (_link, mut reports) = connect(&stream.broker, vec![format!("{}/reports", stream.client)]).await;
        network.inject(ProxyFault::RepliesToInsertLost { times });
        publish_numbered(&stream, 1..51).await;
        for number in 51..101 {
            stream.publish(message(number)).await;
        }
        let mut reported = 0;
        while reported < 100 {
            let report = Report::parse(&next_message(&mut reports).await.1).expect("a report");
            reported += report.total_number_of_messages_ingested;
            assert_eq!(report.rejected, 0);
        }
        assert_eq!(network.faults(), times, "so many replies were lost");
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
        assert_eq!(reported, 100);
        assert_eq!(
            (stream.count("messages").await, stream.count("rejected").await),
            (100, 0),
            "{}",
            stream.log()
        );
    }
}

/// Every other number: what one of two instances of a shared subscription receives of a repeated window.
#[tokio::test]
async fn scattered_repeats_are_looked_up_together() {
    const REPEATS: u64 = 1_000;
    let mut stream = stream().await;
    let network = before_store(&mut stream);
    let mut app = stream.start().await;
    publish_numbered(&stream, 1..2 * REPEATS).await;
    stream.until_count("messages", 2 * REPEATS - 1).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    for number in (1..2 * REPEATS).step_by(2) {
        let text = if number == 999 { "{\"n\":\"other\"}".to_owned() } else { message(number) };
        stream.publish_numbered("s", number, text).await;
    }
    let before = network.finds();
    let mut app = stream.start().await;
    stream.until_count("rejected", 1).await;
    publish_numbered(&stream, 2 * REPEATS..2 * REPEATS + 1).await;
    stream.until_count("messages", 2 * REPEATS).await;
    let finds = network.finds() - before;
    assert!(finds < REPEATS / 4, "{finds} commands for {REPEATS} repeats");
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    let rejected = stream.documents("rejected").await;
    assert!(rejected[0].get_str("reason").is_ok_and(|reason| reason.contains("with other content")));
}

/// If the store hangs for longer than several keep-alives, neither the connection nor the messages waiting on it are lost.
#[tokio::test]
async fn a_store_that_hangs_longer_than_the_keep_alive_costs_no_connection() {
    let mut stream = stream().await;
    stream.set("KEEP_ALIVE_SECONDS", "5");
    let (network, broker) = (before_store(&mut stream), before_broker(&mut stream));
    let mut app = stream.start().await;
    publish_numbered(&stream, 1..21).await;
    stream.until_count("messages", 20).await;
    network.fall_silent();
    let pings = broker.pings();
    // More than may wait in memory: the messages beyond that are not read until the store is available again.
    let text = "x".repeat(1 << 20);
    for number in 21..121 {
        stream.publish_numbered("s", number, format!("{{\"n\":{number},\"text\":\"{text}\"}}")).await;
    }
    until_async(DEADLINE, "pings go out", async || broker.pings() >= pings + 4).await;
    network.heal();
    stream.until_count("messages", 120).await;
    let log = stream.log();
    assert!(!log.contains("no connection to the broker"), "{log}");
    let (_link, mut reports) = connect(&stream.broker, vec![format!("{}/reports", stream.client)]).await;
    let report = Report::parse(&next_message(&mut reports).await.1).expect("a report");
    assert_eq!(report.rejected, 0);
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

/// A bug: reports that could not be delivered were lost together with what they counted.
#[tokio::test]
async fn messages_stored_while_no_report_could_be_sent_are_in_a_later_report() {
    let mut stream = stream().await;
    stream.set("KEEP_ALIVE_SECONDS", "5");
    let network = before_broker(&mut stream);
    let mut app = stream.start().await;
    let (_link, mut reports) = connect(&stream.broker, vec![format!("{}/reports", stream.client)]).await;
    for number in 0..50 {
        stream.publish(message(number)).await;
    }
    stream.until_count("messages", 50).await;
    // The app detects it only after twice its keep-alive, and publishes reports meanwhile.
    network.fall_silent();
    stream.until_log("the connection is given up", |log| log.contains("no connection to the broker")).await;
    network.heal();
    let mut reported = 0;
    while reported < 50 {
        let (_, payload, _) = next_message(&mut reports).await;
        reported += Report::parse(&payload).expect("a report").total_number_of_messages_ingested;
    }
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}
