//! Messages, from publishers of every kind to the database, and the instances in between.

use std::path::Path;

use mysimbdp_testbed::mqtt::publish_with_paho;
use mysimbdp_testbed::{Daemon, Mosquitto, binary, mongodb, mosquitto, until, until_async};
use serde_json::json;

use crate::support::{LOADED, Platform, SOON, keyed_stream, messages, stream};

/// Messages that mosquitto_pub and paho send to two clients are stored, each in its client's database, and only if they
/// match the client's message schema.
#[tokio::test(flavor = "multi_thread")]
async fn two_clients_store_what_mosquitto_pub_and_paho_send() {
    let schema =
        json!({"type": "object", "required": ["number"], "properties": {"number": {"type": "integer"}}});
    let clients = json!([stream("client1", json!({})), stream("client3", json!({"message_schema": schema}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _stream_manager = platform.start("stream-manager");
    platform.until_instances("client1", 1).await;
    platform.until_instances("client3", 1).await;

    Mosquitto::publish(mosquitto().url(), &platform.ingest_topic("client1"), &messages(0, 300));
    publish_with_paho(mosquitto().url(), &platform.ingest_topic("client3"), &messages(0, 200), 0);
    publish_with_paho(
        mosquitto().url(),
        &platform.ingest_topic("client3"),
        "{\"number\":\"one\"}\nno json\n",
        0,
    );

    platform.until_stored("client1", "readings", 300, SOON).await;
    platform.until_stored("client3", "readings", 200, SOON).await;
    platform.until_stored("client3", "rejected", 2, SOON).await;
    until(SOON, "the manager has timed a report of each", || {
        let log = platform.root.log("stream-manager.log");
        ["client1", "client3"].iter().all(|client| {
            log.lines().any(|line| line.contains("TIMING") && line.contains(&format!("client={client}")))
        })
    });
}

/// An instance that is listed as running may not have subscribed yet: its session exists before it starts.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_before_the_first_instance_has_subscribed_is_kept() {
    let subscribes_later =
        format!("until test -e subscribe; do sleep 0.05; done; exec {}", binary("stream-app").display());
    let clients = json!([stream("client1", json!({"command": ["sh", "-c", subscribes_later]}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _stream_manager = platform.start("stream-manager");
    platform.until_instances("client1", 1).await;

    Mosquitto::publish(mosquitto().url(), &platform.ingest_topic("client1"), &messages(0, 10));
    std::fs::write(platform.root.path().join("subscribe"), "").expect("let it subscribe");

    platform.until_stored("client1", "readings", 10, SOON).await;
}

/// `start` prints a pid, `stop` takes it, and both have clear errors and exit codes.
#[tokio::test(flavor = "multi_thread")]
async fn instances_are_started_and_stopped_by_pid() {
    let clients = json!([stream("client1", json!({}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let no_manager = platform.command(69, &["start", "client1", "0"]);
    assert!(no_manager.contains("stream-manager"), "{no_manager}");

    let _stream_manager = platform.start("stream-manager");
    let first = platform.until_instances("client1", 1).await[0];
    let printed = platform.command(0, &["stream-manager", "start", "client1", "0"]);
    let second: u32 =
        printed.lines().next().and_then(|line| line.trim().parse().ok()).expect("the pid alone in a line");
    assert_ne!(first, second);
    assert!(
        printed.contains("autoscaling of stream stream of client1 is off, it keeps 2 instances"),
        "{printed}"
    );
    assert!(printed.contains("`mysimbdp scale client1 auto"), "{printed}");
    assert_eq!(platform.until_instances("client1", 2).await.len(), 2);

    assert!(platform.command(66, &["start", "nobody", "0"]).contains("nobody"));
    let bystander = std::process::id().to_string();
    assert!(platform.command(77, &["stop", "client1", &bystander]).contains(&bystander));

    platform.command(0, &["stop", "client1", &second.to_string()]);
    assert_eq!(platform.until_instances("client1", 1).await, [first]);
    assert!(!Path::new(&format!("/proc/{second}")).exists(), "it has ended when the command returns");
}

/// Reports, in both accepted formats, make the manager add instances under load and drain them when it is quiet.
#[tokio::test(flavor = "multi_thread")]
async fn load_scales_up_and_quiet_scales_down_within_bounds() {
    let scaling = json!({
        "policy": "target", "target": {"utilization_percent": 50, "cooldown": "1s", "stabilization": "2s"},
    });
    // An app that stores nothing, so that all reports come from the test.
    let app = "trap 'exit 0' TERM USR1; while :; do sleep 0.05; done";
    let settings =
        json!({"command": ["sh", "-c", app], "scaling": scaling, "instances": {"min": 1, "max": 3}});
    let platform =
        Platform::new(mongodb().url(), mosquitto().url(), json!([stream("client1", settings)])).await;
    let _stream_manager = platform.start("stream-manager");
    platform.until_instances("client1", 1).await;

    let topic = format!("{}/stream/reports/client1", platform.topic_prefix);
    let report = |utilization: f64, slot: usize| {
        json!({
            "client_name": "client1", "average_processing_time": 0.02, "total_number_of_messages_ingested": 1000,
            "total_size_of_messages_ingested": 200_000, "interval": 1.0, "utilization": utilization,
            "instance": format!("{}-client1.stream.{slot}", platform.topic_prefix),
        })
    };
    let reports =
        |utilization| (0..3).map(|slot| format!("{}\n", report(utilization, slot))).collect::<String>();
    until_async(LOADED, "load scales up to the most allowed", async || {
        Mosquitto::publish(mosquitto().url(), &topic, &reports(0.95));
        platform.running("client1").len() == 3
    })
    .await;
    until_async(LOADED, "quiet scales down to the least allowed", async || {
        Mosquitto::publish(mosquitto().url(), &topic, &reports(0.01));
        Mosquitto::publish(mosquitto().url(), &topic, "[\"client1\", 0.001, 1, 200]\n");
        let running = platform.running("client1").len();
        assert!(running <= 3, "never above its bound");
        running == 1
    })
    .await;
    let log = platform.root.log("stream-manager.log");
    assert!(
        log.contains("from=1 to=2") && log.contains("busy="),
        "each decision is logged with its inputs:\n{log}"
    );
}

/// Ctrl-C on everything and a restart: the broker has queued what was published in between.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_and_a_new_start_lose_nothing_that_was_published_meanwhile() {
    let clients = json!([keyed_stream("client1"), keyed_stream("client3")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    for client in ["client1", "client3"] {
        platform.until_instances(client, 1).await;
        Mosquitto::publish(mosquitto().url(), &platform.ingest_topic(client), &messages(0, 200));
        platform.until_stored(client, "readings", 200, SOON).await;
    }
    assert!(up.interrupt().success(), "{}", up.output());
    for client in ["client1", "client3"] {
        Mosquitto::publish(mosquitto().url(), &platform.ingest_topic(client), &messages(200, 800));
        assert_eq!(platform.count(client, "readings").await, 200, "no instance can store it");
    }
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    for client in ["client1", "client3"] {
        platform.until_stored(client, "readings", 1000, SOON).await;
    }
    // The load may have added further instances.
    let instances = ["client1", "client3"].map(|client| platform.running(client));
    assert!(instances.iter().all(|of_client| !of_client.is_empty()), "{instances:?}");
    assert!(up.interrupt().success(), "{}", up.output());
    for pid in instances.concat() {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "instance {pid} is left");
    }
}
