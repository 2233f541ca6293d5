//! Windows over views: the numbers of a plain computation, whatever order the readings came in, and the same as events.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mysimbdp_testbed::{Mosquitto, until};
use serde_json::{Value, json};

use super::events::{Event, listen};
use super::{Served, on_both};
use crate::support::SOON;

on_both! {
    windows_are_those_of_a_plain_computation_also_after_a_crash_and_a_file,
    events_of_closed_windows_end_with_what_a_query_answers,
    a_repeated_query_is_answered_from_memory_until_a_file_is_ingested,
    what_is_kept_of_a_stream_is_dropped_when_a_reading_is_stored,
    wrong_parameters_are_named_with_what_is_allowed,
}

/// Times are far in the past, so the clock must not close windows.
const NEVER: &str = "36500d";

fn client() -> Value {
    let windows = json!({
        "lateness": "10s", "idle": NEVER, "publish": [{"size": "1m", "fields": ["v", "m.w"]}],
    });
    json!({
        "id": "client1",
        "apps": [
            {"name": "plain", "files": ["plain*"], "command": ["document-app"]},
            {"name": "files", "command": ["document-app"], "ids": "key", "record_key": ["n"], "collection": "corrected"},
        ],
        "streams": [{
            "name": "live", "command": ["stream-app"], "ids": "key", "record_key": ["n"], "instances": {"min": 1, "max": 1},
        }],
        "views": {
            "all": {
                "batch": "corrected", "stream": "live", "time": "at", "time_type": "text", "source": "station", "windows": windows,
            },
            "plain": {"batch": "plain", "time": "at", "time_type": "text", "source": "station"},
            "single": {"stream": "live", "time": "at", "time_type": "text"},
        },
    })
}

/// A reading: its number, second, and two numbers, one of which may be none.
#[derive(Clone, Copy, Debug)]
struct Reading {
    n: u32,
    second: u32,
    v: Option<f64>,
    w: f64,
}

impl Reading {
    fn station(&self) -> String {
        format!("s{}", self.n % 3)
    }

    fn message(&self) -> String {
        let at = time(self.second);
        let v = self.v.map_or(json!("broken"), Value::from);
        let message = json!({"n": self.n, "at": at, "station": self.station(), "v": v, "m": {"w": self.w}});
        format!("{message}\n")
    }
}

