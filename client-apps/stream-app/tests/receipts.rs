//! Tests the receipts of numbered sources, and what the stream app stores about the sources.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bson::{Document, doc};
use mysimbdp_broker::{BrokerLink, LinkEvent};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::message::Receipt;
use mysimbdp_model::source::Source;
use mysimbdp_store::sequences::SEQUENCES;
use mysimbdp_testbed::{Mosquitto, Process, until_async};
use support::{DEADLINE, Stream, connect, next_message, shared_broker, shared_store};
use tokio::sync::mpsc::Receiver;

const PROGRAM: &str = env!("CARGO_BIN_EXE_stream-app");

async fn stream(store: &str) -> Stream {
    Stream::new(&[Path::new(PROGRAM)], &shared_broker(), store).await
}

fn message(number: u64) -> String {
    format!("{{\"n\":{number}}}")
}

/// Listens to the receipts of all sources of a stream.
struct ReceiptListener {
    _link: BrokerLink,
    events: Receiver<LinkEvent>,
}

impl ReceiptListener {
    async fn of(stream: &Stream) -> Self {
        let (_link, events) = connect(&stream.broker, vec![format!("{}/receipts/+", stream.client)]).await;
        Self { _link, events }
    }

    async fn next(&mut self) -> (Receipt, bool) {
        let (topic, payload, retained) = next_message(&mut self.events).await;
        let receipt = Receipt::parse(&payload).expect("a receipt");
        assert!(topic.ends_with(&format!("/receipts/{}", receipt.source)), "{topic}");
        (receipt, retained)
    }

    /// Returns the next receipt of the source, of epoch 7, for which `holds` is true.
    async fn until(&mut self, source: &str, holds: impl Fn(&Receipt) -> bool) -> Receipt {
        loop {
            let (receipt, _) = self.next().await;
            if receipt.source.as_str() == source && receipt.epoch == 7 && holds(&receipt) {
                return receipt;
            }
        }
    }

    async fn until_through(&mut self, source: &str, through: u64) -> Receipt {
        self.until(source, |receipt| receipt.stored_through == through).await
    }
}

/// Starts instances of one shared subscription.
async fn start(stream: &mut Stream, instances: usize) -> Vec<Process> {
    let mut apps = Vec::new();
    for slot in 0..instances {
        stream.set("INSTANCE", &format!("{}-{slot}", stream.client));
        stream.set("SLOT", &slot.to_string());
        apps.push(stream.start().await);
    }
    apps
}

fn stop(apps: &mut [Process]) {
    for app in apps {
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    }
}

#[tokio::test]
async fn receipts_are_correct_with_one_instance_and_with_three() {
    const MESSAGES: u64 = 600;
    for (store, instances) in [("embedded", 1), (&*shared_store(), 1), (&*shared_store(), 3)] {
        let mut stream = stream(store).await;
        let mut apps = start(&mut stream, instances).await;
        let mut listener = ReceiptListener::of(&stream).await;
        for number in 1..=MESSAGES {
            stream.publish_numbered("s", number, message(number)).await;
        }
        let receipt = listener.until_through("s", MESSAGES).await;
        let client: ClientId = stream.client.parse().expect("client id");
        assert_eq!((receipt.version, receipt.client_id), (1, client));
        assert_eq!((receipt.stored, receipt.missing), (vec![], vec![]));
        // The receipt does not arrive before the data is stored.
        assert_eq!(stream.count("messages").await, MESSAGES);
        stop(&mut apps);
    }
}

#[tokio::test]
async fn a_gap_is_requested_although_nothing_more_arrives() {
    let mut stream = stream(&shared_store()).await;
    let mut apps = start(&mut stream, 2).await;
    let mut listener = ReceiptListener::of(&stream).await;
    for number in [1, 2, 4, 5, 9] {
        stream.publish_numbered("s", number, message(number)).await;
    }
    let is_requested = |receipt: &Receipt| receipt.missing == [(3, 3), (6, 8)];
    let receipt = listener.until("s", is_requested).await;
    assert_eq!((receipt.stored_through, &receipt.stored[..]), (2, &[(4, 5), (9, 9)][..]));
    // They are requested again, in case the request was lost.
    listener.until("s", is_requested).await;
    for number in [8, 3, 7, 6] {
        stream.publish_numbered("s", number, message(number)).await;
    }
    let receipt = listener.until_through("s", 9).await;
    assert_eq!((receipt.stored, receipt.missing), (vec![], vec![]));
    stop(&mut apps);
}

