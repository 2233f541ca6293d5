//! WeatherVane through outages: hours of weather from the file to their reports, whatever is unavailable in between.
//!
//! Each test ends with the same checks against the file itself: every reading is stored once and unchanged, every hour
//! is closed once, and each report has the right numbers. (Only the tests query the data: there is no API whose answers
//! a database outage could affect.)

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mysimbdp_testbed::{
    Daemon, Mongod, Mosquitto, Process, Signal, binary, mongodb, mosquitto, mqtt::MqttListener, signal,
    until, until_async,
};
use serde_json::{Value, json};

use crate::support::{LOADED, Platform, SOON, keyed_stream};

const CLIENT: &str = "weathervane";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/weather.csv");
const MEASURED: [&str; 9] =
    ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"];
/// Names in a report, and columns of the file.
const REPORTED: [(&str, &str); 4] =
    [("temperature", "temp"), ("humidity", "humid"), ("wind", "wind_speed"), ("pressure", "pressure")];

/// The pipeline on its own platform.
struct Vane {
    platform: Platform,
    broker: String,
    _manager: Daemon,
    streamers: Vec<Process>,
    /// The first hours of the file, as many as the test uses.
    file: BTreeMap<String, Vec<Row>>,
}

/// A station's row of the file: values by column, without those that are `NA`.
struct Row {
    origin: String,
    values: BTreeMap<String, f64>,
}

impl Vane {
    /// Starts everything except the streamer; broker and database may be unavailable.
    async fn new(database: &str, broker: &str, hours: usize) -> Self {
        let platform = Platform::new(database, broker, json!([keyed_stream(CLIENT)])).await;
        platform.configure(|config| config["clients"][0] = client(&platform.topic_prefix));
        let manager = platform.start("stream-manager");
        let file = rows().into_iter().take(hours).collect();
        Self { platform, broker: broker.to_owned(), _manager: manager, streamers: Vec::new(), file }
    }

    /// Waits until all four instances run: two that ingest, one that closes, one that reports.
    async fn until_running(self) -> Self {
        self.platform.until_instances(CLIENT, 4).await;
        self
    }

    /// Starts a streamer of the file's hours from index `from`; each hour takes the time `hour`.
    fn stream(&mut self, from: usize, hour: &str) {
        let log = std::fs::File::create(self.streamer_log()).expect("log of the streamer");
        let mut command = Command::new(binary("weathervane"));
        let first = self.hours().swap_remove(from);
        let count = (self.file.len() - from).to_string();
        command.args(["stream", FILE, "--config"]).arg(self.platform.root.config());
        command.args(["--from", &first, "--hours", &count, "--hour", hour, "--resend-after", "1s"]);
        command.args(["--requests", &self.requests_topic()]);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.streamers.push(Process::spawn(command));
    }

    fn streamer_log(&self) -> PathBuf {
        self.platform.root.path().join("streamer.log")
    }

    fn streamer_has_logged(&self, text: &str) -> bool {
        std::fs::read_to_string(self.streamer_log()).unwrap_or_default().contains(text)
    }

    /// The log of the apps.
    fn log(&self) -> String {
        self.platform.root.log(&format!("clients/{CLIENT}/stream.log"))
    }

    fn requests_topic(&self) -> String {
        format!("{}/weathervane/requests", self.platform.topic_prefix)
    }

    fn hours(&self) -> Vec<String> {
        self.file.keys().cloned().collect()
    }

    /// The pid of the app that closes hours, or of the one that reports.
    fn app(&self, stream: &str) -> u32 {
        let listed: Value =
            serde_json::from_str(&self.platform.command(0, &["list", CLIENT, "--json"])).expect("JSON");
        let found =
            listed.as_array().expect("instances").iter().find(|instance| instance["stream"] == stream);
        let pid = found.and_then(|instance| instance["pid"].as_u64()).expect("it runs");
        u32::try_from(pid).expect("a pid")
    }

    async fn documents(&self, collection: &str, filter: Document) -> Vec<Document> {
        let documents = self.platform.client_database(CLIENT).collection::<Document>(collection);
        let found = documents.find(filter).sort(doc! {"_id": 1}).await.expect("find");
        found.try_collect().await.expect("read")
    }

