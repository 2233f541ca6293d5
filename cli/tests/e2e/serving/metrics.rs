//! Metrics: what all processes have counted, in the text format of Prometheus.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use mysimbdp_testbed::{Daemon, Http, Mosquitto, Signal, mongodb, mosquitto, promtool, signal, until};
use serde_json::{Value, json};

use super::{Served, url};
use crate::support::{Platform, SOON, documents, messages, stream};

/// The name of a sample, labels of it, and its value.
type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// What one scrape has answered.
struct Scraped(String);

impl Scraped {
    fn of(http: &Http) -> Self {
        let answer = http.get("/metrics");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self(answer.text().to_owned())
    }

    /// The sum of the samples of this name with these labels; `None` if there is none.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has =
            |sample: &str, (label, value): &(&str, &str)| sample.contains(&format!("{label}=\"{value}\""));
        let of_name = self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let matching = of_name.filter(|sample| labels.iter().all(|label| has(sample, label)));
        let values = matching.filter_map(|sample| sample.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.fold(None, |sum, value| Some(sum.unwrap_or_default() + value))
    }

    /// All series, without their values.
    fn series(&self) -> BTreeSet<&str> {
        let samples = self.0.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect()
    }

    fn assert_valid(&self) {
        let mut check = Command::new(promtool())
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start promtool");
        check.stdin.take().expect("its stdin").write_all(self.0.as_bytes()).expect("write to promtool");
        let output = check.wait_with_output().expect("promtool ends");
        let printed =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.is_empty(), "{printed}\n{}", self.0);
    }
}

