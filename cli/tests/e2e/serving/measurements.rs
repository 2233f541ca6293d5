//! What was measured over time.

use mysimbdp_testbed::until;
use serde_json::{Value, json};

use super::Served;
use crate::support::{SOON, documents};

#[test]
fn what_was_ingested_and_what_runs_is_a_line() {
    let stream = json!({"name": "readings", "command": ["stream-app"], "instances": {"min": 1, "max": 3}});
    let clients = json!([documents("client1"), {"id": "client2", "streams": [stream]}]);
    let served = Served::start(&json!({}), clients);
    let line = |query: &str, metric: &str, client: &str| {
        let answer = served.http.get(&format!("/api/measurements{query}")).expect(200);
        let series = answer["series"].as_array().cloned().unwrap_or_default();
        let is_it = |one: &&Value| one["metric"] == metric && one["client"] == client;
        let found: Option<Vec<f64>> = series.iter().find(is_it).map(|one| {
            assert_eq!(one["mean"].as_array().map(Vec::len), answer["times"].as_array().map(Vec::len));
            one["max"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
        });
        found.unwrap_or_default()
    };
    let has = |query: &str, metric: &str, client: &str| {
        line(query, metric, client).iter().any(|number| *number > 0.0)
    };
    // The first scrape is what the next one is compared with.
    until(SOON, "an instance is measured", || has("", "instances_running", "client2"));
    served.root.drop_file("client1", "rows.csv", b"a,b\n1,2\n3,4\n");
    for metric in ["batch_records", "batch_bytes", "batch_seconds", "files"] {
        until(SOON, metric, || has("", metric, "client1"));
    }
    assert!(has("?client=client1&points=10", "batch_records", "client1"));
    assert!(!has("?client=client1", "instances_running", "client2"));
    for (query, expected) in [
        ("from=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "later than from"),
        ("from=2026-01-01T00:00:00Z&until=2026-01-03T00:00:00Z", "a day later"),
        ("points=0", "expected 1 to 2000"),
        ("client=nobody", "expected one of client1, client2"),
    ] {
        let answer = served.http.get(&format!("/api/measurements?{query}"));
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status >= 400 && text.contains(expected), "{query}: {text}");
    }
    served.stop();
}