    async fn until_documents(&self, collection: &str, count: usize) {
        let what = format!("there are {count} {collection}");
        let there = async || self.platform.count(CLIENT, collection).await >= count as u64;
        until_async(LOADED, &what, there).await;
    }

    /// Waits until a batch of an hour is stored.
    async fn until_batch(&self, hour: usize, batch: i32) {
        let (hour, what) = (&self.hours()[hour], format!("batch {batch} is stored"));
        let filter = doc! {"hour": hour, "batch": batch};
        until_async(SOON, &what, async || !self.documents("batches", filter.clone()).await.is_empty()).await;
    }

    /// Waits until the streamer's outbox has all hours, whether they could be published or not.
    fn until_all_sent(&self) {
        until(SOON, "all hours are in the outbox", || self.streamer_has_logged("all hours are sent"));
    }

    /// Waits for the reports of all hours, and compares everything in the store with the file.
    async fn verify_complete(&self) {
        self.until_documents("reports", self.file.len()).await;
        let settled = async || self.documents("hours", doc! {"reported": false}).await.is_empty();
        until_async(SOON, "every hour is marked as reported", settled).await;

        let batches = self.documents("batches", doc! {}).await;
        let expected: usize = self.file.values().map(Vec::len).sum();
        assert_eq!(batches.len(), expected, "one batch for each reading");
        let stored = batches.iter().map(|batch| {
            let readings = batch.get_array("readings").expect("readings");
            assert_eq!(readings.len(), 1);
            (batch.get_str("hour").expect("hour"), readings[0].as_document().expect("a reading"))
        });
        let rows = self.file.iter().flat_map(|(hour, rows)| rows.iter().map(move |row| (hour.as_str(), row)));
        for ((hour, reading), (expected_hour, row)) in stored.zip(rows) {
            assert_eq!((hour, reading.get_str("origin").ok()), (expected_hour, Some(row.origin.as_str())));
            for column in MEASURED {
                let value = reading.get(column).and_then(Bson::as_f64);
                assert_eq!(value, row.values.get(column).copied(), "{hour} {} {column}", row.origin);
            }
        }

        let closed = self.documents("hours", doc! {}).await;
        assert_eq!(
            closed.iter().map(|hour| hour.get_str("_id").expect("hour")).collect::<Vec<_>>(),
            self.hours()
        );
        let log = self.log();
        for hour in self.hours() {
            let times = log.lines().filter(|line| line.contains(&format!("closed hour={hour}"))).count();
            assert!(times <= 1, "{hour} is closed {times} times");
        }
        self.assert_reports().await;
        assert_eq!(self.documents("rejected", doc! {}).await, Vec::<Document>::new());
    }

    async fn assert_reports(&self) {
        for report in self.documents("reports", doc! {}).await {
            let hour = report.get_str("_id").expect("hour");
            let day: Vec<_> =
                self.file.range(..=hour.to_owned()).filter(|(other, _)| other[..10] == hour[..10]).collect();
            assert_eq!(report.get_str("day").ok(), Some(&hour[..10]));
            assert_eq!(crate::support::number(&report, "hours_of_day"), day.len() as i64);
            let stations = report.get_document("stations").expect("stations");
            for origin in ["EWR", "JFK", "LGA"] {
                let values = |of_hour: bool, column: &str| -> Vec<f64> {
                    let hours = day.iter().filter(|(other, _)| !of_hour || *other == hour);
                    let rows = hours.flat_map(|(_, rows)| rows.iter().filter(|row| row.origin == origin));
                    rows.filter_map(|row| row.values.get(column).copied()).collect()
                };
                for (period, of_hour) in [("hour", true), ("day", false)] {
                    for (name, column) in REPORTED {
                        let summary = stations
                            .get_document(origin)
                            .and_then(|station| station.get_document(period))
                            .and_then(|measured| measured.get_document(name));
                        let summary =
                            summary.unwrap_or_else(|error| panic!("{hour} {origin} {name}: {error}"));
                        assert_summary(
                            summary,
                            &values(of_hour, column),
                            &format!("{hour} {origin} {period} {name}"),
                        );
                    }
                }
            }
        }
    }
}

