//! The outbox between the producer and the broker.

use std::pin::pin;

use bytes::Bytes;
use mysimbdp_edge::{Edge, EdgeError, Position, SourceMessage};
use mysimbdp_testbed::{free_port, until, until_async};

use crate::platform::{FakePlatform, SOON, broker_without_persistence, payload, send, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_makes_the_producer_wait_and_drops_nothing() {
    let mut broker = broker_without_persistence();
    broker.stop();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let mut settings = settings(&broker.url(), outbox.path());
    (settings.capacity_bytes, settings.message_bytes_max) = (16 << 10, 1 << 10);
    let edge = Edge::open(settings).await.expect("an edge");
    let producer = send(&edge, 1, 2_000);
    let broker_starts = async {
        until_async(SOON, "the outbox is full", async || edge.status().full).await;
        let on_disk: u64 = std::fs::read_dir(outbox.path())
            .expect("outbox directory")
            .map(|file| file.expect("a file").metadata().expect("a file").len())
            .sum();
        assert!(on_disk <= 17 << 10, "{on_disk} bytes");
        assert!(edge.accepted() < 300, "{}", edge.accepted());
        broker.restart();
        FakePlatform::start(&broker.url()).await
    };
    let ((), platform) = tokio::join!(producer, broker_starts);
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(2_000);
    edge.close().await;
}

/// A message that is accepted before the publisher's task has run for the first time is published without waiting for another
/// message.
#[tokio::test]
async fn a_message_that_is_accepted_during_the_start_is_published() {
    let broker = broker_without_persistence();
    let platform = FakePlatform::start(&broker.url()).await;
    let outbox = tempfile::tempdir().expect("temporary directory");
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    {
        let mut accepted = pin!(edge.send(payload(1)));
        assert!(futures::poll!(accepted.as_mut()).is_pending());
        // No task runs meanwhile, because the runtime has only this thread.
        until(SOON, "it is on disk", || edge.accepted() == 1);
        assert_eq!(accepted.await.expect("accepted"), 1);
    }
    edge.flush(SOON).await.expect("it is received");
    platform.assert_stored(1);
    edge.close().await;
}

/// Messages that were accepted before the end are published after the next start, under the same numbers, and the producer
/// continues from its position.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_continues_numbers_position_and_epoch() {
    let mut broker = broker_without_persistence();
    broker.stop();
    let outbox = tempfile::tempdir().expect("temporary directory");
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    assert!(edge.position().is_empty());
    let epoch = edge.epoch();
    for number in 1..=20 {
        let position = Position::new(format!("hour {number}")).expect("short");
        let message = SourceMessage { payload: payload(number).into(), position };
        assert_eq!(edge.send_batch(vec![message]).await.expect("accepted"), number..=number);
    }
    edge.close().await;
    broker.restart();
    let platform = FakePlatform::start(&broker.url()).await;
    let edge = Edge::open(settings(&broker.url(), outbox.path())).await.expect("an edge");
    assert_eq!((edge.epoch(), edge.accepted(), edge.position().as_bytes()), (epoch, 20, &b"hour 20"[..]));
    assert_eq!(edge.send(payload(21)).await.expect("accepted"), 21);
    edge.flush(SOON).await.expect("all is received");
    platform.assert_stored(21);
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_names_what_it_refuses() {
    let outbox = tempfile::tempdir().expect("temporary directory");
    let url = format!("mqtt://127.0.0.1:{}", free_port());
    let mut valid = settings(&url, outbox.path());
    valid.message_bytes_max = 10;
    let edge = Edge::open(valid.clone()).await.expect("an edge");
    let error = edge.send(vec![b'x'; 11]).await.expect_err("too large");
    assert!(matches!(error, EdgeError::TooLarge { bytes: 11, bytes_max: 10 }), "{error}");
    let batch = vec![
        SourceMessage::from(Bytes::from_static(b"{}")),
        SourceMessage::from(Bytes::from(vec![b'x'; 11])),
    ];
    edge.send_batch(batch).await.expect_err("too large");
    assert_eq!(edge.accepted(), 0, "nothing of a batch with a message that is too large");

    let second = Edge::open(valid.clone()).await.expect_err("locked");
    assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
    let error = edge.flush(std::time::Duration::ZERO).await;
    assert!(error.is_ok(), "there is nothing to wait for: {error:?}");
    edge.send("{}").await.expect("accepted");
    let error = edge.flush(std::time::Duration::from_millis(1)).await.expect_err("no broker");
    assert!(error.to_string().starts_with("1 messages were not received"), "{error}");
    edge.close().await;

    for (change, name) in [
        (
            (|settings| settings.topic = Some("a/#".to_owned())) as fn(&mut mysimbdp_edge::EdgeSettings),
            "topic",
        ),
        (|settings| settings.capacity_bytes = 10, "capacity_bytes"),
        (|settings| settings.message_bytes_max = 0, "message_bytes_max"),
        (|settings| settings.window_messages = 0, "window_messages"),
        (|settings| settings.resend_after = std::time::Duration::ZERO, "resend_after"),
        (|settings| settings.broker = mysimbdp_edge::BrokerAddress::Url("http://h".to_owned()), "http://h"),
    ] {
        let mut settings = valid.clone();
        change(&mut settings);
        let error = Edge::open(settings).await.expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
}
