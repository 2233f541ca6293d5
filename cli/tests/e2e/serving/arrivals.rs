//! Arrival contracts, through the whole platform: a due time that is missed, a late file, one that is too small, one too many.
//!
//! A contract is due each minute, so this waits for the next full one.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mysimbdp_testbed::{Daemon, Signal, descendants, signal, until};
use serde_json::{Value, json};

use super::events::listen;
use super::{Served, on_both};
use crate::support::{SOON, documents};

on_both! {
    each_due_time_is_judged_once_and_shown_everywhere_whatever_is_killed,
}

const WARNINGS: [&str; 3] = [
    "no file has arrived for a due time",
    "a file has fewer records than expected",
    "another file has arrived for a due time that had one",
];

/// The client's contract, as the API has it.
fn item(served: &Served) -> Value {
    served.http.get("/api/arrivals?client=client1").expect(200)["items"][0].clone()
}

/// Waits until the latest due time of which something is known has this state, and returns it.
fn until_recent(served: &Served, state: &str) -> Value {
    until(SOON, &format!("the latest due time is {state}"), || item(served)["recent"][0]["state"] == state);
    item(served)["recent"][0].clone()
}

/// Waits for the beginning of a minute: the following steps are about one due time.
fn until_minute_begins() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() % 60;
    until(Duration::from_secs(90), "a minute has begun", || (1..20).contains(&second()));
}

/// How often each due time was warned of.
fn warnings(served: &Served) -> BTreeMap<String, usize> {
    let log = served.root.log("batch-manager.log");
    let lines = log.lines().filter(|line| WARNINGS.iter().any(|text| line.contains(text)));
    let mut warnings = BTreeMap::new();
    for line in lines.filter(|line| line.contains("WARN")) {
        let due = line.split("due=").nth(1).and_then(|rest| rest.split_whitespace().next());
        *warnings.entry(due.expect("a due time").to_owned()).or_default() += 1;
    }
    warnings
}

/// A sample of the contract's metrics.
fn sample(served: &Served, name: &str, labels: &str) -> Option<f64> {
    let answer = served.http.get("/metrics");
    let prefix = format!("{name}{{");
    let mut lines = answer.text().lines().filter(|line| line.starts_with(&prefix));
    let line = lines.find(|line| line.contains("contract=\"sales\"") && line.contains(labels))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn each_due_time_is_judged_once_and_shown_everywhere_whatever_is_killed(coredms: &Value) {
    let mut client = documents("client1");
    client["apps"][0]["expect"] = json!([
        {"name": "sales", "files": "sales-*.csv", "by": "00:00", "every": "1m", "zone": "Europe/Helsinki", "records_min": 2},
    ]);
    let served = Served::start(coredms, json!([client, documents("client2")]));
    assert_eq!(item(&served)["state"], "expected");
    let (_connection, events) = listen(&served.http, "/events?client=client1", None);

    until(SOON, "the first due time is missed", || item(&served)["state"] == "missing");
    let missing = item(&served);
    served.root.drop_file("client1", "other.csv", b"a,b\n1,2\n1,2\n");
    served.root.drop_file("client1", "sales-late.csv", b"a,b\n1,2\n3,4\n");
    until(SOON, "the file is late", || {
        let items = item(&served)["recent"].as_array().cloned().unwrap_or_default();
        items.iter().any(|due| due["state"] == "late" && due["due"] == missing["due"] && due["records"] == 2)
    });
    let mut seen = Vec::new();
    while !seen.iter().any(|(state, due)| *state == "late" && *due == missing["due"]) {
        let event = events.recv_timeout(SOON).expect("an event");
        if event.name == "arrival" {
            assert_eq!(event.data["contract"], "sales");
            let recent = event.data["recent"].as_array().cloned().unwrap_or_default();
            seen.extend(recent.iter().map(|due| (due["state"].clone(), due["due"].clone())));
        }
    }
    assert!(seen.iter().any(|(state, due)| *state == "missing" && *due == missing["due"]), "{seen:?}");

    until_minute_begins();
    served.root.drop_file("client1", "sales-small.csv", b"a,b\n5,6\n");
    let small = until_recent(&served, "too_small");
    assert_eq!((&small["file"], &small["records"]), (&json!("sales-small.csv"), &json!(1)));
    let batch_manager = || {
        let words = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut children = descendants(served.up.pid()).into_iter();
        children.find(|pid| words(pid).split('\0').any(|word| word == "batch-manager"))
    };
    let killed = batch_manager().expect("it runs");
    signal(killed, Signal::KILL);
    until(SOON, "it runs again", || batch_manager().is_some_and(|pid| pid != killed));

    until_minute_begins();
    served.root.drop_file("client1", "sales-1.csv", b"a,b\n7,8\n9,10\n");
    served.root.drop_file("client1", "sales-2.csv", b"a,b\n11,12\n13,14\n");
    served.root.drop_file("client1", "sales-3.csv", b"a,b\n15,16\n17,18\n");
    until_recent(&served, "repeated");
    assert!(
        sample(&served, "mysimbdp_arrivals_total", "outcome=\"repeated\"").is_some_and(|count| count >= 1.0)
    );
    assert!(
        sample(&served, "mysimbdp_arrival_due_timestamp_seconds", "client1")
            .is_some_and(|due| due % 60.0 == 0.0)
    );
    until(SOON, "a due time is missed again", || {
        sample(&served, "mysimbdp_arrival_overdue", "client1") == Some(1.0)
    });
    let warnings = warnings(&served);
    assert!(warnings.len() >= 3 && warnings.values().all(|count| *count == 1), "{warnings:?}");

    let shown = Daemon::run(&served.root, &["status"], &[]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("sales-*.csv") && shown.contains("next due"), "{shown}");
    let status = Daemon::run(&served.root, &["status", "--json"], &[]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["arrivals"][0]["contract"], "sales", "{status}");
    let table = served.http.get_as("/api/arrivals", "text/csv");
    assert!(table.text().starts_with("client,contract,app,files,"), "{}", table.text());
    assert!(
        served.http.get("/api/arrivals?client=client2").expect(200)["items"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    served.http.get("/api/arrivals?client=nobody").expect(404);

    // Without the contract nothing is overdue.
    let text = std::fs::read_to_string(served.root.config()).expect("read config.json");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["clients"][0]["apps"][0].as_object_mut().expect("an app").remove("expect");
    served.root.configure(&config);
    until(SOON, "its metrics are gone", || sample(&served, "mysimbdp_arrival", "client1").is_none());
    until(SOON, "it is gone", || {
        served.http.get("/api/arrivals").expect(200)["items"].as_array().is_some_and(Vec::is_empty)
    });
    served.stop();
}
