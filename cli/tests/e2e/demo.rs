//! `mysimbdp demo`.

use mysimbdp_testbed::{Daemon, Http, Root, until};
use serde_json::{Value, json};

use crate::serving::events::listen;
use crate::serving::url;
use crate::support::{SOON, documents, run};

/// A place to start it from. It has a data root and a config of its own.
fn anywhere() -> Root {
    Root::new(&json!({"clients": [documents("client2")]}))
}

#[test]
fn the_demo_balances() {
    let root = anywhere();
    let data_root = root.path().join("demo");
    let printed =
        run(&root, 0, &["demo", "--rate", "20000", "--data-root", data_root.to_str().expect("UTF-8")]);
    assert!(printed.contains("everything balances"), "{printed}");
    for count in ["26115", "client1 (objects)", "client2 (documents)", "client3 (stream)"] {
        assert!(printed.contains(count), "{count}: {printed}");
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let root = anywhere();
    let temporary = root.path().join("temporary");
    std::fs::create_dir(&temporary).expect("create");
    let directory = temporary.to_str().expect("UTF-8");
    let mut demo = Daemon::start(&root, &["demo", "--rate", "100"], &[("TMPDIR", directory)]);
    demo.until_output(SOON, "broker ");
    let status = demo.interrupt();
    assert_eq!(status.code(), Some(75), "{}", demo.output());
    assert!(demo.output().contains("interrupted"), "{}", demo.output());
    let left: Vec<_> = std::fs::read_dir(&temporary).expect("list").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_demo_that_stays_has_something_of_everything_for_the_dashboard() {
    let root = anywhere();
    let data_root = root.path().join("demo");
    let words = ["demo", "--stay", "--data-root", data_root.to_str().expect("UTF-8")];
    let mut demo = Daemon::start(&root, &words, &[]);
    demo.until_output(SOON, "dashboard http://");
    let http = Http::new(&url(&data_root));
    assert!(demo.output().contains(&format!("dashboard {}", http.url())), "{}", demo.output());
    let (_connection, events) = listen(&http, "/events", None);
    demo.until_output(4 * SOON, "The demo goes on until Ctrl-C");

    let items = |path: &str| -> Vec<Value> {
        http.get(path).expect(200)["items"].as_array().expect("a list").clone()
    };
    until(SOON, "a file has rejected records", || {
        items("/api/files?state=ingested").iter().any(|file| file["rejected"] == 2)
    });
    until(SOON, "a file is discarded", || {
        let names = items("/api/files?state=discarded");
        names.iter().any(|file| {
            file["name"].as_str().is_some_and(|name| name.starts_with("Report "))
                && !file["reasons"][0].is_null()
        })
    });
    let contract = &items("/api/arrivals")[0];
    assert_eq!(contract["contract"], "weather");
    let (mut has_window, mut has_instance) = (false, false);
    while !(has_window && has_instance) {
        let event = events.recv_timeout(4 * SOON).expect("a window that closes, and an instance more");
        has_window |= event.name == "window" && event.data["source"] == "EWR";
        has_instance |=
            event.name == "scaled" && event.data["desired"].as_u64() > event.data["before"].as_u64();
    }
    assert!(demo.interrupt().success(), "{}", demo.output());
    assert!(data_root.join("logs/serve.log").exists(), "a given directory is kept");
}
