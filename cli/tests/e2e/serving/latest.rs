//! The latest record of each source, from memory and from the store.

use mysimbdp_testbed::{Http, Mosquitto, Signal, binary, descendants, signal, until};
use serde_json::{Value, json};

use super::{Served, on_both, url};
use crate::support::SOON;

on_both! {
    the_latest_record_is_the_last_one_of_the_store_however_it_is_answered,
    a_stream_that_announces_nothing_is_asked_for_in_the_store,
}

/// A client with a keyed collection in each layer, and views of them.
fn client(stream: &[&str]) -> Value {
    json!({
        "id": "client1",
        "apps": [{"name": "files", "command": ["document-app"], "ids": "key", "record_key": ["n"], "collection": "corrected"}],
        "streams": [{"name": "live", "command": stream, "ids": "key", "record_key": ["n"], "instances": {"min": 1, "max": 1}}],
        "views": {
            "all": {"batch": "corrected", "stream": "live", "time": "at", "time_type": "seconds", "source": "in.station"},
            "files": {"batch": "corrected", "time": "at", "time_type": "seconds"},
            "live": {"stream": "live", "time": "at", "time_type": "seconds", "source": "in.station"},
        },
    })
}

fn publish(served: &Served, lines: &str) {
    let state = std::fs::read(served.root.path().join("state/broker.json")).expect("a broker");
    let state: Value = serde_json::from_slice(&state).expect("JSON");
    let url = state["url"].as_str().expect("an address");
    Mosquitto::publish(url, "mysimbdp/ingest/client1/readings", lines);
}

fn reading(n: u32, at: u32, station: &str) -> String {
    format!("{{\"n\":{n},\"at\":{at},\"in\":{{\"station\":\"{station}\"}},\"v\":{n}.50}}\n")
}

fn until_running(served: &Served) {
    until(SOON, "the stream runs", || {
        served.http.get("/api/streams").expect(200)["items"][0]["instances"][0]["state"] == "running"
    });
}

fn latest(http: &Http, view: &str, station: &str) -> Option<String> {
    let answer = http.get(&format!("/api/clients/client1/latest/{station}?view={view}"));
    match answer.status {
        404 => None,
        _ => {
            answer.expect(200);
            assert!(answer.header("age").expect("an age").parse::<u64>().is_ok());
            Some(answer.text().to_owned())
        }
    }
}

/// The same, as a query of records answers it.
fn last_record(http: &Http, view: &str, station: &str) -> Option<String> {
    let path = format!("/api/clients/client1/records?view={view}&source={station}&order=desc&limit=1");
    let lines = http.get_as(&path, "application/x-ndjson");
    lines.text().lines().next().map(str::to_owned)
}

fn number(record: Option<String>) -> Option<u64> {
    let record: Value = serde_json::from_str(&record?).expect("JSON");
    Some(record["n"].as_u64().expect("a number"))
}

/// How many latest records were answered from memory, or the store.
fn answers(served: &Served, from: &str) -> u64 {
    let metrics = served.http.get("/metrics");
    let name = "mysimbdp_latest_answers_total{";
    let mut samples = metrics.text().lines().filter(|line| line.starts_with(name));
    let sample = samples.find(|line| line.contains(&format!("result=\"{from}\"")));
    let value = sample.and_then(|line| line.rsplit(' ').next());
    value.map_or(0, |value| value.parse::<f64>().expect("a number") as u64)
}

