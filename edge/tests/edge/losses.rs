//! Messages and receipts that are lost.

use std::time::Duration;

use mysimbdp_edge::Edge;
use mysimbdp_testbed::{Mosquitto, until_async};

use crate::platform::{FakePlatform, SOON, broker_without_persistence, payload, send, settings};

/// A broker acknowledges messages, is killed and loses them: they are sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_loses_its_state_loses_no_message() {
    let mut broker = broker_without_persistence();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = FakePlatform::start(&broker.url()).await;
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    send(&edge, 1, 500).await;
    platform.until("the first are stored", |state| state.stored.len() == 500).await;

    platform.state().ignores_messages = true;
    send(&edge, 501, 1_000).await;
    platform.until("the broker has delivered more", |state| state.deliveries >= 1_000).await;
    broker.kill9();
    send(&edge, 1_001, 1_200).await;
    broker.restart();
    platform.reconnected().await;
    platform.state().ignores_messages = false;

    edge.flush(SOON).await.expect("all is received");
    edge.close().await;
    platform.assert_stored(1_200);
}

/// A producer may start before its broker, and fill its outbox meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_starts_late_receives_everything() {
    let mut broker = broker_without_persistence();
    broker.stop();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    send(&edge, 1, 300).await;
    assert_eq!((edge.accepted(), edge.received_through()), (300, 0));
    broker.restart();
    let platform = FakePlatform::start(&broker.url()).await;
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(300);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_receipts_cause_only_repeats() {
    let broker = Mosquitto::start();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = FakePlatform::start(&broker.url()).await;
    platform.state().withholds_receipts = true;
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    send(&edge, 1, 50).await;
    platform.until("some are sent again", |state| state.stored.len() == 50 && state.deliveries > 50).await;
    assert_eq!(edge.received_through(), 0, "an acknowledgement of the broker is not a receipt");
    platform.state().withholds_receipts = false;
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(50);
    edge.close().await;
}

/// It does not wait for any timeout, and also works if the broker is killed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn requested_numbers_are_sent_again_at_once() {
    let mut broker = broker_without_persistence();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = FakePlatform::start(&broker.url()).await;
    platform.state().lose_once = (1..400).step_by(3).collect();
    let mut settings = settings(&broker.url(), outbox.path());
    settings.resend_after = Duration::from_secs(600);
    let edge = Edge::open(settings).await.expect("an edge");
    send(&edge, 1, 400).await;
    edge.flush(SOON).await.expect("all is received");

    platform.state().lose_once = (401..800).collect();
    send(&edge, 401, 800).await;
    platform.until("most are missing", |state| state.deliveries >= 850).await;
    broker.kill9();
    broker.restart();
    platform.reconnected().await;
    // This message makes the platform find the gaps and ask for them: a new connection alone does not.
    send(&edge, 801, 801).await;
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(801);
    edge.close().await;
}

/// A platform that has lost its store asks for numbers that have left the outbox: the edge answers that they are lost.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_have_left_the_outbox_are_reported_as_lost() {
    let broker = Mosquitto::start();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = FakePlatform::start(&broker.url()).await;
    let mut settings = settings(&broker.url(), outbox.path());
    (settings.capacity_bytes, settings.message_bytes_max) = (64 << 10, 1 << 10);
    let edge = Edge::open(settings).await.expect("an edge");
    send(&edge, 1, 300).await;
    edge.flush(SOON).await.expect("all is received");
    // The files are removed after the receipt has been applied.
    until_async(SOON, "the outbox is empty except for its last file", async || {
        edge.status().outbox_bytes < 5_000
    })
    .await;

    platform.state().stored.clear();
    send(&edge, 301, 301).await;
    platform
        .until("all is stored or lost", |state| {
            (1..=301).all(|number| state.stored.contains_key(&number) || state.lost.contains(number))
        })
        .await;
    let (present, lost) = {
        let state = platform.state();
        (state.numbers(), state.lost.iter().collect::<Vec<_>>())
    };
    assert!(present.len() > 1 && present.len() < 150, "the edge has sent what it still had: {present:?}");
    assert_eq!(lost, [(1, 301 - present.len() as u64)]);
    edge.close().await;
}

/// Another client publishes invalid receipts, for this epoch or another one.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_receipts_release_no_message() {
    let broker = Mosquitto::start();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = FakePlatform::start(&broker.url()).await;
    platform.state().ignores_messages = true;
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    let receipt = |epoch: u64, through: u64| {
        format!(
            "{{\"version\":1,\"client_id\":\"client1\",\"source\":\"sensor-1\",\"epoch\":\"{epoch}\",\"stored_through\":{through}}}\n"
        )
    };
    let invalid = [
        receipt(edge.epoch().wrapping_add(1), 10),
        receipt(edge.epoch(), 10),
        receipt(edge.epoch(), u64::MAX),
        "{}\nno json\n".to_owned(),
    ];
    Mosquitto::publish(&broker.url(), "mysimbdp/receipts/client1/sensor-1", &invalid.concat());
    send(&edge, 1, 10).await;
    platform.until("all are sent", |state| state.deliveries >= 10).await;
    assert_eq!(edge.received_through(), 0, "{}", payload(1));
    platform.state().ignores_messages = false;
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(10);
    edge.close().await;
}
