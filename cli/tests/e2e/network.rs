//! Partial failures of the network and the database: connections that die silently, replies that are lost, a primary
//! that steps down.

use std::time::Duration;

use mysimbdp_testbed::{Mongod, Mosquitto, Proxy, ProxyFault, mongodb, mosquitto, until, until_async};
use serde_json::json;

use crate::support::{LOADED, Platform, SOON, documents, keyed_stream, messages, number, readings};

/// Short timeouts, so that the test is fast.
const STORE_OPTIONS: &str = "&socketTimeoutMS=3000&connectTimeoutMS=1000&heartbeatFrequencyMS=500";

/// Broker and database run, but no process can reach them. Each process detects this by itself, and reconnects by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_between_all_processes_and_both_servers_costs_nothing() {
    let (broker, store) = (Proxy::before_broker(mosquitto().url()), Proxy::before_mongodb(mongodb().url()));
    let mut client = documents("client3");
    client["streams"] = keyed_stream("client3")["streams"].clone();
    client["streams"][0]["collection"] = json!("messages");
    // The test itself queries the database directly.
    let platform = Platform::new(mongodb().url(), &broker.mqtt_url(), json!([client])).await;
    platform.set("coredms", json!({"url": store.mongodb_url() + STORE_OPTIONS}));
    let mut daemons = ["fetchdata", "batch-manager", "stream-manager"].map(|kind| platform.start(kind));
    platform.until_instances("client3", 1).await;
    let topic = platform.ingest_topic("client3");
    let (content, rows) = readings(50_000);
    platform.root.drop_file("client3", "before.csv", &content);
    Mosquitto::publish(mosquitto().url(), &topic, &messages(0, 100));
    platform.until_ingested("client3", 1, SOON).await;
    platform.until_stored("client3", "messages", 100, SOON).await;

    for network in [&broker, &store] {
        network.fall_silent();
    }
    let (more, more_rows) = readings(60_000);
    platform.root.drop_file("client3", "during.csv", &more);
    Mosquitto::publish(mosquitto().url(), &topic, &messages(100, 100));
    let logs = ["batch-manager.log", "stream-manager.log", "clients/client3/stream.log"];
    until(SOON, "every process has noticed", || {
        logs.iter().all(|log| platform.root.log(log).contains("no connection to the broker"))
            && platform.root.log("fetchdata.log").contains("batch-manager cannot be notified")
    });
    for network in [&broker, &store] {
        network.heal();
    }
    platform.until_stored("client3", "messages", 200, SOON).await;
    platform.until_ingested("client3", 2, SOON).await;
    platform.until_stored("client3", "readings", rows + more_rows, SOON).await;
    until(SOON, "every process is connected again", || {
        logs.iter().all(|log| platform.root.log(log).contains("connected to the broker again"))
    });
    assert!(
        platform.root.list("held/client3").is_empty() && platform.root.list("staging/client3").is_empty()
    );
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

/// The documents are written, but the writer gets no reply: what it finds when it writes them again counts as stored.
#[tokio::test(flavor = "multi_thread")]
async fn replies_of_the_database_that_are_lost_count_nothing_twice() {
    for times in [1, 2, 3] {
        let store = Proxy::before_mongodb(mongodb().url());
        let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
        platform.set("coredms", json!({"url": store.mongodb_url() + STORE_OPTIONS}));
        let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
        store.inject(ProxyFault::RepliesToInsertLost { times });
        let (content, rows) = readings(300_000);
        platform.root.drop_file("client2", "weather.csv", &content);
        let run = &platform.until_ingested("client2", 1, SOON).await[0];
        let counts = ["received", "stored", "duplicates", "rejected"].map(|field| number(run, field));
        assert_eq!(counts, [rows as i64, rows as i64, 0, 0], "{times} lost");
        assert_eq!(store.faults(), times, "enough replies were lost");
        assert_eq!(platform.count("client2", "readings").await, rows);
    }
}

/// For a few seconds no server accepts writes: files and messages wait, and are stored once.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_steps_down_in_the_middle_of_a_load_loses_and_repeats_nothing() {
    let database = Mongod::start();
    let mut client = documents("client3");
    client["micro_batching"] = json!({"block_size": "200kB"});
    client["streams"] = keyed_stream("client3")["streams"].clone();
    client["streams"][0]["collection"] = json!("messages");
    let platform = Platform::new(&database.url(), mosquitto().url(), json!([client])).await;
    let _daemons = ["fetchdata", "batch-manager", "stream-manager"].map(|kind| platform.start(kind));
    platform.until_instances("client3", 1).await;
    let topic = platform.ingest_topic("client3");
    let (content, rows) = readings(6_000_000);
    platform.root.drop_file("client3", "weather.csv", &content);
    let begun = async || platform.count("client3", "readings").await > rows / 10;
    until_async(SOON, "a tenth is stored", begun).await;
    database.step_down(Duration::from_secs(2)).await;
    Mosquitto::publish(mosquitto().url(), &topic, &messages(0, 1_000));
    let run = &platform.until_ingested("client3", 1, LOADED).await[0];
    let counts = ["received", "stored", "duplicates", "rejected"].map(|field| number(run, field));
    assert_eq!(counts, [rows as i64, rows as i64, 0, 0]);
    assert_eq!(platform.count("client3", "readings").await, rows);
    platform.until_stored("client3", "messages", 1_000, SOON).await;
    assert_eq!(platform.count("client3", "rejected").await, 0);
}