fn time(second: u32) -> String {
    format!("2026-01-01T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// One reading a second from `first` on, in disorder.
fn readings(first: u32, count: u32) -> Vec<Reading> {
    let reading = |index: u32| {
        // 7919 is a prime, so that every second is there once.
        let second = first + index * 7_919 % count;
        let v = f64::from(second * 37 % 101) / 7.0 - 3.0;
        Reading {
            n: second,
            second,
            v: Some(v).filter(|_| !second.is_multiple_of(11)),
            w: f64::from(second * 13 % 29),
        }
    };
    (0..count).map(reading).collect()
}

/// Window, source and field, with the numbers.
type Numbers = BTreeMap<(String, String, &'static str), [f64; 5]>;

/// The windows of a minute, computed without the platform.
fn plain(readings: &[Reading]) -> Numbers {
    let mut in_order = readings.to_vec();
    in_order.sort_by_key(|reading| reading.second);
    let mut windows = Numbers::new();
    for reading in in_order {
        for (field, number) in [("v", reading.v), ("m.w", Some(reading.w))] {
            let Some(number) = number else { continue };
            let key = (time(reading.second / 60 * 60), reading.station(), field);
            let [count, min, max, mean, squares] =
                windows.entry(key).or_insert([0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0]);
            *count += 1.0;
            *min = min.min(number);
            *max = max.max(number);
            let distance = number - *mean;
            *mean += distance / *count;
            *squares += distance * (number - *mean);
        }
    }
    for [count, _, _, _, squares] in windows.values_mut() {
        *squares = (*squares / *count).sqrt();
    }
    windows
}

fn numbers_of(item: &Value) -> [f64; 5] {
    ["count", "min", "max", "mean", "stddev"].map(|name| item[name].as_f64().expect("a number"))
}

fn field_of(item: &Value) -> &'static str {
    if item["field"] == "v" { "v" } else { "m.w" }
}

/// What a query answers, to the last bit.
fn answered(served: &Served, view: &str) -> (Numbers, Vec<Value>) {
    let path = format!("/api/clients/client1/windows?view={view}&size=1m&fields=v,m.w&limit=5000");
    let answer = served.http.get_as(&path, "application/x-ndjson");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let items: Vec<Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let text = |item: &Value, name: &str| item[name].as_str().expect("a text").to_owned();
    let key = |item: &Value| (text(item, "start"), text(item, "source"), field_of(item));
    let numbers: Numbers = items.iter().map(|item| (key(item), numbers_of(item))).collect();
    assert_eq!(numbers.len(), items.len());
    (numbers, items)
}

fn publish(served: &Served, readings: &[Reading]) {
    let broker = std::fs::read(served.root.path().join("state/broker.json")).expect("a broker");
    let broker: Value = serde_json::from_slice(&broker).expect("JSON");
    let lines: String = readings.iter().map(Reading::message).collect();
    let url = broker["url"].as_str().expect("an address");
    Mosquitto::publish(url, "mysimbdp/ingest/client1/readings", &lines);
}

fn start(coredms: &Value) -> Served {
    let served = Served::start(coredms, json!([client()]));
    until(SOON, "the stream runs", || {
        served.http.get("/api/streams").expect(200)["items"][0]["instances"][0]["state"] == "running"
    });
    served
}

/// A file that corrects readings: each has another number, and the last one another time too.
fn correct(served: &Served, readings: &mut [Reading], numbers: &[u32], second: u32) {
    let mut rows = String::from("n,at,station,v\n");
    for n in numbers {
        let reading = readings.iter_mut().find(|reading| reading.n == *n).expect("a reading");
        if Some(n) == numbers.last() {
            reading.second = second;
        }
        reading.v = Some(f64::from(*n) + 0.5);
        // The file has no other number.
        reading.w = f64::NAN;
        rows += &format!("{n},{},{},{}\n", time(reading.second), reading.station(), f64::from(*n) + 0.5);
    }
    served.root.drop_file("client1", "corrections.csv", rows.as_bytes());
}

/// Without the numbers that a file has removed.
fn expected(readings: &[Reading]) -> Numbers {
    let corrected = |reading: &&Reading| reading.w.is_nan();
    let mut windows = plain(readings);
    windows.retain(|(.., field), _| *field == "v");
    let rest: Vec<Reading> = readings.iter().filter(|reading| !corrected(reading)).copied().collect();
    windows.extend(plain(&rest).into_iter().filter(|((.., field), _)| *field == "m.w"));
    windows
}

fn windows_are_those_of_a_plain_computation_also_after_a_crash_and_a_file(coredms: &Value) {
    let mut served = start(coredms);
    let mut readings = readings(0, 600);
    publish(&served, &readings);
    let all = plain(&readings);
    until(SOON, "all readings are stored", || answered(&served, "all").0 == all);
    let (_, items) = answered(&served, "all");
    assert_eq!(items.len(), 10 * 3 * 2);
    let briefly =
        |item: &Value| [&item["start"], &item["source"], &item["field"]].map(Value::to_string).join(" ");
    assert_eq!(briefly(&items[0]), r#""2026-01-01T00:00:00Z" "s0" "v""#);
    assert_eq!(briefly(&items[1]), r#""2026-01-01T00:00:00Z" "s0" "m.w""#);
    assert_eq!(briefly(&items[2]), r#""2026-01-01T00:00:00Z" "s1" "v""#);
    assert_eq!(items[0]["end"], "2026-01-01T00:01:00Z");
    // The newest reading is at 00:09:59: the last window may still get others.
    let closed = items.iter().filter(|item| item["state"] == "closed").count();
    assert_eq!(closed, 9 * 3 * 2);

    for (query, count) in [
        ("view=all&size=1m&fields=v&source=s1", 10),
        ("view=all&size=1m&fields=v&from=2026-01-01T00:02:00Z&until=2026-01-01T00:04:00Z", 6),
        // Windows that begin in between, as a whole.
        ("view=all&size=1m&fields=v&from=2026-01-01T00:02:01Z&until=2026-01-01T00:04:01Z", 6),
        ("view=all&size=1h&fields=v", 3),
        ("view=single&size=1m&fields=v", 10),
        ("view=all&size=1m&fields=none,m", 0),
        ("view=plain&size=1m&fields=v", 0),
    ] {
        let page = served.http.get(&format!("/api/clients/client1/windows?{query}")).expect(200);
        assert_eq!(page["items"].as_array().expect("items").len(), count, "{query}");
        assert!(page.get("next").is_none(), "{query}");
    }
    for limit in [1, 7, 59, 60] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("view=all&size=1m&fields=v,m.w&limit={limit}{cursor}");
            let page = served.http.get(&format!("/api/clients/client1/windows?{path}")).expect(200);
            found.extend(page["items"].as_array().expect("items").iter().cloned());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, items, "{limit}");
    }
    let table = "/api/clients/client1/windows?view=all&size=1m&fields=m.w&limit=1&source=s0";
    let page = served.http.get_as(table, "text/csv");
    let [count, min, max, mean, stddev] = all[&("2026-01-01T00:00:00Z".to_owned(), "s0".to_owned(), "m.w")];
    let row = format!(
        "2026-01-01T00:00:00Z,2026-01-01T00:01:00Z,s0,m.w,{count},{min:?},{max:?},{mean:?},{stddev:?},closed"
    );
    assert_eq!(page.text(), format!("start,end,source,field,count,min,max,mean,stddev,state\n{row}\n"));
    assert!(page.header("link").is_some());

    served.kill_server();
    assert_eq!(answered(&served, "all").1, items);
    correct(&served, &mut readings, &[3, 200, 201, 599], 90);
    served.until_file("ingested");
    // At once: the run has ended.
    let corrected = answered(&served, "all");
    assert_eq!(corrected.0, expected(&readings));
    served.kill_server();
    assert_eq!(answered(&served, "all"), corrected);
    served.stop();
}

/// The last event of each window and source, with the number of the revision and of the late readings.
type Latest = BTreeMap<(String, String), (Value, u64, u64)>;

/// Reads events until the last ones of all windows have these numbers.
fn read_until(events: &Receiver<Event>, latest: &mut Latest, expected: &Numbers) {
    let began = Instant::now();
    while live_numbers(latest) != *expected {
        let waited = began.elapsed();
        assert!(waited < SOON, "{latest:#?}\n{expected:#?}");
        let Ok(event) = events.recv_timeout(Duration::from_millis(500)) else { continue };
        if event.name != "window" {
            continue;
        }
        let data = event.data;
        assert_eq!((&data["view"], &data["size"]), (&json!("all"), &json!("1m")));
        let text = |name: &str| data[name].as_str().expect("a text").to_owned();
        let number = |name: &str| data[name].as_u64().expect("a number");
        let (key, revision) = ((text("start"), text("source")), number("revision"));
        let earlier = latest.get(&key).map_or(0, |(_, revision, _)| *revision);
        assert_eq!(revision, earlier + 1, "{data}");
        latest.insert(key, (data["fields"].clone(), revision, number("late")));
    }
}

fn live_numbers(latest: &Latest) -> Numbers {
    let mut numbers = Numbers::new();
    for ((start, source), (fields, ..)) in latest {
        for field in ["v", "m.w"] {
            if let Some(found) = fields.get(field) {
                numbers.insert((start.clone(), source.clone(), field), numbers_of(found));
            }
        }
    }
    numbers
}

fn events_of_closed_windows_end_with_what_a_query_answers(coredms: &Value) {
    let served = start(coredms);
    let (_connection, events) = listen(&served.http, "/events?client=client1", None);
    let mut readings = readings(0, 300);
    let late: Vec<Reading> = readings.extract_if(.., |reading| reading.second % 100 == 70).collect();
    publish(&served, &readings);
    // The newest one is at 00:04:59, so the last window is open.
    let closed = |readings: &[Reading]| {
        let mut closed = expected(readings);
        closed.retain(|(start, ..), _| start.as_str() < "2026-01-01T00:04:00Z");
        closed
    };
    let mut latest = Latest::new();
    read_until(&events, &mut latest, &closed(&readings));

    let before = latest.clone();
    publish(&served, &late);
    readings.extend(&late);
    read_until(&events, &mut latest, &closed(&readings));
    // 70 and 170, and 270 is in the open window.
    let minute = |second: u32| (time(second / 60 * 60), format!("s{}", second % 3));
    for second in [70, 170] {
        let ((_, earlier, late_before), (_, revision, late)) =
            (&before[&minute(second)], &latest[&minute(second)]);
        assert_eq!((*revision, *late), (earlier + 1, late_before + 1));
    }
    let unchanged = before.iter().filter(|(key, earlier)| latest[*key] == **earlier).count();
    assert_eq!(unchanged, before.len() - 2);

    correct(&served, &mut readings, &[3, 130, 200], 10);
    read_until(&events, &mut latest, &closed(&readings));
    let mut answered = answered(&served, "all").0;
    answered.retain(|(start, ..), _| start.as_str() < "2026-01-01T00:04:00Z");
    assert_eq!(live_numbers(&latest), answered);
    served.stop();
}

fn counted(served: &Served, result: &str) -> u64 {
    let scraped = served.http.get("/metrics");
    let of_result = |line: &&str| {
        line.starts_with("mysimbdp_windows_total{") && line.contains(&format!("result=\"{result}\""))
    };
    let line = scraped.text().lines().find(of_result);
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0)
}

fn a_repeated_query_is_answered_from_memory_until_a_file_is_ingested(coredms: &Value) {
    let served = Served::start(coredms, json!([client()]));
    let file = |first: u32| -> String {
        let rows = (first..first + 120).map(|n| format!("{},s{},{n}.5\n", time(n), n % 2));
        std::iter::once("at,station,v\n".to_owned()).chain(rows).collect()
    };
    served.root.drop_file("client1", "plain-1.csv", file(0).as_bytes());
    served.until_file("ingested");
    let windows = || {
        let page = served.http.get("/api/clients/client1/windows?view=plain&size=1m&fields=v").expect(200);
        page["items"].as_array().expect("items").clone()
    };
    let first = windows();
    assert_eq!((first.len(), counted(&served, "kept"), counted(&served, "computed")), (4, 0, 2));
    assert_eq!(windows(), first);
    assert_eq!((counted(&served, "kept"), counted(&served, "computed")), (2, 2));

    // Into the same windows, and another one.
    served.root.drop_file("client1", "plain-2.csv", file(60).as_bytes());
    let ingested =
        || served.http.get("/api/files?state=ingested").expect(200)["items"].as_array().map(Vec::len);
    until(SOON, "the second file is ingested", || ingested() == Some(2));
    let second = windows();
    let counts: Vec<_> = second.iter().map(|item| item["count"].as_u64().expect("a count")).collect();
    assert_eq!(counts, [30, 30, 60, 60, 30, 30]);
    assert_eq!((counted(&served, "kept"), counted(&served, "computed")), (2, 5));
    // A file of another app changes nothing of it.
    served.root.drop_file("client1", "other.csv", b"n,at\n1,2026-01-01T00:00:00Z\n");
    until(SOON, "the third file is ingested", || ingested() == Some(3));
    assert_eq!(windows(), second);
    assert_eq!((counted(&served, "kept"), counted(&served, "computed")), (5, 5));
    served.stop();
}

fn what_is_kept_of_a_stream_is_dropped_when_a_reading_is_stored(coredms: &Value) {
    let served = start(coredms);
    let mut all = readings(0, 180);
    let late = all.split_off(170);
    publish(&served, &all);
    until(SOON, "all readings are stored", || answered(&served, "all").0 == plain(&all));
    // As soon as everything about the readings has arrived.
    let is_kept = || {
        let before = counted(&served, "kept");
        assert_eq!(answered(&served, "all").0, plain(&all));
        counted(&served, "kept") == before + 3
    };
    until(SOON, "windows are kept", is_kept);
    for reading in late {
        publish(&served, &[reading]);
        all.push(reading);
        until(SOON, "the reading is in its window", || answered(&served, "all").0 == plain(&all));
    }
    let is_kept = || {
        let before = counted(&served, "kept");
        assert_eq!(answered(&served, "all").0, plain(&all));
        counted(&served, "kept") == before + 3
    };
    until(SOON, "windows are kept again", is_kept);
    served.stop();
}

fn wrong_parameters_are_named_with_what_is_allowed(coredms: &Value) {
    let served = Served::start(coredms, json!([client()]));
    for (query, expected) in [
        ("size=1m&fields=v", "view is missing: expected one of all, plain, single"),
        ("view=all&fields=v", "size is missing: expected a duration such as 1m"),
        ("view=all&size=1m", "fields is missing: expected names such as temp,meta.x"),
        ("view=none&size=1m&fields=v", "invalid view \"none\": expected one of all, plain, single"),
        ("view=all&size=10ms&fields=v", "invalid size 10ms: "),
        ("view=all&size=1500ms&fields=v", "expected whole seconds"),
        ("view=all&size=minute&fields=v", "expected a whole number and ms, s, m, h or d"),
        ("view=all&size=1m&fields=v,,w", "invalid fields: \"\""),
        ("view=all&size=1m&fields=*", "expected names of 1 to 20 fields"),
        ("view=all&size=1m&fields=v&limit=1001", "invalid limit 1001: expected 1 to 1000"),
        ("view=all&size=1m&fields=v&from=now", "invalid from: "),
        ("view=all&size=1m&fields=v&cursor=x", "invalid cursor: "),
        ("view=single&size=1m&fields=v&source=s0", "invalid source: view single has no field for it"),
        ("view=all&size=1m&fields=v&order=desc", "unknown field `order`"),
    ] {
        let problem = served.http.get(&format!("/api/clients/client1/windows?{query}")).expect(400);
        assert_eq!(problem["code"], "invalid_request", "{query}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(expected), "{query}: {detail}");
    }
    served.stop();
}
