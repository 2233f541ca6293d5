//! The broker or the database becomes unavailable and returns.

use mysimbdp_testbed::{Mongod, Mosquitto, mongodb, mosquitto, until};
use serde_json::json;

use crate::support::{LOADED, Platform, SOON, documents, keyed_stream, messages, number, readings, stream};

/// The staged notification cannot be sent: batch-manager finds the file by its own scan.
#[tokio::test(flavor = "multi_thread")]
async fn broker_down_after_the_file_is_staged_and_before_the_notification() {
    let mut broker = Mosquitto::start();
    let url = broker.url();
    let platform = Platform::new(mongodb().url(), &url, json!([documents("client2")])).await;
    broker.kill9();
    let (content, rows) = readings(100_000);
    platform.root.drop_file("client2", "weather.csv", &content);
    let _fetchdata = platform.start("fetchdata");
    until(SOON, "the file is staged", || platform.root.list("staging/client2").len() == 1);
    let _batch_manager = platform.start("batch-manager");
    platform.until_ingested("client2", 1, SOON).await;
    assert_eq!(platform.count("client2", "readings").await, rows);
}

/// The broker is unavailable between two hours of data. The second hour is published once the instance has subscribed
/// again: before that mosquitto delivers messages to nobody, as it forgets shared subscriptions when it restarts.
#[tokio::test(flavor = "multi_thread")]
async fn broker_down_between_two_hours_of_data() {
    let mut broker = Mosquitto::start();
    let url = broker.url();
    let platform = Platform::new(mongodb().url(), &url, json!([keyed_stream("client3")])).await;
    let topic = platform.ingest_topic("client3");
    let _stream_manager = platform.start("stream-manager");
    platform.until_instances("client3", 1).await;

    Mosquitto::publish(&url, &topic, &messages(0, 500));
    platform.until_stored("client3", "readings", 500, SOON).await;
    broker.stop();
    broker.restart();
    until(SOON, "the instance is subscribed again", || {
        platform.root.log("clients/client3/stream.log").contains("connected to the broker again")
    });
    Mosquitto::publish(&url, &topic, &messages(500, 500));
    platform.until_stored("client3", "readings", 1000, SOON).await;
}

/// No message is acknowledged before the database has it, and nothing is lost or held because the database was unavailable.
#[tokio::test(flavor = "multi_thread")]
async fn database_down_when_data_is_to_be_stored() {
    let mut database = Mongod::start();
    let clients = json!([documents("client2"), keyed_stream("client3")]);
    let platform = Platform::new(&database.url(), mosquitto().url(), clients).await;
    let topic = platform.ingest_topic("client3");
    let _daemons = ["fetchdata", "batch-manager", "stream-manager"].map(|kind| platform.start(kind));
    platform.until_instances("client3", 1).await;

    database.kill9();
    let (content, rows) = readings(500_000);
    platform.root.drop_file("client2", "weather.csv", &content);
    Mosquitto::publish(mosquitto().url(), &topic, &messages(0, 2000));
    until(SOON, "the file waits in staging", || platform.root.list("staging/client2").len() == 1);

    database.restart();
    let run = &platform.until_ingested("client2", 1, LOADED).await[0];
    assert_eq!((number(run, "stored"), number(run, "rejected")), (rows as i64, 0));
    assert_eq!(platform.count("client2", "readings").await, rows);
    platform.until_stored("client3", "readings", 2000, LOADED).await;
    assert!(platform.root.list("held/client2").is_empty());
}

/// 24 files and 24 bursts, one for each hour, without any fault: everything is stored, and nothing logs a warning.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_day_of_data_without_an_outage() {
    let clients = json!([documents("client2"), stream("client3", json!({}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let topic = platform.ingest_topic("client3");
    let mut daemons = ["fetchdata", "batch-manager", "stream-manager"].map(|kind| platform.start(kind));
    platform.until_instances("client3", 1).await;
    let mut rows = 0;
    for hour in 0..24 {
        // Each hour's file has different content.
        let (content, count) = readings(20_000 + hour * 100);
        platform.root.drop_file("client2", &format!("hour-{hour:02}.csv"), &content);
        Mosquitto::publish(mosquitto().url(), &topic, &messages(hour as u64 * 100, 100));
        rows += count;
    }
    platform.until_ingested("client2", 24, SOON).await;
    platform.until_stored("client2", "readings", rows, SOON).await;
    platform.until_stored("client3", "readings", 2400, SOON).await;
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
    for log in ["fetchdata.log", "batch-manager.log", "stream-manager.log", "clients/client3/stream.log"] {
        let warnings: Vec<String> = platform
            .root
            .log(log)
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
            .map(str::to_owned)
            .collect();
        assert!(warnings.is_empty(), "{log}: {warnings:#?}");
    }
}
