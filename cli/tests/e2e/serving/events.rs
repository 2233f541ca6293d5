//! What happens, as it happens.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};

use mysimbdp_testbed::{Http, Signal, descendants, signal, until};
use serde_json::{Value, json};

use super::{Served, on_both, url};
use crate::support::{SOON, documents};

on_both! {
    a_listener_is_told_each_state_and_after_a_reconnect_what_it_has_missed,
}

/// An event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// Listens on a connection of its own. Returns once the server answers with this status.
pub(crate) fn listen(http: &Http, path: &str, last_seen: Option<&str>) -> (TcpStream, Receiver<Event>) {
    let host = http.url().strip_prefix("http://").expect("an address");
    let mut connection = TcpStream::connect(host).expect("a connection");
    let last_seen = last_seen.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{last_seen}\r\n").expect("send");
    let mut lines = BufReader::new(connection.try_clone().expect("a connection")).lines();
    let status = lines.next().expect("an answer").expect("an answer");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let headers: Vec<String> =
        lines.by_ref().map(|line| line.expect("a header")).take_while(|line| !line.is_empty()).collect();
    assert!(headers.contains(&"cache-control: no-store".to_owned()), "{headers:?}");
    let (sender, events) = channel();
    std::thread::spawn(move || {
        let (mut id, mut name) = (String::new(), String::new());
        // Ends with the connection.
        for line in lines.map_while(Result::ok) {
            if let Some(value) = line.strip_prefix("id: ") {
                value.clone_into(&mut id);
            } else if let Some(value) = line.strip_prefix("event: ") {
                value.clone_into(&mut name);
            } else if let Some(value) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(value).expect("JSON");
                if sender.send(Event { id: id.clone(), name: name.clone(), data }).is_err() {
                    break;
                }
            }
        }
    });
    (connection, events)
}

/// Reads events until one of this name, and returns all of them.
#[track_caller]
fn read_until(events: &Receiver<Event>, name: &str) -> Vec<Event> {
    let mut read = Vec::new();
    loop {
        let event = events.recv_timeout(SOON).unwrap_or_else(|error| panic!("no {name}: {error}; {read:?}"));
        let is_last = event.name == name;
        read.push(event);
        if is_last {
            return read;
        }
    }
}

fn a_listener_is_told_each_state_and_after_a_reconnect_what_it_has_missed(coredms: &Value) {
    let script = "cat > /dev/null; test -e repaired || exit 65";
    let app = json!({"name": "app", "command": ["sh", "-c", script], "collection": "records", "ids": "none"});
    let clients = json!([{"id": "client1", "apps": [app]}, documents("client2")]);
    let served = Served::start(coredms, clients);
    let (connection, events) = listen(&served.http, "/events", None);
    let (_other, of_client2) = listen(&served.http, "/events?client=client2", None);
    served.root.drop_file("client1", "held.csv", b"a,b\n1,2\n");
    let read = read_until(&events, "held");
    let held = read.last().expect("an event").clone();
    assert_eq!((&held.data["name"], &held.data["codes"]), (&json!("held.csv"), &json!(["data_refused"])));
    assert!(read.iter().all(|event| event.data["client"] == "client1"), "{read:?}");

    // What happens while nobody is connected comes first afterwards.
    connection.shutdown(std::net::Shutdown::Both).expect("disconnect");
    std::fs::write(served.root.path().join("repaired"), "").expect("repair the app");
    let id = held.data["id"].as_str().expect("an id").to_owned();
    served.http.request("POST", &format!("/api/ingestions/{id}/retry"), &[], &[]).expect(202);
    served.root.drop_file("client2", "bad.csv", b"a,b\n\"1,2\n");
    let discarded = read_until(&of_client2, "discarded").pop().expect("an event");
    assert_eq!(discarded.data["name"], "bad.csv");
    served.until_file("ingested");
    let (_again, events) = listen(&served.http, "/events", Some(&held.id));
    let mut read = read_until(&events, "ingested");
    if !read.iter().any(|event| event.name == "discarded") {
        read.extend(read_until(&events, "discarded"));
    }
    assert!(read.iter().all(|event| event.name != "resync" && event.id != held.id), "{read:?}");
    let ingested = read.iter().find(|event| event.name == "ingested").expect("an event");
    assert_eq!(ingested.data["ingestion"], id.as_str());

    // An id of a server that was killed.
    let server = || {
        let words = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        descendants(served.up.pid())
            .into_iter()
            .find(|pid| words(pid).split('\0').any(|word| word == "serve"))
    };
    let killed = server().expect("it runs");
    signal(killed, Signal::KILL);
    until(SOON, "it runs again", || server().is_some_and(|pid| pid != killed));
    let http = Http::new(&url(served.root.path()));
    let (_last, events) = listen(&http, "/events", Some(&held.id));
    assert_eq!(read_until(&events, "resync").len(), 1);
    served.stop();
}
