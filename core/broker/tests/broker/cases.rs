//! The cases. Each gets a broker of its own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mysimbdp_broker::consumer::{self, Consumer, Deliveries, Delivery};
use mysimbdp_broker::{
    BrokerError, BrokerLink, ConnectOptions, FollowingLink, Incoming, LinkEvent, Publish, Will,
};
use mysimbdp_testbed::{Mosquitto, Proxy, SOON};
use tokio::sync::mpsc::Receiver;

use crate::server::{self, Server};

pub(crate) async fn a_message_is_acknowledged_and_arrives(server: &mut impl Server) {
    let (_receiver, mut events) = link(server, "receiver", &["a/+"]).await;
    let (sender, _) = link(server, "sender", &[]).await;
    sender.publish_to("nobody/listens", "x").await.expect("acknowledged all the same");
    let properties = vec![("source".to_owned(), "s1".to_owned())];
    let message = Publish { user_properties: properties.clone(), ..Publish::new("a/b", "hello") };
    sender.publish(message).await.expect("acknowledged");
    let message = next_message(&mut events).await;
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("a/b", &b"hello"[..]));
    assert!(message.user_properties.contains(&properties[0]), "{:?}", message.user_properties);
}

pub(crate) async fn a_message_larger_than_the_librarys_default_arrives(server: &mut impl Server) {
    let (_receiver, mut events) = link(server, "receiver", &["a/b"]).await;
    let (sender, _) = link(server, "sender", &[]).await;
    let payload: Vec<u8> = (0..15_000_000u32).map(|byte| byte as u8).collect();
    sender.publish_to("a/b", payload.clone()).await.expect("acknowledged");
    assert!(next_message(&mut events).await.payload == payload);
}

pub(crate) async fn a_message_that_the_broker_would_refuse_is_not_sent(server: &mut impl Server) {
    let (sender, _) = link(server, "sender", &[]).await;
    match sender.publish_to("a/b", vec![0; 17 * 1024 * 1024]).await {
        Err(BrokerError::TooLarge { bytes_max, .. }) => assert_eq!(bytes_max, 16 * 1024 * 1024),
        other => panic!("expected it to be too large, got {other:?}"),
    }
    match sender.publish_to("a/#", "x").await {
        Err(BrokerError::Topic(topic)) => assert_eq!(topic, "a/#"),
        other => panic!("expected the topic to be refused, got {other:?}"),
    }
    sender.publish_to("a/b", "x").await.expect("still connected");
}

pub(crate) async fn a_request_gets_its_response(server: &mut impl Server) {
    let (service, mut requests) = link(server, "service", &["control"]).await;
    let (caller, mut answers) = link(server, "caller", &[]).await;
    caller.subscribe("answers/caller").await.expect("acknowledged");
    let request = Publish {
        response_topic: Some("answers/caller".to_owned()),
        correlation: Some("42".into()),
        expires: Some(SOON),
        ..Publish::new("control", "list")
    };
    caller.publish(request).await.expect("acknowledged");
    let request = next_message(&mut requests).await;
    assert_eq!(&request.payload[..], b"list");
    let response_topic = request.response_topic.expect("names where to answer");
    let answer = Publish { correlation: request.correlation, ..Publish::new(response_topic, "none") };
    service.publish(answer).await.expect("acknowledged");
    let answer = next_message(&mut answers).await;
    assert_eq!((&answer.payload[..], answer.correlation.as_deref()), (&b"none"[..], Some(&b"42"[..])));
}

pub(crate) async fn subscriptions_change_at_run_time(server: &mut impl Server) {
    let (link, mut events) = link(server, "link", &["always"]).await;
    link.subscribe("sometimes").await.expect("acknowledged");
    link.publish_to("sometimes", "heard").await.expect("acknowledged");
    assert_eq!(&next_message(&mut events).await.payload[..], b"heard");
    link.unsubscribe("sometimes").await.expect("acknowledged");
    link.publish_to("sometimes", "not heard").await.expect("acknowledged");
    link.publish_to("always", "end").await.expect("acknowledged");
    assert_eq!(&next_message(&mut events).await.payload[..], b"end");
    match link.subscribe("a/#/b").await {
        Err(BrokerError::Filter(filter)) => assert_eq!(filter, "a/#/b"),
        other => panic!("expected the filter to be refused, got {other:?}"),
    }
}