#[tokio::test]
async fn a_repeat_is_answered_by_a_new_receipt_and_the_last_one_is_retained() {
    let mut stream = stream("embedded").await;
    let mut apps = start(&mut stream, 1).await;
    let mut listener = ReceiptListener::of(&stream).await;
    for number in 1..=5 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    listener.until_through("s", 5).await;
    // A source that connects later receives the retained receipt.
    let (retained, is_retained) = ReceiptListener::of(&stream).await.next().await;
    assert!(is_retained && retained.stored_through <= 5);
    // If the last messages are lost, the app cannot know: the source sends them again, and each repeat is answered.
    for _ in 0..2 {
        stream.publish_numbered("s", 5, message(5)).await;
        listener.until_through("s", 5).await;
    }
    assert_eq!(stream.count("messages").await, 5);
    stop(&mut apps);
    assert_eq!(stream.count("rejected").await, 0);
}

#[tokio::test]
async fn a_stop_publishes_a_receipt_for_everything_that_is_stored() {
    let mut stream = stream(&shared_store()).await;
    let mut apps = start(&mut stream, 1).await;
    for number in 1..=300 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    stream.until_count("messages", 300).await;
    stop(&mut apps);
    let (receipt, retained) = ReceiptListener::of(&stream).await.next().await;
    assert_eq!((receipt.stored_through, retained), (300, true));
}

#[tokio::test]
async fn rejected_numbers_count_as_received_and_are_listed_once() {
    for store in ["embedded", &shared_store()] {
        let mut stream = stream(store).await;
        let mut apps = start(&mut stream, 1).await;
        let mut listener = ReceiptListener::of(&stream).await;
        stream.publish_numbered("s", 1, message(1)).await;
        stream.publish_numbered("s", 2, "no JSON").await;
        stream.publish_numbered("s", 3, message(3)).await;
        listener.until_through("s", 3).await;
        // The same messages again, other content with a known number, twice, and other content that is rejected.
        for (number, payload) in
            [(2, "no JSON"), (3, "{\"n\":99}"), (3, "{\"n\":99}"), (2, "other"), (3, &message(3))]
        {
            stream.publish_numbered("s", number, payload).await;
        }
        stream.publish_numbered("s", 4, message(4)).await;
        listener.until_through("s", 4).await;
        let rejected = stream.documents("rejected").await;
        let listed: BTreeSet<(String, String)> = rejected
            .iter()
            .map(|reject| {
                let text = |field| reject.get_str(field).expect(field).to_owned();
                assert_eq!((text("source"), text("epoch")), ("s".to_owned(), "7".to_owned()));
                (reject.get("seq").expect("seq").to_string(), text("payload"))
            })
            .collect();
        let expected = [("2", "no JSON"), ("2", "other"), ("3", "{\"n\":99}")];
        assert_eq!(listed, expected.map(|(seq, payload)| (seq.to_owned(), payload.to_owned())).into());
        assert_eq!(rejected.len(), expected.len());
        // The documents that were stored first are unchanged.
        let stored = stream.documents("messages").await;
        let stored: Vec<String> =
            stored.iter().map(|document| document.get("n").expect("n").to_string()).collect();
        assert_eq!(stored, ["1", "3", "4"]);
        stop(&mut apps);
    }
}

#[tokio::test]
async fn lost_numbers_are_recorded_and_do_not_prevent_late_messages() {
    let mut stream = stream(&shared_store()).await;
    let mut apps = start(&mut stream, 1).await;
    let mut listener = ReceiptListener::of(&stream).await;
    for number in [1, 2, 5, 9] {
        stream.publish_numbered("s", number, message(number)).await;
    }
    listener.until("s", |receipt| receipt.missing == [(3, 4), (6, 8)]).await;
    // Twice, like a source that has not received the receipt yet.
    for _ in 0..2 {
        stream.publish_with("", &[("source", "s"), ("epoch", "7"), ("gone", "2-8")]).await;
        listener.until_through("s", 9).await;
    }
    let losses = stream.documents("losses").await;
    let ranges: Vec<(String, String)> = losses
        .iter()
        .map(|loss| {
            assert_eq!((loss.get_str("source").ok(), loss.get_str("epoch").ok()), (Some("s"), Some("7")));
            assert!(loss.get_datetime("noted_at").is_ok(), "{loss}");
            (loss.get("first").expect("first").to_string(), loss.get("last").expect("last").to_string())
        })
        .collect();
    assert_eq!(ranges, [("3", "4"), ("6", "8")].map(|(first, last)| (first.to_owned(), last.to_owned())));
    let id = loss_id(&stream, 3);
    assert_eq!(losses[0].get_binary_generic("_id").ok(), Some(&id));
    // A message that arrives after all is stored.
    stream.publish_numbered("s", 7, message(7)).await;
    stream.until_count("messages", 5).await;
    stop(&mut apps);
}

