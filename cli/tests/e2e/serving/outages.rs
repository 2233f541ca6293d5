//! Something is unavailable, or the server is killed.

use std::net::TcpListener;

use mysimbdp_testbed::{Daemon, Http, Proxy, Root, Signal, descendants, mongodb, signal, unique, until};
use serde_json::json;

use super::{Served, url};
use crate::support::{SOON, documents, run};

#[test]
fn a_store_that_is_unavailable_is_never_an_empty_answer() {
    let store = Proxy::before_mongodb(mongodb().url());
    let address = format!("{}&serverSelectionTimeoutMS=500", store.mongodb_url());
    let mut client = documents("client2");
    client["apps"][0]["expect"] = json!([{"files": "*.csv", "by": "06:00"}]);
    client["views"] = json!({"all": {"batch": "readings", "time": "time_hour"}});
    let served = Served::configured(json!({
        "coredms": {"url": address, "database": unique("e2e")},
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "serving": {"query_timeout": "2s"},
        "clients": [client],
    }));
    served.root.drop_file("client2", "a.csv", b"a,b\n1,2\n");
    let id = served.until_file("ingested")["ingestion"].as_str().expect("an id").to_owned();
    store.fall_silent();
    store.cut();
    for path in [
        "/api/files".to_owned(),
        "/api/arrivals".to_owned(),
        format!("/api/ingestions/{id}"),
        format!("/api/ingestions/{id}/rejected"),
        "/api/clients/client2/records?view=all".to_owned(),
        "/api/clients/client2/windows?view=all&size=1m&fields=a".to_owned(),
    ] {
        let answer = served.http.get(&path);
        assert_eq!(answer.expect(503)["code"], "unavailable", "{path}");
        assert_eq!(answer.header("retry-after"), Some("5"), "{path}");
    }
    // What needs no store is answered.
    assert_eq!(
        served.http.get("/api/files?state=waiting,staged,held,discarded").expect(200)["items"],
        json!([])
    );
    assert_eq!(served.http.get("/livez").status, 200);
    let ready = served.http.get("/readyz?verbose").expect(503);
    let parts = ready["parts"].as_array().expect("parts").clone();
    let store_part = parts.iter().find(|part| part["name"] == "store").expect("the store");
    assert_eq!((&ready["ready"], &store_part["condition"]), (&json!(false), &json!("missing")));
    store.heal();
    until(SOON, "it is answered again", || served.http.get(&format!("/api/ingestions/{id}")).status == 200);
    served.stop();
}

#[test]
fn a_server_that_is_killed_is_started_again_and_answers_the_same() {
    let served = Served::start(&json!({}), json!([documents("client2")]));
    for number in 0..3 {
        served.root.drop_file("client2", &format!("{number}.csv"), format!("a,b\n{number},2\n").as_bytes());
        served.root.drop_file(
            "client2",
            &format!("bad-{number}.csv"),
            format!("a,b\n\"{number},2\n").as_bytes(),
        );
    }
    let files = |http: &Http| http.get("/api/files?state=ingested,discarded").expect(200);
    until(SOON, "all have ended", || files(&served.http)["items"].as_array().map(Vec::len) == Some(6));
    let before = files(&served.http);
    let server = || {
        let words = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        descendants(served.up.pid())
            .into_iter()
            .find(|pid| words(pid).split('\0').any(|word| word == "serve"))
    };
    for _ in 0..3 {
        let killed = server().expect("it runs");
        signal(killed, Signal::KILL);
        until(SOON, "it runs again", || server().is_some_and(|pid| pid != killed));
        assert_eq!(files(&Http::new(&url(served.root.path()))), before);
    }
    served.stop();
}

#[test]
fn a_taken_address_is_reported_and_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let root = Root::new(&json!({"serving": {"listen": address}, "clients": [documents("client2")]}));
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    until(SOON, "status says so", || {
        let printed = Daemon::run(&root, &["status"], &[]).stdout;
        String::from_utf8_lossy(&printed).contains(&format!("cannot listen on {address}"))
    });
    drop(taken);
    let http = Http::new(&url(root.path()));
    assert_eq!((http.url(), http.get("/livez").status), (format!("http://{address}").as_str(), 200));
    // A second one for the same data root.
    let printed = run(&root, 77, &["serve"]);
    assert!(printed.contains("serve"), "{printed}");
    assert!(up.interrupt().success(), "{}", up.output());
}
