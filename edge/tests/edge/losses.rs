//! What is lost on the way there and back.

use std::time::Duration;

use mysimbdp_edge::Edge;
use mysimbdp_testbed::{Mosquitto, until_async};

use crate::platform::{Platform, SOON, forgetful, payload, send, settings};

/// A broker that acknowledges, is killed and forgets: what it had acknowledged is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_forgets_everything_loses_nothing() {
    let mut broker = forgetful();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = Platform::start(&broker.url()).await;
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    send(&edge, 1, 500).await;
    platform.until("the first are stored", |state| state.stored.len() == 500).await;

    platform.state().deaf = true;
    send(&edge, 501, 1_000).await;
    platform.until("the broker has taken more", |state| state.deliveries >= 1_000).await;
    broker.kill9();
    send(&edge, 1_001, 1_200).await;
    broker.restart();
    platform.reconnected().await;
    platform.state().deaf = false;

    edge.flush(SOON).await.expect("all is received");
    edge.close().await;
    platform.assert_stored(1_200);
}

/// A producer may start before its broker does, and fill its outbox meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_late_gets_everything() {
    let mut broker = forgetful();
    broker.stop();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    send(&edge, 1, 300).await;
    assert_eq!((edge.accepted(), edge.received_through()), (300, 0));
    broker.restart();
    let platform = Platform::start(&broker.url()).await;
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(300);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_receipts_cost_repeats_and_nothing_else() {
    let broker = Mosquitto::start();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = Platform::start(&broker.url()).await;
    platform.state().mute = true;
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    send(&edge, 1, 50).await;
    platform.until("some are sent again", |state| state.stored.len() == 50 && state.deliveries > 50).await;
    assert_eq!(edge.received_through(), 0, "the broker's acknowledgement is no receipt");
    platform.state().mute = false;
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(50);
    edge.close().await;
}

/// Without waiting for any time to be over, and also when the broker is killed in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_platform_asks_for_is_sent_again_at_once() {
    let mut broker = forgetful();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = Platform::start(&broker.url()).await;
    platform.state().lose_once = (1..400).step_by(3).collect();
    let mut settings = settings(&broker.url(), outbox.path());
    settings.resend_after = Duration::from_secs(600);
    let edge = Edge::open(settings).await.expect("an edge");
    send(&edge, 1, 400).await;
    edge.flush(SOON).await.expect("all is received");

    platform.state().lose_once = (401..800).collect();
    send(&edge, 401, 800).await;
    platform.until("it misses most", |state| state.deliveries >= 850).await;
    broker.kill9();
    broker.restart();
    platform.reconnected().await;
    // What makes it look, and ask: a connection brings nothing by itself.
    send(&edge, 801, 801).await;
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(801);
    edge.close().await;
}

/// A platform that has lost its store asks for what the edge has let go of: the answer is that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_left_the_outbox_are_answered_as_gone() {
    let broker = Mosquitto::start();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = Platform::start(&broker.url()).await;
    let mut settings = settings(&broker.url(), outbox.path());
    (settings.capacity_bytes, settings.message_bytes_max) = (64 << 10, 1 << 10);
    let edge = Edge::open(settings).await.expect("an edge");
    send(&edge, 1, 300).await;
    edge.flush(SOON).await.expect("all is received");
    // The files are removed after the receipt has been taken in.
    until_async(SOON, "the outbox is empty but for its last file", async || {
        edge.status().outbox_bytes < 5_000
    })
    .await;

    platform.state().stored.clear();
    send(&edge, 301, 301).await;
    platform
        .until("all is stored or gone", |state| {
            (1..=301).all(|number| state.stored.contains_key(&number) || state.gone.contains(number))
        })
        .await;
    let (there, gone) = {
        let state = platform.state();
        (state.numbers(), state.gone.iter().collect::<Vec<_>>())
    };
    assert!(there.len() > 1 && there.len() < 150, "what it still had it has sent: {there:?}");
    assert_eq!(gone, [(1, 301 - there.len() as u64)]);
    edge.close().await;
}

/// Somebody publishes receipts, of this source or another epoch, that are none.
#[tokio::test(flavor = "multi_thread")]
async fn forged_receipts_let_nothing_go() {
    let broker = Mosquitto::start();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let platform = Platform::start(&broker.url()).await;
    platform.state().deaf = true;
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    let receipt = |epoch: u64, through: u64| {
        format!(
            "{{\"version\":1,\"client_id\":\"client1\",\"source\":\"sensor-1\",\"epoch\":\"{epoch}\",\"stored_through\":{through}}}\n"
        )
    };
    let forged = [
        receipt(edge.epoch().wrapping_add(1), 10),
        receipt(edge.epoch(), 10),
        receipt(edge.epoch(), u64::MAX),
        "{}\nno json\n".to_owned(),
    ];
    Mosquitto::publish(&broker.url(), "mysimbdp/receipts/client1/sensor-1", &forged.concat());
    send(&edge, 1, 10).await;
    platform.until("all are sent", |state| state.deliveries >= 10).await;
    assert_eq!(edge.received_through(), 0, "{}", payload(1));
    platform.state().deaf = false;
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(10);
    edge.close().await;
}
