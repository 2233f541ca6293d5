//! Views: the records of both layers as one list.

use std::os::unix::fs::PermissionsExt;

use mysimbdp_testbed::{Mosquitto, until};
use serde_json::{Value, json};

use super::{Served, on_both};
use crate::support::SOON;

on_both! {
    a_view_has_the_records_of_both_layers_and_files_override_messages,
    wrong_parameters_are_named_with_what_is_allowed,
}

/// A client with a keyed collection in each layer, and views of them.
fn client() -> Value {
    json!({
        "id": "client1",
        "apps": [{"name": "plain", "files": ["plain*"], "command": ["document-app"]}, {"name": "files", "command": ["document-app"], "ids": "key", "record_key": ["n"], "collection": "corrected"}],
        "streams": [{
            "name": "live", "command": ["stream-app"], "ids": "key", "record_key": ["n"], "instances": {"min": 1, "max": 1},
        }],
        "views": {
            "all": {"batch": "corrected", "stream": "live", "time": "at", "time_type": "text", "source": "station"},
            "both": {"batch": "plain", "stream": "live", "time": "at", "time_type": "text"},
            "raw": {"stream": "live", "time": "at", "time_type": "text"},
        },
    })
}

/// Ten messages, and a file that corrects two of them, the second one with another time, and adds a record.
fn fill(served: &Served) {
    let broker: Value = serde_json::from_slice(
        &std::fs::read(served.root.path().join("state/broker.json")).expect("a broker"),
    )
    .expect("JSON");
    until(SOON, "the stream runs", || {
        served.http.get("/api/streams").expect(200)["items"][0]["instances"][0]["state"] == "running"
    });
    let message = |n: u32| {
        format!("{{\"n\":{n},\"at\":\"2026-01-01T00:00:{n:02}Z\",\"station\":\"s{}\",\"v\":{n}.5}}\n", n % 2)
    };
    let lines: String = (0..10).map(message).collect();
    Mosquitto::publish(
        broker["url"].as_str().expect("an address"),
        "mysimbdp/ingest/client1/readings",
        &lines,
    );
    let file = "n,at,station,v\n3,2026-01-01T00:00:03Z,s1,30\n4,2026-01-01T00:00:30Z,s0,40\n20,2026-01-01T00:00:20Z,s0,200\n";
    served.root.drop_file("client1", "corrections.csv", file.as_bytes());
    served.until_file("ingested");
    until(SOON, "the messages are stored", || numbers(served, "view=raw").len() == 10);
}

fn items(served: &Served, query: &str) -> (Vec<Value>, Option<String>) {
    let page = served.http.get(&format!("/api/clients/client1/records?{query}")).expect(200);
    (page["items"].as_array().expect("items").clone(), page["next"].as_str().map(str::to_owned))
}

fn numbers(served: &Served, query: &str) -> Vec<i64> {
    items(served, query).0.iter().map(|item| item["n"].as_i64().expect("a number")).collect()
}

fn a_view_has_the_records_of_both_layers_and_files_override_messages(coredms: &Value) {
    let served = Served::start(coredms, json!([client()]));
    fill(&served);
    let views = served.http.get("/api/clients/client1/views").expect(200)["items"].clone();
    assert_eq!(
        (&views[0]["name"], &views[0]["kind"], &views[0]["key"]),
        (&json!("all"), &json!("override"), &json!(["_id"]))
    );
    assert_eq!(
        (&views[2]["name"], &views[2]["kind"], &views[2]["stream"]),
        (&json!("raw"), &json!("union"), &json!("live"))
    );

    let all = [0, 1, 2, 3, 5, 6, 7, 8, 9, 20, 4];
    assert_eq!(numbers(&served, "view=all"), all);
    let (records, next) = items(&served, "view=all");
    assert_eq!(next, None);
    let (message, corrected) = (&records[2], &records[3]);
    assert_eq!((&message["v"], &message["_origin"]["layer"]), (&json!(2.5), &json!("stream")));
    assert!(message["_origin"]["received_at"].is_string() && message.get("_ingest").is_none(), "{message}");
    assert_eq!((&corrected["v"], &corrected["_origin"]["layer"]), (&json!(30), &json!("batch")));
    let ingestion = corrected["_origin"]["ingestion"].as_str().expect("an ingestion");
    assert_eq!(served.http.get(&format!("/api/ingestions/{ingestion}")).expect(200)["state"], "ingested");
    assert_eq!(corrected["_origin"]["record"], 0);

    for (query, expected) in [
        ("view=all&order=desc", all.iter().rev().copied().collect::<Vec<i64>>()),
        ("view=all&source=s0", vec![0, 2, 6, 8, 20, 4]),
        ("view=all&from=2026-01-01T00:00:03Z&until=2026-01-01T00:00:06Z", vec![3, 5]),
        ("view=all&from=2026-01-01T01:00:05%2B01:00&limit=2", vec![5, 6]),
        ("view=raw", (0..10).collect()),
        ("view=raw&from=2030-01-01T00:00:00Z", vec![]),
    ] {
        assert_eq!(numbers(&served, query), expected, "{query}");
    }
    for limit in 1..=12 {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let (page, next) = items(&served, &format!("view=all&limit={limit}{cursor}"));
            found.extend(page.iter().map(|item| item["n"].as_i64().expect("a number")));
            let Some(next) = next else { break };
            assert_eq!(page.len(), limit);
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, all, "{limit}");
    }

    let table = "/api/clients/client1/records?view=all&fields=n,v,none&limit=2&from=2026-01-01T00:00:02Z";
    let page = served.http.get_as(table, "text/csv");
    assert_eq!(page.text(), "n,v,none\n2,2.5,\n3,30,\n");
    let link = page.header("link").expect("a link").to_owned();
    let next = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("an address").0;
    assert_eq!(served.http.get_as(next, "text/csv").text(), "n,v,none\n5,5.5,\n6,6.5,\n");
    // A list, which is written while it is read.
    let list = "/api/clients/client1/records?view=all&limit=5000&fields=n,_cursor";
    let lines = served.http.get_as(list, "application/x-ndjson");
    let lines: Vec<Value> =
        lines.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.iter().map(|line| line["n"].as_i64().expect("a number")).collect::<Vec<_>>(), all);
    let cursor = lines[8]["_cursor"].as_str().expect("a cursor");
    assert_eq!(numbers(&served, &format!("view=all&fields=n&cursor={cursor}")), [20, 4]);

    assert_eq!((&views[1]["kind"], &views[1]["key"]), (&json!("union"), &json!([])));
    served.root.drop_file("client1", "plain.csv", b"n,at\n3,2026-01-01T00:00:03Z\n3,2026-01-01T00:00:01Z\n");
    let both = || numbers(&served, "view=both&until=2026-01-01T00:00:04Z");
    until(SOON, "the file is ingested", || both().len() == 6);
    assert_eq!(both(), [0, 3, 1, 2, 3, 3]);
    let (union, _) = items(&served, "view=both&from=2026-01-01T00:00:03Z&limit=2");
    assert_eq!((&union[0]["_origin"]["layer"], &union[0]["_origin"]["record"]), (&json!("batch"), &json!(0)));
    assert_eq!(union[1]["_origin"]["layer"], "stream");
    let prefix = union[0]["_origin"]["ingestion_prefix"].as_str().expect("a prefix");
    assert_eq!(union[0]["_id"], format!("{prefix}-0"));
    served.stop();
}

