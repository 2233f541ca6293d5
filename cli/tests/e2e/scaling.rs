//! Instances are added and removed under load, and no message is lost or left behind.

use mysimbdp_testbed::mqtt::{had_session, publish_with_paho};
use mysimbdp_testbed::{Daemon, mongodb, mosquitto};
use serde_json::json;

use crate::support::{LOADED, Platform, SOON, messages, stream};

const MESSAGES: u64 = 6_000;
const PER_SECOND: u32 = 800;

/// A platform whose instances hold unacknowledged messages most of the time.
async fn platform(broker: &str) -> Platform {
    let settings = json!({
        "ids": "key", "record_key": ["number"], "batch_wait_max": "300ms", "instances": {"min": 1, "max": 4},
    });
    Platform::new(mongodb().url(), broker, json!([stream("client3", settings)])).await
}

/// Scales to one, four, one, four, two and one instances while messages arrive; afterwards no message is missing, and
/// the broker queues none for a removed instance.
async fn up_and_down_under_load(platform: &Platform, broker: &str) {
    let mut stream_manager = platform.start("stream-manager");
    platform.until_instances("client3", 1).await;
    let (url, topic) = (broker.to_owned(), platform.ingest_topic("client3"));
    let publish = move || publish_with_paho(&url, &topic, &messages(0, MESSAGES), PER_SECOND);
    let publisher = tokio::task::spawn_blocking(publish);
    for count in [4, 1, 4, 2, 1] {
        let before = platform.count("client3", "readings").await;
        platform.command(0, &["scale", "client3", &count.to_string()]);
        platform.until_instances("client3", count).await;
        // Each number of instances processes a part of the load.
        mysimbdp_testbed::until_async(SOON, "messages are stored", async || {
            platform.count("client3", "readings").await > (before + 100).min(MESSAGES - 1)
        })
        .await;
    }
    publisher.await.expect("all are published");
    platform.until_stored("client3", "readings", MESSAGES, LOADED).await;
    assert_eq!(platform.count("client3", "rejected").await, 0);

    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
    let session = |slot: u32| format!("{}-client3.stream.{slot}", platform.topic_prefix);
    assert!(had_session(broker, &session(0)), "the last session stays, and the broker queues for it");
    for slot in 1..4 {
        assert!(!had_session(broker, &session(slot)), "the broker still queues for slot {slot}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_to_four_to_one_under_load_loses_and_strands_nothing_on_mosquitto() {
    let platform = platform(mosquitto().url()).await;
    up_and_down_under_load(&platform, mosquitto().url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_to_four_to_one_under_load_loses_and_strands_nothing_on_the_embedded_broker() {
    let platform = platform("mqtt://127.0.0.1:1").await;
    platform.use_embedded_broker();
    let _broker = Daemon::start(&platform.root, &["broker", "--port", "0"], &[]);
    let url = platform.embedded_broker();
    up_and_down_under_load(&platform, &url).await;
}