pub(crate) async fn without_a_connection_publishing_fails_at_once(server: &mut impl Server) {
    let (link, mut events) = link(server, "link", &[]).await;
    server.kill();
    until_disconnected(&mut events).await;
    let start = Instant::now();
    match link.publish_to("a/b", "x").await {
        Err(BrokerError::NotConnected { address }) => assert_eq!(address, server.url()),
        other => panic!("expected no connection, got {other:?}"),
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    link.close().await;
    match link.publish_to("a/b", "x").await {
        Err(BrokerError::Closed { .. }) => {}
        other => panic!("expected the link to be closed, got {other:?}"),
    }
    while events.recv().await.is_some() {}
}

pub(crate) async fn a_link_reconnects_and_subscribes_again(server: &mut impl Server) {
    let (link, mut events) = link(server, "link", &["a/b"]).await;
    link.subscribe("c/d").await.expect("acknowledged");
    for round in 0..2 {
        server.kill();
        until_disconnected(&mut events).await;
        server.restart();
        link.wait_connected(SOON).await.expect("connected again");
        for topic in ["a/b", "c/d"] {
            link.publish_to(topic, format!("{round}")).await.expect("acknowledged");
            let message = next_message(&mut events).await;
            assert_eq!(
                (message.topic.as_str(), &message.payload[..]),
                (topic, format!("{round}").as_bytes())
            );
        }
    }
}

pub(crate) async fn a_slow_receiver_loses_messages_but_not_the_connection(server: &mut impl Server) {
    let (slow, mut events) = link(server, "slow", &["flood", "end"]).await;
    let (sender, _) = link(server, "sender", &[]).await;
    for number in 0..1_500 {
        sender.publish_to("flood", format!("{number}")).await.expect("acknowledged");
    }
    // The acknowledgement of this message arrives only after everything that the broker sent before.
    slow.publish_to("end", "1").await.expect("still connected");
    let mut received = 0;
    while let Ok(event) = events.try_recv() {
        received += u32::from(matches!(event, LinkEvent::Message(_)));
    }
    assert!((1_000..1_500).contains(&received), "{received}");
    slow.publish_to("end", "2").await.expect("still connected");
    while next_message(&mut events).await.payload != "2" {}
}

pub(crate) async fn a_will_is_published_for_a_lost_connection_and_not_for_a_closed_one(
    server: &mut impl Server,
) {
    let (_watcher, mut events) = link(server, "watcher", &["status/+"]).await;
    let proxy = Proxy::before_broker(&server.url());
    let with_will = |client_id: &str| ConnectOptions {
        will: Some(Will { topic: format!("status/{client_id}"), payload: b"gone".to_vec(), retain: true }),
        ..ConnectOptions::new(proxy.mqtt_url(), client_id)
    };
    let (closed, _) = BrokerLink::connect(with_will("closed"), Vec::new()).expect("a good address");
    closed.wait_connected(SOON).await.expect("connected");
    closed.close().await;
    let (lost, _) = BrokerLink::connect(with_will("lost"), Vec::new()).expect("a good address");
    lost.wait_connected(SOON).await.expect("connected");
    proxy.cut();
    assert_eq!(next_message(&mut events).await.topic, "status/lost");
    let (_late, mut events) = link(server, "late", &["status/+"]).await;
    let retained = next_message(&mut events).await;
    assert!(retained.retained && retained.topic == "status/lost", "{retained:?}");
}

pub(crate) async fn a_dead_connection_is_noticed(server: &mut impl Server) {
    let proxy = Proxy::before_broker(&server.url());
    let options = ConnectOptions {
        keep_alive: Duration::from_secs(5),
        ..ConnectOptions::new(proxy.mqtt_url(), "link")
    };
    let (link, mut events) = BrokerLink::connect(options, vec!["a/b".to_owned()]).expect("a good address");
    link.wait_connected(SOON).await.expect("connected");
    proxy.fall_silent();
    until_disconnected(&mut events).await;
    proxy.heal();
    link.wait_connected(SOON).await.expect("connected again");
    link.publish_to("a/b", "x").await.expect("acknowledged");
    assert_eq!(&next_message(&mut events).await.payload[..], b"x");
}

pub(crate) async fn unacknowledged_messages_are_delivered_again_and_stale_acknowledgements_have_no_effect(
    server: &mut impl Server,
) {
    let proxy = Proxy::before_broker(&server.url());
    let (consumer, mut deliveries) = consume(&proxy.mqtt_url(), "slot-1", &["data"], 100).await;
    let (sender, _) = link(server, "sender", &[]).await;
    send(&sender, "data", 0..10).await;
    let mut first = receive(&mut deliveries, 10).await;
    let stored = first.split_off(5);
    let acknowledged = consumer.acknowledge(first.into_iter().map(|delivery| delivery.ack));
    assert_eq!(acknowledged, 5);
    // Once the broker has answered this, it has processed the acknowledgements before it.
    consumer.publish(Publish::new("other", "x")).await.expect("acknowledged");
    proxy.cut();
    let again = receive(&mut deliveries, 5).await;
    assert_eq!(numbers(&again), (5..10).collect::<Vec<_>>());
    assert!(again.iter().all(|delivery| delivery.duplicate), "{again:?}");
    assert_eq!(
        consumer.acknowledge(stored.into_iter().map(|delivery| delivery.ack)),
        0,
        "from before the cut"
    );
    assert_eq!(consumer.stats().unacknowledged, 5);
    assert_eq!(consumer.acknowledge(again.into_iter().map(|delivery| delivery.ack)), 5);
    assert_eq!(consumer.stats().unacknowledged, 0);
    consumer.disconnect(false).await.expect("disconnected");
    only_a_new_message_arrives(&server.url(), &sender).await;
}

pub(crate) async fn acknowledgements_are_sent_before_disconnecting(server: &mut impl Server) {
    let (consumer, mut deliveries) = consume(&server.url(), "slot-1", &["data"], 500).await;
    let (sender, _) = link(server, "sender", &[]).await;
    send(&sender, "data", 0..500).await;
    let batch = receive(&mut deliveries, 500).await;
    assert_eq!(consumer.acknowledge(batch.into_iter().map(|delivery| delivery.ack)), 500);
    consumer.disconnect(false).await.expect("disconnected");
    assert!(matches!(consumer.ended(), Some(BrokerError::Closed { .. })), "{:?}", consumer.ended());
    assert!(deliveries.recv().await.is_none());
    only_a_new_message_arrives(&server.url(), &sender).await;
}

pub(crate) async fn a_session_queues_messages_while_its_owner_is_offline(server: &mut impl Server) {
    let (consumer, _deliveries) = consume(&server.url(), "slot-1", &["$share/client1/data"], 100).await;
    consumer.disconnect(false).await.expect("disconnected");
    let (sender, _) = link(server, "sender", &[]).await;
    send(&sender, "data", 0..300).await;
    let (consumer, mut deliveries) = consume(&server.url(), "slot-1", &["$share/client1/data"], 100).await;
    assert_eq!(drain(&consumer, &mut deliveries, 300).await, (0..300).collect::<Vec<_>>());
    consumer.disconnect(false).await.expect("disconnected");
}

pub(crate) async fn a_session_can_be_created_and_ended_without_receiving_its_messages(
    server: &mut impl Server,
) {
    let options = with_session(&server.url(), "slot-0", 100);
    let filters = vec!["$share/client1/data".to_owned()];
    let (sender, _) = link(server, "sender", &[]).await;
    for numbers in [0..5, 5..10] {
        consumer::create_session(options.clone(), filters.clone(), SOON).await.expect("made");
        send(&sender, "data", numbers).await;
    }
    let (consumer, mut deliveries) = consume(&server.url(), "slot-0", &["$share/client1/data"], 100).await;
    assert_eq!(drain(&consumer, &mut deliveries, 10).await, (0..10).collect::<Vec<_>>());
    consumer.disconnect(false).await.expect("disconnected");
    send(&sender, "data", 10..15).await;
    consumer::end_session(&options).await.expect("ended");
    let (_consumer, mut deliveries) = consume(&server.url(), "slot-0", &["$share/client1/data"], 100).await;
    send(&sender, "data", 15..16).await;
    assert_eq!(numbers(&receive(&mut deliveries, 1).await), [15]);
}

pub(crate) async fn members_of_a_shared_subscription_share_messages_and_lose_none(server: &mut impl Server) {
    let filter = ["$share/client1/data/#"];
    let (first, mut first_deliveries) = consume(&server.url(), "slot-0", &filter, 100).await;
    let (second, mut second_deliveries) = consume(&server.url(), "slot-1", &filter, 100).await;
    let (sender, _) = link(server, "sender", &[]).await;
    send(&sender, "data/x", 0..200).await;
    let mut shares = [BTreeSet::new(), BTreeSet::new()];
    while shares[0].len() + shares[1].len() < 200 {
        let (member, consumer, delivery) = tokio::select! {
            delivery = next(&mut first_deliveries) => (0, &first, delivery),
            delivery = next(&mut second_deliveries) => (1, &second, delivery),
        };
        assert!(shares[member].insert(number(&delivery)), "{delivery:?} came twice");
        assert_eq!(consumer.acknowledge([delivery.ack]), 1);
    }
    assert!(shares.iter().all(|share| !share.is_empty()), "{shares:?}");
    assert!(shares[0].is_disjoint(&shares[1]));
    first.disconnect(true).await.expect("session ended");
    second.disconnect(true).await.expect("session ended");
}

pub(crate) async fn the_window_limits_the_messages_in_flight(server: &mut impl Server) {
    let (consumer, mut deliveries) = consume(&server.url(), "slot-0", &["data"], 10).await;
    let (sender, _) = link(server, "sender", &[]).await;
    send(&sender, "data", 0..100).await;
    // Once the broker has answered this, it has also sent everything that it will.
    until("the window is full", || consumer.stats().waiting == 10).await;
    consumer.publish(Publish::new("other", "x")).await.expect("acknowledged");
    assert_eq!((consumer.stats().waiting, consumer.stats().unacknowledged), (10, 10));
    assert_eq!(drain(&consumer, &mut deliveries, 100).await, (0..100).collect::<Vec<_>>());
    assert_eq!(consumer.stats().unacknowledged, 0);
}

/// Like an app whose store hangs: nothing is taken while more than three keep-alives pass.
pub(crate) async fn an_app_that_takes_nothing_keeps_its_connection(server: &mut impl Server) {
    let proxy = Proxy::before_broker(&server.url());
    let options = ConnectOptions {
        keep_alive: Duration::from_secs(5),
        ..with_session(&proxy.mqtt_url(), "slot-0", 10)
    };
    let (consumer, mut deliveries) = Consumer::connect(options, vec!["data".to_owned()]).expect("an address");
    consumer.wait_connected(SOON).await.expect("connected");
    let (sender, _) = link(server, "sender", &[]).await;
    // More QoS 0 messages than may wait, and a window of QoS 1 behind them.
    Mosquitto::publish_at_most_once(&server.url(), "data", &"flood\n".repeat(2_000));
    send(&sender, "data", 0..30).await;
    let before = consumer.stats();
    until("four pings have been sent", || proxy.pings() >= 4).await;
    Mosquitto::publish_at_most_once(&server.url(), "data", &"flood\n".repeat(2_000));

    let mut received = Vec::new();
    while received.len() < 30 {
        let delivery = next(&mut deliveries).await;
        if delivery.qos == 0 {
            continue;
        }
        assert!(!delivery.duplicate, "{delivery:?}");
        received.push(number(&delivery));
        assert_eq!(consumer.acknowledge([delivery.ack]), 1);
    }
    assert_eq!(received, (0..30).collect::<Vec<_>>());
    let after = consumer.stats();
    assert_eq!((after.connected, after.generation), (true, before.generation));
}

/// The messages reach the limit by their size, so reading has to stop: mosquitto waits with the others.
pub(crate) async fn an_app_that_may_read_no_more_keeps_its_connection(server: &mut impl Server) {
    const MESSAGES: u64 = 20;
    let proxy = Proxy::before_broker(&server.url());
    let options = ConnectOptions {
        keep_alive: Duration::from_secs(5),
        ..with_session(&proxy.mqtt_url(), "slot-0", 100)
    };
    let (consumer, mut deliveries) = Consumer::connect(options, vec!["data".to_owned()]).expect("an address");
    consumer.wait_connected(SOON).await.expect("connected");
    let (sender, _) = link(server, "sender", &[]).await;
    for number in 0..MESSAGES {
        let mut payload = number.to_string().into_bytes();
        payload.resize(8 << 20, b' ');
        sender.publish_to("data", payload).await.expect("acknowledged");
    }
    let before = consumer.stats();
    until("four pings have been sent", || proxy.pings() >= 4).await;
    assert!(consumer.stats().waiting < 12, "64 MiB and the one that goes beyond");
    for expected in 0..MESSAGES {
        let delivery = next(&mut deliveries).await;
        let text = std::str::from_utf8(&delivery.payload).expect("a number");
        assert_eq!((text.trim_end().parse(), delivery.duplicate), (Ok(expected), false));
        assert_eq!(consumer.acknowledge([delivery.ack]), 1);
    }
    let after = consumer.stats();
    assert_eq!((after.connected, after.generation), (true, before.generation));
}

pub(crate) async fn a_member_drains_and_ends_its_session(server: &mut impl Server) {
    let filter = ["$share/client1/data"];
    let (consumer, mut deliveries) = consume(&server.url(), "slot-0", &filter, 10).await;
    let (sender, _) = link(server, "sender", &[]).await;
    // So many that mosquitto, which loses count of the window, sends far beyond it.
    send(&sender, "data", 0..1_000).await;
    until("the window is full", || consumer.stats().waiting == 10).await;
    consumer.unsubscribe().await.expect("acknowledged");
    send(&sender, "data", 1_000..1_001).await;
    assert_eq!(drain(&consumer, &mut deliveries, 1_000).await, (0..1_000).collect::<Vec<_>>());
    consumer.disconnect(true).await.expect("session ended");
    send(&sender, "data", 1_001..1_002).await;
    let (_consumer, mut deliveries) = consume(&server.url(), "slot-0", &filter, 10).await;
    send(&sender, "data", 1_002..1_003).await;
    assert_eq!(numbers(&receive(&mut deliveries, 1).await), [1_002]);
}

pub(crate) async fn of_two_consumers_with_one_client_id_one_gives_way(server: &mut impl Server) {
    let connect = || Consumer::connect(with_session(&server.url(), "slot-0", 10), vec!["data".to_owned()]);
    let (first, mut first_deliveries) = connect().expect("a good address");
    first.wait_connected(SOON).await.expect("connected");
    let (second, mut second_deliveries) = connect().expect("a good address");
    let ends = async |deliveries: &mut Deliveries| while deliveries.recv().await.is_some() {};
    let (ended, remaining, deliveries) = tokio::select! {
        () = ends(&mut first_deliveries) => (first, second, &mut second_deliveries),
        () = ends(&mut second_deliveries) => (second, first, &mut first_deliveries),
    };
    match ended.ended() {
        Some(BrokerError::TakenOver { client_id, .. }) => assert_eq!(client_id, "slot-0"),
        other => panic!("expected it to disconnect, got {other:?}"),
    }
    ended.disconnect(true).await.expect_err("the session belongs to the other process");
    remaining.wait_connected(SOON).await.expect("connected");
    let generation = remaining.stats().generation;
    let (sender, _) = link(server, "sender", &[]).await;
    send(&sender, "data", 0..1).await;
    assert_eq!(numbers(&receive(deliveries, 1).await), [0]);
    assert_eq!((remaining.ended().is_none(), remaining.stats().generation), (true, generation));
}

async fn link(server: &impl Server, client_id: &str, filters: &[&str]) -> (BrokerLink, Receiver<LinkEvent>) {
    let filters = filters.iter().map(|filter| filter.to_string()).collect();
    let options = ConnectOptions::new(server.url(), client_id);
    let (link, events) = BrokerLink::connect(options, filters).expect("a good address");
    link.wait_connected(SOON).await.expect("connected");
    (link, events)
}

fn with_session(url: &str, client_id: &str, receive_maximum: u16) -> ConnectOptions {
    let session_expiry = Some(Duration::from_secs(3600));
    ConnectOptions { session_expiry, receive_maximum, ..ConnectOptions::new(url, client_id) }
}

async fn consume(url: &str, client_id: &str, filters: &[&str], window: u16) -> (Consumer, Deliveries) {
    let filters = filters.iter().map(|filter| filter.to_string()).collect();
    let options = with_session(url, client_id, window);
    let (consumer, deliveries) = Consumer::connect(options, filters).expect("a good address");
    consumer.wait_connected(SOON).await.expect("connected");
    (consumer, deliveries)
}

async fn send(sender: &BrokerLink, topic: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        sender.publish_to(topic, number.to_string()).await.expect("acknowledged");
    }
}

