//! Tests the stream app as the platform runs it: its guarantees towards broker and store.

mod support;

use std::path::Path;
use std::time::Duration;

use bson::Document;
use mysimbdp_model::message::Report;
use mysimbdp_store::whole;
use mysimbdp_testbed::{Mongod, Mosquitto, until_async};
use support::{DEADLINE, Stream, connect, next_message, shared_broker, shared_store};

const PROGRAM: &str = env!("CARGO_BIN_EXE_stream-app");

async fn stream(broker: &str, store: &str) -> Stream {
    Stream::new(&[Path::new(PROGRAM)], broker, store).await
}

fn message(number: u64) -> String {
    format!("{{\"n\":{number},\"temp\":39.02}}")
}

#[tokio::test]
async fn messages_become_documents_and_reports_count_them() {
    for store in ["embedded", &shared_store()] {
        let stream = stream(&shared_broker(), store).await;
        let mut app = stream.start().await;
        let (_link, mut reports) = connect(&stream.broker, vec![format!("{}/reports", stream.client)]).await;
        for number in 0..50 {
            stream.publish(message(number)).await;
        }
        stream.until_count("messages", 50).await;
        let mut reported = (0, 0);
        while reported.0 < 50 {
            let (_, payload, _) = next_message(&mut reports).await;
            let report = Report::parse(&payload).expect("a report");
            assert_eq!(report.instance, Some(format!("{}-0", stream.client)));
            assert!(report.utilization.is_some_and(|share| (0.0..=1.0).contains(&share)));
            assert!(report.total_number_of_messages_ingested == 0 || report.average_processing_time > 0.0);
            reported.0 += report.total_number_of_messages_ingested;
            reported.1 += report.total_size_of_messages_ingested;
        }
        assert_eq!(reported, (50, (0..50).map(|number| message(number).len() as u64).sum()));
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    }
}

