//! Files, ingestions, rejected records, retry.

use std::collections::BTreeSet;

use mysimbdp_testbed::until;
use serde_json::{Value, json};

use super::{Served, on_both};
use crate::support::{SOON, documents};

on_both! {
    a_file_is_listed_in_each_state_of_its_way_and_its_ingestion_tells_everything,
    rejected_records_are_listed_and_exported_in_the_form_of_their_file,
    a_list_is_read_page_by_page_in_every_form,
    a_queue_tells_how_long_files_wait_and_what_for,
    a_file_is_in_every_list_whatever_happens_to_it_meanwhile,
}

/// A client whose app waits until it is repaired.
fn unrepaired(id: &str) -> Value {
    let script = "cat > /dev/null; test -e repaired || exit 65";
    json!({
        "id": id,
        "apps": [{"name": "app", "command": ["sh", "-c", script], "collection": "records", "ids": "none"}],
    })
}

fn a_file_is_listed_in_each_state_of_its_way_and_its_ingestion_tells_everything(coredms: &Value) {
    let served = Served::start(coredms, json!([unrepaired("client1"), documents("client2")]));
    served.root.drop_file("client1", "data.csv", b"a,b\n1,2\n3,4\n");
    let held = served.until_file("held");
    assert_eq!((held["client"].as_str(), held["name"].as_str()), (Some("client1"), Some("data.csv")));
    assert_eq!(held["codes"], json!(["data_refused"]));
    let id = held["id"].as_str().expect("an id").to_owned();
    let ingestion = served.http.get(&format!("/api/ingestions/{id}")).expect(200);
    assert_eq!(ingestion["state"], "held");
    assert_eq!(ingestion["manifest"]["records"], 2);
    assert_eq!(ingestion["manifest"]["micro_batches"][0]["is_done"], false);
    assert_eq!(ingestion["reasons"], held["reasons"]);

    std::fs::write(served.root.path().join("repaired"), "").expect("repair the app");
    let retried = served.http.request("POST", &format!("/api/ingestions/{id}/retry"), &[], &[]);
    assert_eq!(retried.header("location"), Some(format!("/api/ingestions/{id}").as_str()));
    assert_eq!(retried.expect(202)["ingestion"], id.as_str());
    let ingested = served.until_file("ingested");
    assert_eq!(ingested["ingestion"], id.as_str());
    assert_eq!(ingested["bytes"], 12);
    let ingestion = served.http.get(&format!("/api/ingestions/{id}")).expect(200);
    let states: Vec<&Value> =
        ingestion["runs"].as_array().expect("runs").iter().map(|run| &run["state"]).collect();
    // The retried run is the same one, which has ended in another way.
    assert_eq!(states, ["ingested"]);
    assert!(ingestion["runs"][0]["seconds"]["total"].as_f64().is_some_and(|seconds| seconds >= 0.0));

    served.root.drop_file("client2", "bad.csv", b"a,b\n\"1,2\n");
    let discarded = served.until_file("discarded");
    assert_eq!((&discarded["client"], &discarded["codes"]), (&json!("client2"), &json!(["invalid_quotes"])));
    let id = discarded["id"].as_str().expect("an id");
    let again = served.http.request("POST", &format!("/api/ingestions/{id}/retry"), &[], &[]).expect(202);
    assert_eq!(again["dropped_at"], json!(["client-input-directory/client2/bad.csv"]));
    until(SOON, "it is discarded again", || served.until_file("discarded")["id"] != discarded["id"]);

    let unknown = "0".repeat(32);
    for (method, path) in [
        ("GET", format!("/api/ingestions/{unknown}")),
        ("GET", "/api/ingestions/x".to_owned()),
        ("POST", format!("/api/ingestions/{unknown}/retry")),
        ("POST", "/api/ingestions/..%2Fx/retry".to_owned()),
        ("GET", format!("/api/ingestions/{unknown}/rejected")),
    ] {
        let problem = served.http.request(method, &path, &[], &[]);
        assert_eq!(problem.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(problem.expect(404)["code"], "not_found", "{path}");
    }
    served.stop();
}

fn rejected_records_are_listed_and_exported_in_the_form_of_their_file(coredms: &Value) {
    let mut client = documents("times");
    client["apps"][0]["command"] = json!(["document-app", "--type", "time=date"]);
    client["apps"][0]["rejects_max"] = json!("100%");
    let served = Served::start(coredms, json!([client]));
    let rows = "name,time\r\n1,2013-01-01T00:00:00Z\r\n\"two\r\n\",\"not, yet\"\r\n3,never";
    served.root.drop_file("times", "times.csv", rows.as_bytes());
    let id = served.until_file("ingested")["ingestion"].as_str().expect("an id").to_owned();
    let path = format!("/api/ingestions/{id}/rejected");
    let listed = served.http.get(&path).expect(200)["items"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&listed[0]["record"], &listed[0]["content"]),
        (&json!(1), &json!("\"two\r\n\",\"not, yet\""))
    );
    assert!(listed[0]["reason"].as_str().is_some_and(|reason| reason.contains("time")), "{listed}");
    let lines = served.http.get_as(&path, "application/x-ndjson");
    let second: Value = serde_json::from_str(lines.text().lines().nth(1).expect("a line")).expect("JSON");
    assert_eq!(second, listed[1]);
    let table = served.http.get_as(&path, "text/csv");
    assert!(table.text().starts_with("record,reason,content,content_base64\n1,"), "{}", table.text());

    let file = served.http.get(&format!("{path}/content"));
    assert_eq!(file.text(), "name,time\r\n\"two\r\n\",\"not, yet\"\n3,never\n");
    assert_eq!(
        file.header("content-disposition"),
        Some("attachment; filename=\"rejected-times.csv\"; filename*=UTF-8''rejected-times.csv")
    );
    let repaired =
        file.text().replace("\"not, yet\"", "2013-01-02T00:00:00Z").replace("never", "2013-01-03T00:00:00Z");
    served.root.drop_file("times", "repaired.csv", repaired.as_bytes());
    until(SOON, "what was repaired is ingested", || {
        served.http.get("/api/files?state=ingested&name=repaired").expect(200)["items"][0]["stored"] == 2
    });
    served.stop();
}