fn loss_id(stream: &Stream, first: u64) -> Vec<u8> {
    let source = Source { name: "s".parse().expect("source name"), epoch: 7 };
    source.id(&stream.client.parse().expect("client id"), first).0.to_vec()
}

#[tokio::test]
async fn invalid_messages_about_lost_numbers_are_rejected() {
    let mut stream = stream(&shared_store()).await;
    let mut apps = start(&mut stream, 1).await;
    let (source, epoch) = (("source", "s"), ("epoch", "7"));
    for (payload, properties) in [
        ("", vec![source, epoch, ("gone", "9-2")]),
        ("", vec![source, epoch, ("gone", "0-2")]),
        ("", vec![source, epoch, ("gone", "1-18446744073709551615")]),
        ("", vec![source, epoch, ("gone", "all")]),
        ("", vec![source, ("gone", "1-2")]),
        ("", vec![("gone", "1-2")]),
        ("", vec![("source", "../x"), epoch, ("gone", "1-2")]),
        ("{\"n\":1}", vec![source, epoch, ("gone", "1-2")]),
    ] {
        stream.publish_with(payload, &properties).await;
    }
    stream.until_count("rejected", 8).await;
    let rejected = stream.documents("rejected").await;
    assert!(rejected.iter().all(|reject| reject.get_str("reason").is_ok_and(|reason| !reason.is_empty())));
    stop(&mut apps);
    assert_eq!((stream.count("losses").await, stream.count(SEQUENCES).await), (0, 0));
}

#[tokio::test]
async fn a_source_that_restarts_its_numbers_is_stored_as_a_new_epoch() {
    let mut stream = stream(&shared_store()).await;
    let mut apps = start(&mut stream, 1).await;
    let mut listener = ReceiptListener::of(&stream).await;
    for epoch in ["7", "18446744073709551615"] {
        for seq in ["1", "2", "3"] {
            stream.publish_with(message(1), &[("source", "s"), ("epoch", epoch), ("seq", seq)]).await;
        }
    }
    let mut through = BTreeMap::new();
    while through != BTreeMap::from([(7, 3), (u64::MAX, 3)]) {
        let (receipt, _) = listener.next().await;
        through.insert(receipt.epoch, receipt.stored_through);
    }
    stop(&mut apps);
    assert_eq!((stream.count("messages").await, stream.count("rejected").await), (6, 0));
}

#[tokio::test]
async fn after_a_kill_between_data_and_marks_a_repeat_completes_the_receipt() {
    let mut stream = stream(&shared_store()).await;
    // While this validator is set, data can be stored but marks cannot.
    let never = doc! { "required": ["never"] };
    stream.coredms.ensure_collection(SEQUENCES, Some(&never)).await.expect("validator");
    let mut apps = start(&mut stream, 1).await;
    let mut listener = ReceiptListener::of(&stream).await;
    for number in 1..=20 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    stream.until_count("messages", 20).await;
    stream.until_log("the marks fail", |log| log.contains("receipts wait for the store")).await;
    apps[0].kill9();
    assert_eq!(stream.count(SEQUENCES).await, 0);
    stream.coredms.ensure_collection(SEQUENCES, None).await.expect("validator");

    let mut apps = start(&mut stream, 1).await;
    // The messages are acknowledged, so the broker does not deliver them again. Their source sends them again, because it
    // has no receipt.
    stream.publish_numbered("s", 20, message(20)).await;
    let receipt = listener.until("s", |receipt| !receipt.missing.is_empty()).await;
    assert_eq!((receipt.stored_through, &receipt.missing[..]), (0, &[(1, 19)][..]));
    for number in 1..20 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    listener.until_through("s", 20).await;
    stop(&mut apps);
    assert_eq!((stream.count("messages").await, stream.count("rejected").await), (20, 0));
}

#[tokio::test]
async fn when_one_of_three_instances_is_killed_the_source_sends_again_what_has_no_receipt() {
    const MESSAGES: u64 = 300;
    let mut stream = stream(&shared_store()).await;
    let mut apps = start(&mut stream, 3).await;
    let mut listener = ReceiptListener::of(&stream).await;
    for number in 1..=MESSAGES {
        stream.publish_numbered("s", number, message(number)).await;
        if number == MESSAGES / 2 {
            // The next start uses the slot of the last instance.
            apps[2].kill9();
        }
    }
    apps.push(stream.start().await);
    // A source repeats its last message if it receives nothing for a while, and then sends only what is requested.
    stream.publish_numbered("s", MESSAGES, message(MESSAGES)).await;
    loop {
        let receipt = listener.until("s", |_| true).await;
        if receipt.stored_through == MESSAGES {
            break;
        }
        for number in receipt.missing.iter().flat_map(|&(first, last)| first..=last) {
            stream.publish_numbered("s", number, message(number)).await;
        }
    }
    apps.remove(2);
    stop(&mut apps);
    assert_eq!((stream.count("messages").await, stream.count("rejected").await), (MESSAGES, 0));
}

