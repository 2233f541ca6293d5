//! Hostile messages: they could be changed silently, affect other messages, or fill the memory.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use bson::{Bson, Document};
use mysimbdp_testbed::{
    Expected, HostileRecord, MEMORY_KIB_MAX, canonical, hostile_records, memory_peak_kib,
};
use support::{DEADLINE, Stream, shared_broker, shared_store};

const PROGRAM: &str = env!("CARGO_BIN_EXE_stream-app");

/// The broker itself refuses larger messages, if it is configured as in `docs/operations.md`.
const MESSAGE_BYTES_MAX: usize = 16_000_000;

fn number(sequence: usize) -> Vec<(String, String)> {
    let property = |name: &str, value: String| (name.to_owned(), value);
    vec![
        property("source", "hostile".to_owned()),
        property("epoch", "18446744073709551615".to_owned()),
        property("seq", sequence.to_string()),
    ]
}

#[tokio::test]
async fn hostile_messages_are_stored_exactly_or_rejected_with_their_reason() {
    let corpus: Vec<HostileRecord> =
        hostile_records().into_iter().filter(|record| record.text.len() <= MESSAGE_BYTES_MAX).collect();
    let is_rejected = |record: &&HostileRecord| matches!(record.expected, Expected::Rejected(_));
    let rejected = corpus.iter().filter(is_rejected).count() as u64;
    for store in ["embedded", &shared_store()] {
        let stream = Stream::new(&[Path::new(PROGRAM)], &shared_broker(), store).await;
        let mut app = stream.start().await;
        for (sequence, record) in (1..).zip(&corpus) {
            stream.send_to(&sequence.to_string(), record.text.clone(), number(sequence)).await;
        }
        stream.until_count("rejected", rejected).await;
        stream.until_count("messages", corpus.len() as u64 - rejected).await;
        let level = |document: &Document| {
            let topic = document.get_str("topic").expect("rejects have their topic");
            topic.rsplit('/').next().and_then(|level| level.parse().ok()).expect("a number")
        };
        let rejects: BTreeMap<usize, Document> =
            stream.documents("rejected").await.into_iter().map(|reject| (level(&reject), reject)).collect();
        let sequence = |document: &mut Document| match document.remove("_id") {
            Some(Bson::Binary(id)) => {
                u64::from_be_bytes(id.bytes[8..].try_into().expect("16 bytes")) as usize
            }
            other => panic!("the _id is {other:?}"),
        };
        let mut messages: BTreeMap<usize, Document> = BTreeMap::new();
        for mut document in stream.documents("messages").await {
            messages.insert(sequence(&mut document), document);
        }
        for (sequence, record) in (1..).zip(&corpus) {
            match &record.expected {
                Expected::Rejected(expected) => {
                    let reject =
                        rejects.get(&sequence).unwrap_or_else(|| panic!("{} is not rejected", record.name));
                    let reason = reject.get_str("reason").expect("a reason");
                    assert!(
                        reason.contains(expected),
                        "{}: {reason:?} does not say {expected:?}",
                        record.name
                    );
                    assert!(reason.len() < 2_000, "{}: a reason of {} bytes", record.name, reason.len());
                    let kept = match (reject.get_str("payload"), reject.get_binary_generic("payload")) {
                        (Ok(text), _) => text.as_bytes(),
                        (_, Ok(bytes)) => bytes.as_slice(),
                        _ => panic!("{} has no payload", record.name),
                    };
                    assert!(!kept.is_empty() && record.text.starts_with(kept), "{}", record.name);
                }
                Expected::Stored(fields) => {
                    let stored =
                        messages.remove(&sequence).unwrap_or_else(|| panic!("{} is not stored", record.name));
                    let expected = Bson::try_from(fields.clone()).expect("the table has plain JSON");
                    let expected = expected.as_document().expect("an object").clone();
                    assert!(canonical(stored) == canonical(expected), "{} was changed", record.name);
                }
            }
        }
        assert!(messages.is_empty(), "{messages:?}");
        let used = memory_peak_kib(app.id());
        assert!(used < MEMORY_KIB_MAX, "{used} KiB on {store}");
        assert!(stream.log().lines().all(|line| line.len() < 10_000), "one event is one short line");
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    }
}

/// Invalid numbers are never stored as something else, and never affect other messages.
#[tokio::test]
async fn invalid_numbers_are_rejected_and_do_not_end_the_instance() {
    let stream = Stream::new(&[Path::new(PROGRAM)], &shared_broker(), &shared_store()).await;
    let mut app = stream.start().await;
    let long = "s".repeat(60_000);
    let invalid: [&[(&str, &str)]; 11] = [
        &[("source", "s")],
        &[("source", "s"), ("epoch", "1")],
        &[("epoch", "1"), ("seq", "1")],
        &[("source", "s"), ("epoch", "1"), ("seq", "-1")],
        &[("source", "s"), ("epoch", "1"), ("seq", "18446744073709551616")],
        &[("source", "s"), ("epoch", "1"), ("seq", "1e3")],
        &[("source", "s"), ("epoch", "0x1"), ("seq", "1")],
        &[("source", ""), ("epoch", "1"), ("seq", "1")],
        &[("source", "a/b"), ("epoch", "1"), ("seq", "1")],
        &[("source", "#"), ("epoch", "1"), ("seq", "1")],
        &[("source", &long), ("epoch", "1"), ("seq", "1")],
    ];
    for properties in invalid {
        let properties =
            properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        stream.send_to("x", b"{\"a\":1}".to_vec(), properties).await;
    }
    stream.send_to("x", b"{\"a\":1}".to_vec(), number(1)).await;
    stream.until_count("rejected", invalid.len() as u64).await;
    stream.until_count("messages", 1).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}