fn wrong_parameters_are_named_with_what_is_allowed(coredms: &Value) {
    let other = json!({"id": "client2", "apps": [{"name": "files", "command": ["document-app"]}]});
    let served = Served::start(coredms, json!([client(), other]));
    // Nothing is stored yet.
    assert_eq!(numbers(&served, "view=all"), [0_i64; 0]);
    for (query, expected) in [
        ("", "view is missing: expected one of all, both, raw"),
        ("view=none", "invalid view \"none\": expected one of all, both, raw"),
        ("view=all&limit=0", "invalid limit 0: expected 1 to 1000"),
        ("view=all&limit=1001", "invalid limit 1001: expected 1 to 1000"),
        ("view=all&from=yesterday", "invalid from: "),
        ("view=all&until=1", "invalid until: "),
        ("view=all&order=up", "expected `asc` or `desc`"),
        ("view=all&fields=a,,b", "invalid fields: \"\""),
        ("view=all&cursor=x", "invalid cursor: "),
        ("view=raw&source=s0", "invalid source: view raw has no field for it"),
        ("view=all&name=x", "unknown field `name`"),
    ] {
        let problem = served.http.get(&format!("/api/clients/client1/records?{query}")).expect(400);
        assert_eq!(problem["code"], "invalid_request", "{query}");
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.contains(expected)),
            "{query}: {problem}"
        );
    }
    let table = served.http.get_as("/api/clients/client1/records?view=all", "text/csv").expect(400);
    assert!(table["detail"].as_str().is_some_and(|detail| detail.contains("invalid fields: CSV")), "{table}");
    let list = "/api/clients/client1/records?view=all&limit=100001";
    assert_eq!(served.http.get_as(list, "application/x-ndjson").expect(400)["code"], "invalid_request");
    let none = served.http.get("/api/clients/client2/records?view=all").expect(400);
    assert!(none["detail"].as_str().is_some_and(|detail| detail.contains("has no views")), "{none}");
    assert_eq!(served.http.get("/api/clients/nobody/records?view=all").expect(404)["code"], "not_found");
    served.stop();
}

#[test]
fn records_are_read_only_with_a_token_for_their_client() {
    use sha2::{Digest, Sha256};
    let root = mysimbdp_testbed::Root::new(&json!({
        "serving": {"listen": "127.0.0.1:0", "tokens_file": "tokens.json"}, "clients": [client()],
    }));
    let sha256 =
        |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let tokens = json!({"tokens": [
        {"name": "own", "sha256": sha256("own"), "client": "client1", "rights": ["read"]},
        {"name": "other", "sha256": sha256("other"), "client": "client2", "rights": ["read"]},
        {"name": "sender", "sha256": sha256("sender"), "client": "client1", "rights": ["drop"]},
    ]});
    let path = root.path().join("tokens.json");
    std::fs::write(&path, tokens.to_string()).expect("write the tokens");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let mut up = mysimbdp_testbed::Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let http = mysimbdp_testbed::Http::new(&super::url(root.path()));
    for path in [
        "/api/clients/client1/records?view=raw",
        "/api/clients/client1/windows?view=raw&size=1m&fields=v",
        "/api/clients/client1/views",
    ] {
        for (token, status) in [("own", 200), ("other", 403), ("sender", 403), ("none", 401)] {
            assert_eq!(http.with_token(token).get(path).status, status, "{token} {path}");
        }
        assert_eq!(http.get(path).status, 401, "{path}");
    }
    assert!(up.interrupt().success(), "{}", up.output());
}