/// A client whose app refuses every file.
fn refusing(id: &str) -> Value {
    let command = json!(["sh", "-c", "cat > /dev/null; exit 65"]);
    json!({"id": id, "apps": [{"name": "app", "command": command, "collection": "records", "ids": "none"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_equal_what_was_dropped_and_begin_again_with_their_process() {
    let mut times = documents("client1");
    times["apps"][0]["command"] = json!(["document-app", "--type", "time=date"]);
    times["apps"][0]["rejects_max"] = json!("100%");
    let clients = json!([times, refusing("client2"), stream("client3", json!({"name": "readings"}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    platform.set("serving", json!({"listen": "127.0.0.1:0"}));
    let _fetchdata = platform.start("fetchdata");
    let mut batch_manager = platform.start("batch-manager");
    let _stream_manager = platform.start("stream-manager");
    let _serve = platform.start("serve");
    platform.until_instances("client3", 1).await;
    let http = Http::new(&url(platform.root.path()));
    Mosquitto::publish(mosquitto().url(), &platform.ingest_topic("client3"), &messages(0, 120));
    let mut bytes = 0;
    for file in 0..20 {
        let rows: String = (0..9).map(|row| format!("{file}-{row},2013-01-01T00:00:00Z\n")).collect();
        let content = format!("name,time\n{rows}{file}-9,never\n");
        bytes += content.len();
        platform.root.drop_file("client1", &format!("{file}.csv"), content.as_bytes());
    }
    for file in 0..3 {
        platform.root.drop_file("client1", &format!("bad-{file}.csv"), format!("a,b\n\"{file}\n").as_bytes());
    }
    platform.root.drop_file("client1", "empty.csv", b"");
    platform.root.drop_file("client2", "refused.csv", b"a,b\n1,2\n");

    let app = [("client", "client1"), ("app", "documents")];
    let expected: [Expected<'_>; 26] = [
        ("mysimbdp_records_received_total", &app, 200.0),
        ("mysimbdp_records_stored_total", &app, 180.0),
        ("mysimbdp_records_rejected_total", &app, 20.0),
        ("mysimbdp_records_duplicate_total", &app, 0.0),
        (
            "mysimbdp_files_ended_total",
            &[("client", "client1"), ("state", "ingested"), ("code", "none")],
            20.0,
        ),
        ("mysimbdp_files_ended_bytes_total", &[("client", "client1"), ("state", "ingested")], bytes as f64),
        ("mysimbdp_files_ended_total", &[("client", "client1"), ("code", "invalid_quotes")], 3.0),
        ("mysimbdp_files_ended_total", &[("client", "client1"), ("code", "empty")], 1.0),
        ("mysimbdp_files_ended_total", &[("state", "discarded")], 4.0),
        (
            "mysimbdp_files_ended_total",
            &[("client", "client2"), ("state", "held"), ("code", "data_refused")],
            1.0,
        ),
        ("mysimbdp_files_staged_total", &[("client", "client1"), ("lane", "live")], 20.0),
        ("mysimbdp_attempts_total", &[("client", "client1"), ("result", "done")], 20.0),
        ("mysimbdp_attempts_total", &[("client", "client2"), ("result", "hopeless")], 1.0),
        ("mysimbdp_app_exits_total", &[("client", "client2"), ("result", "bad_data")], 1.0),
        ("mysimbdp_stage_duration_seconds_count", &[("client", "client1"), ("stage", "whole")], 20.0),
        ("mysimbdp_files", &[("client", "client2"), ("state", "held")], 1.0),
        ("mysimbdp_files", &[("client", "client1"), ("state", "discarded")], 4.0),
        ("mysimbdp_files", &[("state", "waiting")], 0.0),
        ("mysimbdp_staged_files", &[], 0.0),
        ("mysimbdp_stream_messages_total", &[("client", "client3"), ("stream", "readings")], 120.0),
        ("mysimbdp_stream_messages_total", &[("outcome", "stored")], 120.0),
        ("mysimbdp_stream_instances_running", &[("client", "client3")], 1.0),
        ("mysimbdp_stream_restarts_total", &[], 0.0),
        ("mysimbdp_broker_up", &[], 1.0),
        ("mysimbdp_store_up", &[], 1.0),
        ("mysimbdp_up", &[], 4.0),
    ];
    let differing = || {
        let scraped = Scraped::of(&http);
        let differs = |(name, labels, value): &&Expected<'_>| scraped.value(name, labels) != Some(*value);
        expected.iter().find(differs).map(|(name, labels, value)| {
            format!("{name} {labels:?} is {:?} and not {value}", scraped.value(name, labels))
        })
    };
    let waited = std::time::Instant::now();
    while let Some(differing) = differing() {
        assert!(waited.elapsed() < SOON, "{differing}\n{}", Scraped::of(&http).0);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let scraped = Scraped::of(&http);
    scraped.assert_valid();
    assert!(scraped.value("mysimbdp_staging_free_bytes", &[]).is_some_and(|bytes| bytes > 0.0));
    assert!(scraped.value("mysimbdp_last_success_timestamp_seconds", &app).is_some_and(|time| time > 1.7e9));
    assert!(
        scraped.value("mysimbdp_stream_acknowledgement_seconds_total", &[]).is_some_and(|time| time > 0.0)
    );
    assert_eq!(scraped.value("mysimbdp_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(4.0));

    // Each process can be asked alone, as curl does.
    let sockets = platform.root.path().join("state/metrics");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!((mode(&sockets), mode(&sockets.join("batch-manager.sock"))), (0o700, 0o600));
    let mut stream = UnixStream::connect(sockets.join("batch-manager.sock")).expect("connect");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{answer}");
    assert!(
        answer.contains("mysimbdp_records_stored_total{client=\"client1\",app=\"documents\"} 180\n"),
        "{answer}"
    );

    batch_manager.kill9();
    let scraped = Scraped::of(&http);
    assert_eq!(scraped.value("mysimbdp_up", &[("process", "batch-manager")]), Some(0.0));
    assert_eq!(scraped.value("mysimbdp_up", &[("process", "fetchdata")]), Some(1.0));
    assert_eq!(scraped.value("mysimbdp_records_stored_total", &app), None);
    scraped.assert_valid();
    let _batch_manager = platform.start("batch-manager");
    until(SOON, "it answers again, and counts from 0", || {
        let scraped = Scraped::of(&http);
        scraped.value("mysimbdp_up", &[("process", "batch-manager")]) == Some(1.0)
            && scraped.value("mysimbdp_records_stored_total", &app) == Some(0.0)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_answers_at_an_address_of_its_own_and_through_the_http_server() {
    let clients = json!([stream("client1", json!({"name": "readings"}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    platform.set("serving", json!({"listen": "127.0.0.1:0"}));
    let _stream_manager = platform.start("stream-manager");
    let _serve = platform.start("serve");
    platform.until_instances("client1", 1).await;
    let lines = platform.root.path().join("lines");
    std::fs::write(&lines, messages(0, 50)).expect("write lines");
    let words = ["edge", "--client", "client1", "--source", "sensor.1", "--metrics-listen", "127.0.0.1:0"];
    let followed = lines.to_string_lossy();
    let words = [&words[..], &["--follow", &followed]].concat();
    let mut edge = Daemon::start(&platform.root, &words, &[]);
    edge.until_output(SOON, "serving metrics");
    let output = edge.output();
    let (_, address) = output.split_once("address=").expect("an address");
    let address = address.split_whitespace().next().expect("an address").trim_matches('"');
    let own = Http::new(&format!("http://{address}"));
    let labels = [("client", "client1"), ("source", "sensor.1")];
    let value = |scraped: &Scraped, name: &str| scraped.value(&format!("mysimbdp_edge_{name}"), &labels);
    until(SOON, "all messages are confirmed", || {
        value(&Scraped::of(&own), "messages_confirmed_total") == Some(50.0)
    });
    let scraped = Scraped::of(&own);
    scraped.assert_valid();
    for (name, expected) in [
        ("outbox_messages", 0.0),
        ("outbox_oldest_age_seconds", 0.0),
        ("outbox_capacity_bytes", f64::from(256 << 20)),
        ("messages_accepted_total", 50.0),
        ("messages_refused_total", 0.0),
        ("broker_connected", 1.0),
        ("broker_reconnects_total", 0.0),
    ] {
        assert_eq!(value(&scraped, name), Some(expected), "{name}\n{}", scraped.0);
    }
    for (name, least) in [
        ("messages_published_total", 50.0),
        ("messages_acknowledged_total", 50.0),
        ("outbox_used_bytes", 50.0),
    ] {
        assert!(value(&scraped, name).is_some_and(|value| value >= least), "{name}\n{}", scraped.0);
    }
    assert_eq!(own.get("/").status, 404);

    let all = Http::new(&url(platform.root.path()));
    let process = ("process", "edge.client1.sensor.1");
    let scraped = Scraped::of(&all);
    scraped.assert_valid();
    assert_eq!(scraped.value("mysimbdp_edge_messages_confirmed_total", &[process]), Some(50.0));
    assert_eq!(scraped.value("mysimbdp_build_info", &[process]), Some(1.0));
    assert_eq!(scraped.value("mysimbdp_up", &[process]), None);

    let refused = platform.command(69, &["fetchdata", "--metrics-listen", address]);
    assert!(refused.contains(&format!("cannot serve metrics on {address}: ")), "{refused}");
    assert!(edge.terminate().success(), "{}", edge.output());
    let scraped = Scraped::of(&all);
    assert_eq!(scraped.value("mysimbdp_edge_messages_confirmed_total", &[process]), None);
    scraped.assert_valid();
}

#[test]
fn series_stay_the_same_however_many_files_there_are_and_restarts_are_counted() {
    let served = Served::start(&json!({}), json!([documents("client1")]));
    let ended = |state| Scraped::of(&served.http).value("mysimbdp_files_ended_total", &[("state", state)]);
    let drop_both = |number: u32| {
        let content = format!("a,b\n{number},1\n");
        served.root.drop_file("client1", &format!("file-{number}.csv"), content.as_bytes());
        served.root.drop_file(
            "client1",
            &format!("bad-{number}.csv"),
            format!("a,b\n\"{number}\n").as_bytes(),
        );
    };
    drop_both(0);
    until(SOON, "the first two have ended", || {
        ended("ingested") == Some(1.0) && ended("discarded") == Some(1.0)
    });
    let before = Scraped::of(&served.http);
    (1..100).for_each(drop_both);
    until(SOON, "200 files have ended", || {
        ended("ingested") == Some(100.0) && ended("discarded") == Some(100.0)
    });
    let after = Scraped::of(&served.http);
    assert_eq!(before.series(), after.series());
    assert!(!after.0.contains("file-") && !after.0.contains("bad-"), "{}", after.0);
    after.assert_valid();
    assert_eq!(after.value("mysimbdp_up", &[]), Some(6.0));

    let state = served.http.get("/readyz?verbose").expect(200);
    let part = state["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .find(|part| part["name"] == "stream-manager")
        .expect("a part");
    let pid =
        part["text"].as_str().and_then(|text| text.strip_prefix("pid ")?.split(',').next()?.parse().ok());
    signal(pid.unwrap_or_else(|| panic!("no pid in {part}")), Signal::KILL);
    let restarted = [("process", "stream-manager")];
    until(SOON, "the restart is counted", || {
        let scraped = Scraped::of(&served.http);
        scraped.value("mysimbdp_process_restarts_total", &restarted) == Some(1.0)
            && scraped.value("mysimbdp_up", &restarted) == Some(1.0)
    });
    served.stop();
}

#[test]
fn the_documented_alerts_are_valid_and_fire_when_they_should() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for words in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let output = Command::new(promtool()).args(words).current_dir(&docs).output().expect("run promtool");
        assert!(output.status.success(), "{output:?}");
    }
}