/// Asserts that a summary has the count, minimum, maximum and mean of these values.
fn assert_summary(summary: &Document, values: &[f64], what: &str) {
    let number = |name: &str| summary.get(name).and_then(Bson::as_f64);
    assert_eq!(crate::support::number(summary, "count"), values.len() as i64, "{what}");
    assert_eq!(number("min"), values.iter().copied().reduce(f64::min), "{what}");
    assert_eq!(number("max"), values.iter().copied().reduce(f64::max), "{what}");
    match number("mean") {
        None => assert!(values.is_empty(), "{what}"),
        Some(mean) => {
            let expected = values.iter().sum::<f64>() / values.len() as f64;
            assert!((mean - expected).abs() < 1e-9, "{what}: mean {mean}, expected {expected}");
        }
    }
}

/// The hours of the file, ascending, each with its rows ordered by station.
fn rows() -> BTreeMap<String, Vec<Row>> {
    let text = std::fs::read_to_string(FILE).expect("the weather file");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let mut hours: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for line in lines {
        let fields: BTreeMap<&str, &str> = header.iter().copied().zip(line.split(',')).collect();
        let number = |column: &&str| Some(((*column).to_owned(), fields[column].parse().ok()?));
        let values = MEASURED.iter().filter_map(number).collect();
        let row = Row { origin: fields["origin"].to_owned(), values };
        hours.entry(fields["time_hour"].to_owned()).or_default().push(row);
    }
    for rows in hours.values_mut() {
        rows.sort_by(|one, other| one.origin.cmp(&other.origin));
    }
    hours
}