/// A new consumer on the session of `slot-1` gets what is published now, so the session held nothing before it.
async fn only_a_new_message_arrives(url: &str, sender: &BrokerLink) {
    let (_consumer, mut deliveries) = consume(url, "slot-1", &["data"], 100).await;
    send(sender, "data", 999..1000).await;
    assert_eq!(numbers(&receive(&mut deliveries, 1).await), [999]);
}

async fn next_message(events: &mut Receiver<LinkEvent>) -> Incoming {
    let message = async {
        loop {
            if let LinkEvent::Message(message) = events.recv().await.expect("the link lives") {
                return message;
            }
        }
    };
    tokio::time::timeout(SOON, message).await.expect("a message comes soon")
}

async fn until_disconnected(events: &mut Receiver<LinkEvent>) {
    let disconnected = async {
        while !matches!(events.recv().await.expect("the link lives"), LinkEvent::Disconnected { .. }) {}
    };
    tokio::time::timeout(SOON, disconnected).await.expect("the loss is noticed soon");
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    tokio::time::timeout(SOON, deliveries.recv())
        .await
        .expect("a message comes soon")
        .expect("the consumer lives")
}

async fn receive(deliveries: &mut Deliveries, count: usize) -> Vec<Delivery> {
    let mut batch = Vec::new();
    while batch.len() < count {
        batch.push(next(deliveries).await);
    }
    batch
}

