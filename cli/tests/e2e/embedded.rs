//! Everything embedded, as on a laptop without a broker and without a database.

use mysimbdp_testbed::{Daemon, Mosquitto, Root, until, until_async};
use serde_json::{Value, json};

use crate::support::{LOADED, SOON, documents, messages, readings, stream};

/// Four batch apps and two instances of a stream app, all of them processes, write to one file.
#[tokio::test(flavor = "multi_thread")]
async fn many_processes_write_to_one_embedded_store_at_the_same_time() {
    const MESSAGES: u64 = 4_000;
    let mut client = documents("client2");
    client["micro_batching"] = json!({"block_size": "100kB"});
    let settings = json!({
        "ids": "key", "record_key": ["number"], "collection": "messages", "instances": {"min": 2, "max": 2},
    });
    client["streams"] = stream("client2", settings)["streams"].clone();
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms"}, "batch_manager": {"units_in_parallel": 4}, "clients": [client],
    }));
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let store = format!("sqlite:{}", root.path().join("state/coredms").display());
    let store = mysimbdp_store::open(&store, "mysimbdp_client2").await.expect("the embedded store");
    let broker: Value =
        serde_json::from_slice(&std::fs::read(root.path().join("state/broker.json")).expect("a broker"))
            .expect("JSON");
    let url = broker["url"].as_str().expect("its address").to_owned();
    until(SOON, "two instances run", || {
        let listed = Daemon::run(&root, &["list", "client2", "--json"], &[]);
        String::from_utf8_lossy(&listed.stdout).matches("\"running\"").count() == 2
    });

    let (content, rows) = readings(3_000_000);
    root.drop_file("client2", "weather.csv", &content);
    // So that files and messages are ingested at the same time.
    until(SOON, "the file is staged", || !root.list("staging/client2").is_empty());
    Mosquitto::publish(&url, "mysimbdp/ingest/client2/readings", &messages(0, MESSAGES));
    let count = async |collection| store.count(collection).await.expect("count");
    let all = async || (count("readings").await, count("messages").await) == (rows, MESSAGES);
    until_async(LOADED, "all is stored", all).await;
    until(SOON, "the file is archived", || root.list("staging/client2").is_empty());
    assert_eq!(
        (count("readings").await, count("messages").await, count("rejected").await),
        (rows, MESSAGES, 0)
    );
    assert!(root.list("held/client2").is_empty());
    store.close().await;
    assert!(up.interrupt().success(), "{}", up.output());
}