#[tokio::test]
async fn receipts_wait_for_store_and_broker_and_nothing_waits_for_them() {
    let mut broker = Mosquitto::start();
    let mut stream = Stream::new(&[Path::new(PROGRAM)], &broker.url(), &shared_store()).await;
    let never = doc! { "required": ["never"] };
    stream.coredms.ensure_collection(SEQUENCES, Some(&never)).await.expect("validator");
    let mut apps = start(&mut stream, 1).await;
    // More messages than a window: without acknowledgements they could not all arrive.
    for number in 1..=500 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    stream.until_count("messages", 500).await;
    stream.until_log("the marks fail", |log| log.contains("receipts wait for the store")).await;
    broker.kill9();
    stream.coredms.ensure_collection(SEQUENCES, None).await.expect("validator");
    until_async(DEADLINE, "the numbers are marked", async || stream.count(SEQUENCES).await > 0).await;
    broker.restart();
    // The receipt arrives although the source sends nothing more.
    ReceiptListener::of(&stream).await.until_through("s", 500).await;
    stop(&mut apps);
}

#[tokio::test]
async fn many_sources_receive_their_receipts() {
    const SOURCES: u64 = 150;
    let mut stream = stream(&shared_store()).await;
    let mut apps = start(&mut stream, 2).await;
    let mut listener = ReceiptListener::of(&stream).await;
    for number in 1..=3 {
        for source in 0..SOURCES {
            stream.publish_numbered(&format!("s{source}"), number, message(number)).await;
        }
    }
    let mut complete = BTreeSet::new();
    while (complete.len() as u64) < SOURCES {
        let (receipt, _) = listener.next().await;
        assert!(receipt.stored_through <= 3, "{receipt:?}");
        if receipt.stored_through == 3 {
            complete.insert(receipt.source.to_string());
        }
    }
    stop(&mut apps);
    assert_eq!(stream.count("messages").await, 3 * SOURCES);
}

#[tokio::test]
async fn numbered_messages_have_receipts_whatever_the_ids_are() {
    for (ids, documents) in [("key", 2), ("none", 4)] {
        let mut stream = stream(&shared_store()).await;
        stream.set("IDS", ids);
        if ids == "key" {
            stream.set("RECORD_KEY", "n");
        }
        let mut apps = start(&mut stream, 1).await;
        let mut listener = ReceiptListener::of(&stream).await;
        // With key ids the repeats are duplicates, whatever their numbers are.
        for (number, payload) in [(1, message(1)), (2, message(2)), (2, message(2)), (3, message(1))] {
            stream.publish_numbered("s", number, payload).await;
        }
        listener.until_through("s", 3).await;
        // With these ids a number identifies nothing, so an invalid one does not reject a record.
        stream.publish_with("{\"n\":9}", &[("source", "of something else")]).await;
        stream.until_count("messages", documents + 1).await;
        stop(&mut apps);
        assert_eq!(stream.count("rejected").await, 0);
    }
}

#[tokio::test]
async fn an_invalid_number_far_ahead_costs_one_block_and_blocks_no_other_number() {
    let mut stream = stream(&shared_store()).await;
    let mut apps = start(&mut stream, 1).await;
    let mut listener = ReceiptListener::of(&stream).await;
    for number in [1, u64::MAX, 1 << 60, 0, 2] {
        stream.publish_numbered("s", number, message(1)).await;
    }
    let receipt = listener.until("s", |receipt| receipt.missing.len() == 2).await;
    assert_eq!(receipt.stored_through, 2);
    // Only as many numbers as one message can answer.
    assert_eq!(receipt.missing[0], (3, 1_000_002));
    for number in 3..=50 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    listener.until_through("s", 50).await;
    stop(&mut apps);
    let blocks: Vec<Document> =
        stream.coredms.find(SEQUENCES, doc! { "kind": "block" }, 10).await.expect("blocks");
    assert_eq!((blocks.len(), stream.count("messages").await), (3, 52));
    assert_eq!(stream.count("rejected").await, 1, "numbers begin at 1");
}