/// Receives and acknowledges messages one by one.
async fn drain(consumer: &Consumer, deliveries: &mut Deliveries, count: usize) -> Vec<u64> {
    let mut drained = Vec::new();
    while drained.len() < count {
        let delivery = next(deliveries).await;
        drained.push(number(&delivery));
        assert_eq!(consumer.acknowledge([delivery.ack]), 1);
    }
    drained
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.payload).expect("a number").parse().expect("a number")
}

fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

/// The order of events does not matter: the address may become known late, and change after a while without any.
pub(crate) async fn a_session_follows_the_broker_to_another_address(first: &mut impl Server) {
    let mut second = server::embedded();
    let address = Arc::new(Mutex::new(None));
    let locate = {
        let address = Arc::clone(&address);
        move || address.lock().expect("no panic").clone().ok_or_else(|| "nobody knows".to_owned())
    };
    let mut session =
        FollowingLink::new(locate, ConnectOptions::new("", "follower"), vec!["news".to_owned()]);
    assert!(session.follow().expect("a missing address is not an error").is_none());
    assert_eq!(session.unavailable_reason().as_deref(), Some("nobody knows"));

    *address.lock().expect("no panic") = Some(first.url());
    connected(&mut session).await;
    assert_eq!((session.url(), session.unavailable_reason()), (Some(&*first.url()), None));

    first.kill();
    assert!(matches!(session.next().await, LinkEvent::Disconnected { .. }));
    assert!(session.unavailable_reason().expect("it is unavailable").contains("is unavailable"));
    *address.lock().expect("no panic") = Some(second.url());
    connected(&mut session).await;
    assert_eq!(session.url(), Some(&*second.url()));
    let link = session.link().expect("it is connected").clone();
    link.publish_to("news", "here").await.expect("acknowledged");
    let LinkEvent::Message(message) = session.next().await else { panic!("a message was published") };
    assert_eq!(&*message.payload, b"here");
    session.close().await;
    second.kill();

    let mut lost =
        FollowingLink::new(|| Ok("nonsense".to_owned()), ConnectOptions::new("", "lost"), Vec::new());
    lost.follow().map(drop).expect_err("it is not an address");
}

async fn connected(session: &mut FollowingLink) {
    while !matches!(session.next().await, LinkEvent::Connected) {}
}