/// The example's client, with this test's topics and shorter waits.
fn client(prefix: &str) -> Value {
    let example = include_str!("../../../client-apps/weathervane/config.json");
    let example: Value =
        serde_json::from_str(&example.replace("mysimbdp/", &format!("{prefix}/"))).expect("JSON");
    let mut client = example["clients"][0].clone();
    let close = client["streams"][1]["command"].as_array_mut().expect("a command");
    close.extend([json!("--delay"), json!("1s")]);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn weathervane_broker_down_before_any_data() {
    let mut broker = Mosquitto::start();
    broker.stop();
    let mut vane = Vane::new(mongodb().url(), &broker.url(), 3).await;
    vane.stream(0, "200ms");
    vane.until_all_sent();
    assert_eq!(vane.platform.count(CLIENT, "batches").await, 0);
    broker.restart();
    vane.verify_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weathervane_broker_down_between_two_hours() {
    let mut broker = Mosquitto::start();
    let mut vane = Vane::new(mongodb().url(), &broker.url(), 4).await.until_running().await;
    vane.stream(0, "1s");
    vane.until_documents("hours", 1).await;
    broker.stop();
    vane.until_all_sent();
    broker.restart();
    vane.verify_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weathervane_broker_down_in_the_middle_of_an_hour() {
    let mut broker = Mosquitto::start();
    let mut vane = Vane::new(mongodb().url(), &broker.url(), 3).await.until_running().await;
    vane.stream(0, "2s");
    vane.until_batch(1, 1).await;
    broker.kill9();
    broker.restart();
    vane.verify_complete().await;
}

/// The first two hours come from elsewhere and are incomplete: one batch of the second is missing, and all of the first.
#[tokio::test(flavor = "multi_thread")]
async fn weathervane_broker_down_while_missing_data_is_asked_for_again() {
    let mut broker = Mosquitto::start();
    let mut vane = Vane::new(mongodb().url(), &broker.url(), 5).await.until_running().await;
    let requests = MqttListener::subscribe(&broker.url(), &vane.requests_topic());
    let hours = vane.hours();
    for (batch, row) in vane.file[&hours[1]].iter().enumerate().take(2) {
        let mut reading = json!({"origin": row.origin});
        for column in MEASURED {
            reading[column] = json!(row.values.get(column));
        }
        let message = json!({"hour": hours[1], "previous": hours[0], "batch": batch, "batches": 3, "readings": [reading]});
        let topic = format!("{}/ingest/{CLIENT}/elsewhere", vane.platform.topic_prefix);
        Mosquitto::publish(&broker.url(), &topic, &format!("{message}\n"));
    }
    let request = |hour: usize, missing: Value| json!({"hour": hours[hour], "missing": missing});
    until(SOON, "exactly the missing data is requested", || {
        let received: Vec<Value> =
            requests.messages().iter().map(|(_, text)| serde_json::from_str(text).expect("JSON")).collect();
        received.contains(&request(1, json!([2]))) && received.contains(&request(0, Value::Null))
    });
    broker.kill9();
    vane.stream(2, "300ms");
    vane.until_all_sent();
    broker.restart();
    until(SOON, "it is sent again", || vane.streamer_has_logged("sent again as requested"));
    broker.kill9();
    broker.restart();
    vane.verify_complete().await;
    let times = vane.log().matches("missing batches requested").count();
    assert!(times <= 40, "asked {times} times, which is a busy loop");
}

/// All data is stored when the broker becomes unavailable, and the apps that close and report must find that out
/// without a message.
#[tokio::test(flavor = "multi_thread")]
async fn weathervane_broker_down_after_the_data_and_before_the_notification() {
    let mut broker = Mosquitto::start();
    let mut vane = Vane::new(mongodb().url(), &broker.url(), 3).await.until_running().await;
    let closer = vane.app("close");
    signal(closer, Signal::STOP);
    vane.stream(0, "200ms");
    vane.until_documents("batches", vane.file.values().map(Vec::len).sum()).await;
    broker.kill9();
    signal(closer, Signal::CONT);
    vane.verify_complete().await;
    broker.restart();
}

#[tokio::test(flavor = "multi_thread")]
async fn weathervane_broker_down_over_several_hours() {
    let mut broker = Mosquitto::start();
    let mut vane = Vane::new(mongodb().url(), &broker.url(), 12).await.until_running().await;
    vane.stream(0, "400ms");
    vane.until_documents("hours", 1).await;
    broker.kill9();
    vane.until_all_sent();
    assert!(vane.platform.count(CLIENT, "hours").await < 8, "most hours were sent during the outage");
    broker.restart();
    vane.verify_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weathervane_database_down_when_data_is_to_be_stored() {
    let mut database = Mongod::start();
    let mut vane = Vane::new(&database.url(), mosquitto().url(), 6).await.until_running().await;
    vane.stream(0, "400ms");
    vane.until_documents("hours", 1).await;
    database.kill9();
    vane.until_all_sent();
    database.restart();
    vane.verify_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weathervane_database_down_while_a_report_is_computed() {
    let mut database = Mongod::start();
    let mut vane = Vane::new(&database.url(), mosquitto().url(), 3).await.until_running().await;
    let reporter = vane.app("report");
    signal(reporter, Signal::STOP);
    vane.stream(0, "200ms");
    vane.until_documents("hours", 3).await;
    // It keeps its connections and answers nothing, so the reporter's queries are in flight when it dies.
    database.pause();
    signal(reporter, Signal::CONT);
    database.kill9();
    until(SOON, "the report has failed", || vane.log().contains("cycle failed"));
    database.restart();
    vane.verify_complete().await;
}

/// A killed streamer continues after the last batch in its outbox; without its outbox it starts again with other numbers.
#[tokio::test(flavor = "multi_thread")]
async fn weathervane_streamer_killed_in_the_middle_of_an_hour_and_then_its_outbox_lost() {
    let mut vane = Vane::new(mongodb().url(), mosquitto().url(), 4).await.until_running().await;
    vane.stream(0, "1s");
    vane.until_batch(1, 1).await;
    vane.streamers[0].kill9();
    vane.stream(0, "1s");
    vane.until_batch(2, 1).await;
    vane.streamers[1].kill9();
    let outbox = vane.platform.root.path().join("state/edge").join(CLIENT).join("streamer");
    std::fs::remove_dir_all(outbox).expect("the outbox is there");
    vane.stream(0, "200ms");
    vane.verify_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weathervane_no_outage_at_all_a_whole_day() {
    let mut vane = Vane::new(mongodb().url(), mosquitto().url(), 24).await.until_running().await;
    assert_eq!(vane.broker, mosquitto().url());
    vane.stream(0, "250ms");
    vane.verify_complete().await;
    let streamer = std::fs::read_to_string(vane.streamer_log()).expect("log of the streamer");
    for log in [vane.platform.root.log("stream-manager.log"), vane.log(), streamer] {
        let warnings: Vec<&str> =
            log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}