#[tokio::test]
async fn messages_that_do_not_fit_are_rejected_and_acknowledged() {
    let mut stream = stream(&shared_broker(), &shared_store()).await;
    let schema = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#;
    stream.set("MESSAGE_SCHEMA", schema);
    let mut app = stream.start().await;
    let bad: [(&[u8], &str); 6] = [
        (b"not json", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{\"n\":\"one\"}", "/n: "),
        (b"{\"n\":1,\"n\":2}", "\"n\" occurs twice"),
        (b"{\"n\":1,\"a.b\":2}", "\"a.b\" is not allowed"),
    ];
    for (payload, _) in bad {
        stream.publish(payload).await;
    }
    stream.publish(message(1)).await;
    stream.until_count("rejected", bad.len() as u64).await;
    stream.until_count("messages", 1).await;
    let rejected = stream.documents("rejected").await;
    for (payload, reason) in bad {
        let found = rejected.iter().any(|reject| {
            let same = match (reject.get_str("payload"), reject.get_binary_generic("payload")) {
                (Ok(text), _) => text.as_bytes() == payload,
                (_, Ok(bytes)) => bytes == payload,
                _ => false,
            };
            same && reject.get_str("reason").is_ok_and(|text| text.contains(reason))
        });
        assert!(found, "{:?} with {reason:?} is not in {rejected:#?}", String::from_utf8_lossy(payload));
    }
    assert!(
        rejected.iter().all(|reject| reject.get_str("topic").is_ok_and(|topic| topic.ends_with("/data/x")))
    );
    // They are acknowledged: a new instance does not receive them again.
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    let mut app = stream.start().await;
    stream.publish(message(2)).await;
    stream.until_count("messages", 2).await;
    assert_eq!(stream.count("rejected").await, bad.len() as u64);
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn a_known_number_is_stored_once_and_other_content_is_rejected() {
    for store in ["embedded", &shared_store()] {
        let stream = stream(&shared_broker(), store).await;
        let mut app = stream.start().await;
        for number in [1, 2, 1, 1] {
            stream.publish_numbered("s", number, message(number)).await;
        }
        stream.publish_numbered("s", 2, message(99)).await;
        stream.publish_numbered("t", 2, message(2)).await;
        stream.until_count("rejected", 1).await;
        stream.until_count("messages", 3).await;
        let reject = stream.documents("rejected").await.remove(0);
        assert_eq!(reject.get_str("payload").ok(), Some(message(99).as_str()));
        assert!(
            reject.get_str("reason").is_ok_and(|reason| reason.contains("already stored with other content")),
            "{reject}"
        );
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
        assert_eq!(stream.count("messages").await, 3);
    }
}

/// Whether numbered or not: with its own `_id` a message could be taken for a repeat of another one.
#[tokio::test]
async fn a_message_with_its_own_id_replaces_no_other() {
    let payloads =
        [r#"{"_id":5,"v":1}"#, r#"{"_id":5,"v":2}"#, r#"{"_id":"dev-7","v":6}"#, r#"{"_id":"dev-7","v":7}"#];
    for store in ["embedded", &shared_store()] {
        let stream = stream(&shared_broker(), store).await;
        let mut app = stream.start().await;
        for (payload, number) in payloads.into_iter().zip(1..) {
            stream.publish(payload).await;
            stream.publish_numbered("s", number, payload).await;
        }
        stream.publish(message(1)).await;
        stream.until_count("rejected", 8).await;
        stream.until_count("messages", 1).await;
        let rejected = stream.documents("rejected").await;
        for payload in payloads {
            let kept =
                rejected.iter().filter(|reject| reject.get_str("payload").is_ok_and(|kept| kept == payload));
            assert_eq!(kept.count(), 2, "{rejected:#?}");
        }
        let has_id_reason = |reject: &Document| {
            reject.get_str("reason").is_ok_and(|reason| reason.contains("\"_id\" is set by the platform"))
        };
        assert!(rejected.iter().all(has_id_reason), "{rejected:#?}");
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    }
}

#[tokio::test]
async fn with_ids_of_the_data_a_repeat_is_a_duplicate_and_other_content_is_rejected() {
    for store in ["embedded", &shared_store()] {
        let mut stream = stream(&shared_broker(), store).await;
        stream.set("IDS", "none");
        let mut app = stream.start().await;
        let stored = [r#"{"_id":5,"v":1}"#, r#"{"_id":{"a":1,"b":[2]},"v":1}"#, r#"{"v":1}"#];
        let other = [r#"{"_id":5,"v":2}"#, r#"{"_id":5.5,"v":2,"w":0}"#, r#"{"_id":{"a":1,"b":[2]}}"#];
        for payload in [
            stored[0],
            stored[1],
            stored[2],
            stored[0],
            stored[1],
            other[0],
            r#"{"_id":5.5,"v":2}"#,
            other[1],
            other[2],
        ] {
            stream.publish(payload).await;
        }
        stream.until_count("rejected", 3).await;
        stream.until_count("messages", 4).await;
        let rejected = stream.documents("rejected").await;
        for payload in other {
            let kept = |reject: &&Document| reject.get_str("payload").is_ok_and(|kept| kept == payload);
            let reject = rejected.iter().find(kept).unwrap_or_else(|| panic!("{payload}: {rejected:#?}"));
            assert!(
                reject
                    .get_str("reason")
                    .is_ok_and(|reason| reason.contains("already stored with other content")),
                "{reject}"
            );
        }
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    }
}

#[tokio::test]
async fn a_byte_order_mark_in_front_of_a_message_is_not_part_of_it() {
    let mut stream = stream(&shared_broker(), &shared_store()).await;
    stream.set("MESSAGE_SCHEMA", r#"{"type":"object","required":["n"]}"#);
    let mut app = stream.start().await;
    stream.publish(format!("\u{feff}{}", message(1))).await;
    stream.publish(format!("\u{feff}\u{feff}{}", message(2))).await;
    stream.until_count("messages", 1).await;
    stream.until_count("rejected", 1).await;
    assert_eq!(stream.documents("messages").await[0].get_i32("n").ok(), Some(1));
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

/// A message that is too large for a document is rejected like any other. If the app announced a limit, mosquitto would
/// acknowledge the message and drop it.
#[tokio::test]
async fn a_rejected_message_is_kept_whole_however_large_it_is() {
    let broker = Mosquitto::with("max_packet_size 268435455");
    for store in ["embedded", &shared_store()] {
        let stream = stream(broker.url().as_str(), store).await;
        let mut app = stream.start().await;
        for (bytes, reason) in [
            (2_000_000, "\"a.b\" is not allowed"),
            (17_000_000, "the limit is 16777216"),
            (34_000_000, "the limit is 33554432"),
        ] {
            let name = if bytes == 2_000_000 { "a.b" } else { "x" };
            let payload = format!("{{\"{name}\":\"{}\"}}", "y".repeat(bytes));
            let before = stream.count("rejected").await;
            stream.publish(payload.clone()).await;
            stream.until_count("rejected", before + 1).await;
            let rejected = stream.documents("rejected").await;
            let is_it = |reject: &&Document| whole(reject.get("payload_bytes")) == payload.len() as u64;
            let reject = rejected.iter().find(is_it);
            let reject = reject.expect("a reject of this length");
            assert!(
                reject.get_str("reason").is_ok_and(|text| text.contains(reason)),
                "{:?}",
                reject.get_str("reason")
            );
            let kept = stream.kept(reject).await;
            assert!(kept == payload.as_bytes(), "{bytes} bytes are not kept as they were");
        }
        stream.publish(message(1)).await;
        stream.until_count("messages", 1).await;
        assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    }
}

#[tokio::test]
async fn with_key_ids_the_first_message_of_a_key_stays() {
    let mut stream = stream(&shared_broker(), &shared_store()).await;
    stream.set("IDS", "key");
    stream.set("RECORD_KEY", "n");
    let mut app = stream.start().await;
    for payload in ["{\"n\":1,\"v\":\"first\"}", "{\"n\":1,\"v\":\"second\"}", "{\"v\":1}", "{\"n\":2}"] {
        stream.publish(payload).await;
    }
    stream.until_count("rejected", 1).await;
    stream.until_count("messages", 2).await;
    let first = stream.documents("messages").await.remove(0);
    assert_eq!((first.get_i32("_id").ok(), first.get_str("v").ok()), (Some(1), Some("first")));
    assert_eq!(first.get_document("_ingest").and_then(|ingest| ingest.get_str("layer")).ok(), Some("stream"));
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn numbers_may_be_in_the_message_and_the_topic_in_the_document() {
    let store = shared_store();
    let program = [Path::new(PROGRAM), Path::new("--topic-field"), Path::new("topic")];
    let mut stream = Stream::new(&program, &shared_broker(), &store).await;
    stream.set("NUMBER_FIELDS", "station,boot,count");
    let mut app = stream.start().await;
    for (count, payload) in [(1, "a"), (1, "a"), (2, "b"), (2, "c")] {
        stream.publish(format!("{{\"station\":\"s\",\"boot\":\"18446744073709551615\",\"count\":{count},\"v\":\"{payload}\"}}")).await;
    }
    stream.publish("{\"station\":\"s\",\"count\":3}").await;
    stream.until_count("rejected", 2).await;
    stream.until_count("messages", 2).await;
    let topics = stream.documents("messages").await;
    assert!(
        topics.iter().all(|document| document.get_str("topic").is_ok_and(|topic| topic.ends_with("/data/x")))
    );
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn nothing_is_lost_or_duplicated_after_a_kill_in_the_middle_and_a_restart() {
    const MESSAGES: u64 = 1500;
    let stream = stream(&shared_broker(), &shared_store()).await;
    let mut app = stream.start().await;
    let publish = async {
        for number in 1..=MESSAGES {
            stream.publish_numbered("s", number, message(number)).await;
        }
    };
    let kill = async {
        let what = "some messages are stored";
        until_async(DEADLINE, what, async || stream.count("messages").await > MESSAGES / 5).await;
        app.kill9();
    };
    tokio::join!(publish, kill);
    assert!(stream.count("messages").await < MESSAGES, "it was to be killed in the middle");
    let mut app = stream.start().await;
    stream.until_count("messages", MESSAGES).await;
    assert_eq!(stream.count("rejected").await, 0);
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn sigterm_keeps_the_session_and_the_messages_that_arrive_meanwhile() {
    let stream = stream(&shared_broker(), &shared_store()).await;
    let mut app = stream.start().await;
    stream.publish(message(0)).await;
    stream.until_count("messages", 1).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    stream.until_status(&app, "stopped").await;
    for number in 1..30 {
        stream.publish(message(number)).await;
    }
    let mut app = stream.start().await;
    stream.until_count("messages", 30).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn sigusr1_stores_what_the_session_holds_and_ends_the_session() {
    let stream = stream(&shared_broker(), &shared_store()).await;
    // A backlog that arrives after the subscription has ended.
    let mut app = stream.start().await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    for number in 0..2_000 {
        stream.publish(message(number)).await;
    }
    let mut app = stream.start().await;
    app.signal(rustix::process::Signal::USR1);
    assert_eq!(app.wait(DEADLINE).code(), Some(0));
    assert_eq!(stream.count("messages").await, 2_000);
    stream.until_status(&app, "drained").await;
    // There is no session: nothing was queued for the next instance.
    stream.publish(message(9_999)).await;
    let mut app = stream.start().await;
    stream.publish(message(10_000)).await;
    stream.until_count("messages", 2_001).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

/// Returns the address of a mongod, with a short timeout for when it is unavailable.
fn with_short_timeout(mongod: &Mongod) -> String {
    format!("{}&serverSelectionTimeoutMS=500", mongod.url())
}

#[tokio::test]
async fn while_the_store_is_unavailable_nothing_is_acknowledged_and_afterwards_nothing_is_missing() {
    let mut mongod = Mongod::start();
    let stream = stream(&shared_broker(), &with_short_timeout(&mongod)).await;
    let mut app = stream.start().await;
    stream.publish_numbered("s", 1, message(1)).await;
    stream.until_count("messages", 1).await;
    mongod.kill9();
    for number in 2..=500 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    stream.until_log("the outage is logged", |log| log.contains("store is unavailable")).await;
    // Killed while nothing is acknowledged: the next instance receives everything again.
    app.kill9();
    let mut app = stream.start().await;
    stream
        .until_log("the outage is logged again", |log| log.matches("store is unavailable").count() == 2)
        .await;
    mongod.restart();
    stream.until_count("messages", 500).await;
    stream.until_log("the end of the outage is logged", |log| log.contains("store is available again")).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
    assert_eq!(stream.count("messages").await, 500);
}

#[tokio::test]
async fn a_store_that_hangs_for_a_while_costs_nothing() {
    let mut mongod = Mongod::start();
    let stream = stream(&shared_broker(), &mongod.url()).await;
    let mut app = stream.start().await;
    stream.publish(message(0)).await;
    stream.until_count("messages", 1).await;
    mongod.pause();
    // More messages than its window: the others wait at the broker.
    for number in 1..1_000 {
        stream.publish(message(number)).await;
    }
    mongod.resume();
    stream.until_count("messages", 1_000).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn a_stop_while_the_store_is_unavailable_ends_in_time_and_loses_nothing() {
    let mut mongod = Mongod::start();
    let stream = stream(&shared_broker(), &with_short_timeout(&mongod)).await;
    let mut app = stream.start().await;
    mongod.kill9();
    for number in 1..=20 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    stream.until_log("the outage is logged", |log| log.contains("store is unavailable")).await;
    assert_eq!(app.terminate(Duration::from_secs(9)).code(), Some(0));
    mongod.restart();
    let mut app = stream.start().await;
    stream.until_count("messages", 20).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn a_broker_restart_loses_nothing() {
    let mut broker = Mosquitto::start();
    let stream = stream(&broker.url(), &shared_store()).await;
    let mut app = stream.start().await;
    for number in 1..=20 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    broker.restart();
    stream.until_status(&app, "running").await;
    for number in 21..=40 {
        stream.publish_numbered("s", number, message(number)).await;
    }
    stream.until_count("messages", 40).await;
    assert_eq!(app.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn of_two_processes_with_the_same_client_id_the_first_one_ends() {
    let stream = stream(&shared_broker(), &shared_store()).await;
    let mut first = stream.start().await;
    let mut second = stream.start().await;
    assert_eq!(first.wait(DEADLINE).code(), Some(75));
    stream.publish(message(0)).await;
    stream.until_count("messages", 1).await;
    assert!(second.is_running());
    assert!(stream.log().contains("another process has connected"), "{}", stream.log());
    assert_eq!(second.terminate(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn a_wrong_environment_is_reported_at_once_and_exits_78() {
    let mut stream = stream(&shared_broker(), "embedded").await;
    stream.set("IDS", "object");
    stream.set("MESSAGE_SCHEMA", "{");
    let mut app = stream.spawn();
    assert_eq!(app.wait(DEADLINE).code(), Some(78));
    let log = stream.log();
    assert!(log.contains("MYSIMBDP_IDS") && log.contains("MYSIMBDP_MESSAGE_SCHEMA"), "{log}");
}