fn a_list_is_read_page_by_page_in_every_form(coredms: &Value) {
    let served = Served::start(coredms, json!([documents("client2")]));
    for number in 0..7 {
        served.root.drop_file(
            "client2",
            &format!("{number}.csv"),
            format!("a,b\n{number},{number}\n").as_bytes(),
        );
        served.root.drop_file(
            "client2",
            &format!("bad-{number}.csv"),
            format!("a,b\n\"{number}\n").as_bytes(),
        );
    }
    let all = || served.http.get("/api/files").expect(200)["items"].as_array().expect("files").clone();
    // One that has just ended may still be listed as staged, too.
    until(SOON, "all have ended", || {
        let ended = |file: &Value| ["ingested", "discarded"].map(Value::from).contains(&file["state"]);
        let all = all();
        all.len() == 14 && all.iter().all(ended)
    });
    let all = all();
    let (mut path, mut read) = ("/api/files?limit=3".to_owned(), Vec::new());
    for page in 0.. {
        assert!(page < 30, "the list does not end");
        let answer = served.http.get(&path).expect(200);
        read.extend(answer["items"].as_array().expect("files").clone());
        match answer["next"].as_str() {
            Some(next) => path = format!("/api/files?limit=3&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(read, all);

    let (mut path, mut lines) = ("/api/files?limit=4&state=ingested".to_owned(), Vec::new());
    loop {
        let answer = served.http.get_as(&path, "application/x-ndjson");
        lines.extend(answer.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
        let Some(link) = answer.header("link") else { break };
        path = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a link").0.to_owned();
    }
    let ingested: Vec<Value> = all.iter().filter(|file| file["state"] == "ingested").cloned().collect();
    assert_eq!(lines, ingested);

    let table = served.http.get_as("/api/files?state=discarded", "text/csv");
    assert_eq!(table.text().lines().count(), 8);
    assert!(table.text().starts_with("state,client,id,ingestion,name,"), "{}", table.text());
    let named = served.http.get("/api/files?name=bad-3").expect(200);
    assert_eq!(named["items"].as_array().map(Vec::len), Some(1));
    let later = served.http.get("/api/files?since=2100-01-01T00:00:00Z").expect(200);
    assert_eq!(later["items"], json!([]));

    for (query, expected) in [
        ("state=gone", "waiting,staged,held,discarded,ingested,purged"),
        ("limit=0", "1 to 1000"),
        ("cursor=x", "invalid cursor"),
        ("since=yesterday", "since"),
        ("states=held", "unknown field `states`"),
        ("limit=1&limit=2", "duplicate field `limit`"),
    ] {
        let problem = served.http.get(&format!("/api/files?{query}")).expect(400);
        assert_eq!(problem["code"], "invalid_request", "{query}");
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.contains(expected)),
            "{query}: {problem}"
        );
    }
    assert_eq!(served.http.get("/api/files?client=nobody").expect(404)["code"], "not_found");
    assert_eq!(served.http.get_as("/api/files", "text/html").expect(406)["code"], "not_acceptable");
    assert_eq!(
        served.http.request("DELETE", "/api/files", &[], &[]).expect(405)["code"],
        "method_not_allowed"
    );
    served.stop();
}

fn a_queue_tells_how_long_files_wait_and_what_for(coredms: &Value) {
    // The first attempts ask to be repeated later.
    let script = "cat > /dev/null; test -e repaired && exit 0; echo 'no licence yet' >&2; exit 75";
    let app = json!({"name": "app", "command": ["sh", "-c", script], "collection": "records", "ids": "none"});
    let served = Served::start(coredms, json!([{"id": "client1", "apps": [app]}, documents("client2")]));
    let queue = || served.http.get("/api/queues?client=client1").expect(200)["items"][0].clone();
    assert_eq!(
        (&queue()["lane"], &queue()["files"], &queue()["wait_runs"]),
        (&json!("live"), &json!(0), &json!(0))
    );
    for number in 0..3 {
        served.root.drop_file("client1", &format!("{number}.csv"), format!("a,b\n{number},2\n").as_bytes());
    }
    until(SOON, "all are staged, and the first one waits", || {
        let queue = queue();
        queue["files"] == 3
            && queue["head_waits_for"].as_str().is_some_and(|why| why.contains("no licence yet"))
    });
    assert_eq!((&queue()["records"], &queue()["bytes"]), (&json!(3), &json!(24)));
    assert!(queue()["oldest_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    std::fs::write(served.root.path().join("repaired"), "").expect("repair the app");
    until(SOON, "the queue is empty", || queue()["files"] == 0 && queue()["wait_runs"] == 3);
    let (median, p99) = (queue()["wait_p50_seconds"].as_f64(), queue()["wait_p99_seconds"].as_f64());
    assert!(median > Some(0.0) && p99 >= median, "{median:?} {p99:?}");
    let table = served.http.get_as("/api/queues", "text/csv");
    assert_eq!(table.text().lines().count(), 3, "{}", table.text());
    served.stop();
}

fn a_file_is_in_every_list_whatever_happens_to_it_meanwhile(coredms: &Value) {
    let served = Served::start(coredms, json!([documents("client2")]));
    let names = || {
        let listed = served.http.get("/api/files?limit=1000").expect(200)["items"].clone();
        let names =
            listed.as_array().expect("files").iter().map(|file| file["name"].as_str().map(str::to_owned));
        names.collect::<BTreeSet<_>>()
    };
    for round in 0..8 {
        for number in 0..10 {
            let (name, bad) = (format!("{round}-{number}.csv"), format!("bad-{round}-{number}.csv"));
            served.root.drop_file("client2", &name, format!("a,b\n{round},{number}\n").as_bytes());
            served.root.drop_file("client2", &bad, format!("a,b\n\"{round},{number}\n").as_bytes());
        }
        let expected = (round + 1) * 20;
        let all_ended = || {
            let path = "/api/files?limit=1000&state=ingested,discarded";
            served.http.get(path).expect(200)["items"].as_array().map(Vec::len) == Some(expected)
        };
        until(SOON, "all of them have ended", || {
            assert_eq!(names().len(), expected, "round {round}");
            all_ended()
        });
    }
    served.stop();
}