fn the_latest_record_is_the_last_one_of_the_store_however_it_is_answered(coredms: &Value) {
    let served = Served::start(coredms, json!([client(&["stream-app"])]));
    let http = &served.http;
    until_running(&served);
    assert_eq!(latest(http, "live", "a"), None);
    publish(
        &served,
        &[reading(1, 10, "a"), reading(2, 20, "b"), reading(3, 30, "a"), reading(4, 15, "a")].concat(),
    );
    until(SOON, "the messages are stored", || number(latest(http, "live", "a")) == Some(3));
    until(SOON, "they are stored", || last_record(http, "live", "b").is_some());
    for (view, station) in [("live", "a"), ("live", "b"), ("all", "a"), ("all", "b")] {
        assert_eq!(latest(http, view, station), last_record(http, view, station), "{view} {station}");
    }
    until(SOON, "it is answered from memory", || {
        latest(http, "live", "a");
        answers(&served, "memory") > 0
    });

    // Later messages replace what is in memory, as they would be read from the store. If the instance was silent for too
    // long, the record was forgotten and is read again.
    let mut last = 100;
    until(SOON, "a message replaces a record in memory", || {
        let before = answers(&served, "store");
        last += 1;
        publish(&served, &reading(last, last, "a"));
        until(SOON, "the message is seen", || number(latest(http, "live", "a")) == Some(last.into()));
        answers(&served, "store") == before
    });
    assert_eq!(latest(http, "live", "a"), last_record(http, "live", "a"));
    publish(&served, &reading(200, 5, "a"));
    until(SOON, "an earlier one is stored", || {
        number(last_record(http, "live", "a")) == Some(last.into())
            && http.get("/api/clients/client1/records?view=live&until=1970-01-01T00:00:06Z").expect(200)["items"]
                != json!([])
    });
    assert_eq!(number(latest(http, "live", "a")), Some(last.into()));

    // A query finds each element of a list.
    let several = format!("{{\"n\":300,\"at\":{},\"in\":{{\"station\":[\"a\",\"b\"]}}}}\n", last + 1);
    publish(&served, &several);
    until(SOON, "it is stored", || number(last_record(http, "live", "a")) == Some(300));
    until(SOON, "it is announced", || number(latest(http, "live", "a")) == Some(300));
    assert_eq!(latest(http, "live", "b"), last_record(http, "live", "b"));
    // Of each alone.
    let lines = [reading(301, last + 2, "a"), reading(302, last + 2, "b")].concat();
    publish(&served, &lines);
    until(SOON, "both are stored", || {
        number(latest(http, "live", "a")) == Some(301) && number(latest(http, "live", "b")) == Some(302)
    });
    last = 301;

    // A file corrects the latest record, with an earlier time, and adds one.
    let records = format!(
        "[{{\"n\":{last},\"at\":1,\"in\":{{\"station\":\"a\"}}}},{{\"n\":300,\"at\":2,\"in\":{{\"station\":\"a\"}}}},{{\"n\":7,\"at\":1000,\"in\":{{\"station\":\"c\"}}}}]"
    );
    let before = latest(http, "all", "a");
    served.root.drop_file("client1", "corrections.json", records.as_bytes());
    served.until_file("ingested");
    until(SOON, "the file is seen", || latest(http, "all", "a") != before);
    for station in ["a", "b", "c"] {
        assert_eq!(latest(http, "all", station), last_record(http, "all", station), "{station}");
    }
    assert_eq!(number(latest(http, "all", "c")), Some(7));
    assert_eq!(number(latest(http, "live", "a")), Some(last.into()));

    let list = |path: &str| {
        let page = http.get(&format!("/api/clients/client1/latest?view=all{path}")).expect(200);
        let items = page["items"].as_array().expect("items").clone();
        let stations: Vec<String> =
            items.iter().map(|item| item["in"]["station"].as_str().expect("a station").to_owned()).collect();
        (stations, page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(list(""), (["a", "b", "c"].map(str::to_owned).to_vec(), None));
    let (stations, next) = list("&limit=2");
    assert_eq!(stations, ["a", "b"]);
    let (stations, next) = list(&format!("&limit=2&cursor={}", next.expect("a cursor")));
    assert_eq!((stations, next), (vec!["c".to_owned()], None));
    let lines = http.get_as("/api/clients/client1/latest?view=live", "application/x-ndjson");
    let lines: Vec<String> = lines.text().lines().map(str::to_owned).collect();
    assert_eq!(
        Some(lines),
        ["a", "b"].map(|station| last_record(http, "live", station)).into_iter().collect()
    );

    for (path, status, named) in [
        ("latest/a?view=files", 400, "it has no field for the source"),
        ("latest/a?view=none", 400, "expected one of all, files, live"),
        ("latest/a", 400, "view is missing"),
        ("latest/nobody?view=all", 404, "no record of source \"nobody\""),
        ("latest?view=all&limit=0", 400, "expected 1 to 1000"),
        ("latest?view=all&cursor=x", 400, "invalid cursor"),
    ] {
        let problem = http.get(&format!("/api/clients/client1/{path}")).expect(status);
        assert!(problem["detail"].as_str().expect("a detail").contains(named), "{path}: {problem}");
    }
    let table = http.get_as("/api/clients/client1/latest?view=all", "text/csv");
    assert_eq!(table.status, 406);

    let answers = || -> Vec<Option<String>> {
        let http = Http::new(&url(served.root.path()));
        [("all", "a"), ("all", "b"), ("all", "c"), ("live", "a")]
            .map(|(view, station)| latest(&http, view, station))
            .to_vec()
    };
    let before = answers();
    let server = || {
        descendants(served.up.pid()).into_iter().find(|pid| {
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split('\0').any(|word| word == "serve")
        })
    };
    let killed = server().expect("it runs");
    signal(killed, Signal::KILL);
    until(SOON, "it runs again", || server().is_some_and(|pid| pid != killed));
    assert_eq!(answers(), before);
    served.stop();
}

fn a_stream_that_announces_nothing_is_asked_for_in_the_store(coredms: &Value) {
    let app = binary("stream-app");
    let silent = ["env", "-u", "MYSIMBDP_STORED_TOPIC", app.to_str().expect("UTF-8")];
    let served = Served::start(coredms, json!([client(&silent)]));
    until_running(&served);
    for n in 1..=3 {
        publish(&served, &reading(n, n, "a"));
        until(SOON, "the message is stored", || {
            number(last_record(&served.http, "live", "a")) == Some(n.into())
        });
        assert_eq!(number(latest(&served.http, "live", "a")), Some(n.into()));
    }
    assert_eq!(answers(&served, "memory"), 0);
    served.stop();
}
