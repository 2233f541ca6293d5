//! `mysimbdp tail`: each event once, whatever is cut or killed, until nobody reads it any more.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use mysimbdp_testbed::{Daemon, Proxy, Root, Signal, binary, until};
use serde_json::{Value, json};

use crate::serving::access::{token, write_tokens};
use crate::serving::{Served, url};
use crate::support::{SOON, documents, run};

const CONNECTED: &str = "mysimbdp: connected, events follow";

fn served(clients: Value) -> Served {
    Served::start(&json!({}), clients)
}

fn tail(root: &Root, words: &[&str], env: &[(&str, &str)]) -> Daemon {
    let mut tail = Daemon::start(root, &[&["tail"], words].concat(), env);
    tail.until_output(SOON, CONNECTED);
    tail
}

/// The events that were printed as JSON.
fn events(tail: &Daemon) -> Vec<Value> {
    let output = tail.output();
    let complete = output.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let lines = complete.lines().filter(|line| !line.starts_with("mysimbdp:"));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits for the event of this kind of this file.
#[track_caller]
fn until_event(tail: &mut Daemon, kind: &str, name: &str) {
    let is_it = |event: &Value| event["event"] == kind && event["data"]["name"] == name;
    until(SOON, &format!("{name} is {kind}"), || {
        assert!(tail.is_running(), "{}", tail.output());
        events(tail).iter().any(is_it)
    });
}

#[track_caller]
fn assert_each_once(tail: &Daemon) {
    let events = events(tail);
    let ids: BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), events.len(), "{events:#?}");
}

#[test]
fn events_of_an_outage_follow_once_and_a_gap_is_told() {
    let mut served = served(json!([documents("client1")]));
    let proxy = Proxy::before_http(served.http.url());
    let address = proxy.http_url();
    let mut remote = tail(&served.root, &["--json", "--to", &address], &[]);
    let mut local = tail(&served.root, &["--json"], &[]);
    // The connection breaks before there was any event: what happens meanwhile comes all the same.
    remote.signal(Signal::STOP);
    proxy.cut();
    served.root.drop_file("client1", "a.csv", b"a,b\n1,2\n");
    until_event(&mut local, "ingested", "a.csv");
    remote.signal(Signal::CONT);
    until_event(&mut remote, "ingested", "a.csv");
    proxy.cut();
    served.root.drop_file("client1", "b.csv", b"a,b\n\"3,4\n");
    until_event(&mut remote, "discarded", "b.csv");
    assert!(remote.output().contains("mysimbdp: connected again"), "{}", remote.output());
    assert!(events(&remote).iter().all(|event| event["event"] != "resync"), "{}", remote.output());
    assert!(remote.terminate().success(), "{}", remote.output());
    assert_each_once(&remote);

    served.kill_server();
    local.until_output(SOON, "mysimbdp: connected again");
    served.root.drop_file("client1", "c.csv", b"a,b\n5,6\n");
    until_event(&mut local, "ingested", "c.csv");
    let kinds: Vec<_> = events(&local).iter().map(|event| event["event"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "resync").count(), 1, "{kinds:?}");
    assert_each_once(&local);
    assert!(local.interrupt().success(), "{}", local.output());
    served.stop();
}

#[test]
fn each_event_is_a_line_whatever_its_file_is_called() {
    let served = served(json!([documents("client1"), documents("client2")]));
    let mut all = tail(&served.root, &[], &[]);
    let mut of_client2 = tail(&served.root, &["client2"], &[]);
    let name = "a\n\u{1b}]0;x\u{7}\u{202e}\u{200b}<script>天気.exe";
    let path = served.root.drop_directory("client1").join(OsStr::from_bytes(name.as_bytes()));
    std::fs::write(path, "a,b\n1,2\n").expect("drop");
    all.until_output(SOON, "discarded ");
    let shown = r"client1    discarded a%0A%1B]0;x%07\u{202e}\u{200b}<script>天気.exe: ";
    assert!(all.output().contains(shown), "{}", all.output());
    served.root.drop_file("client2", "b.csv", b"a,b\n1,2\n");
    for tail in [&mut all, &mut of_client2] {
        tail.until_output(SOON, "client2    ingested  b.csv: 1 stored");
        assert!(tail.output().chars().all(|letter| letter == '\n' || !letter.is_control()));
    }
    assert!(!of_client2.output().contains("client1"), "{}", of_client2.output());
    drop((all, of_client2));
    served.stop();
}

#[test]
fn it_ends_quietly_when_nobody_reads_it_any_more() {
    let served = served(json!([documents("client1")]));
    // The shell reports how `tail` has ended, not `head`.
    let script = format!(
        "{{ {} --config {} tail 2>err; echo ended $? >&2; }} | head -n 1",
        binary("mysimbdp").display(),
        served.root.config().display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(served.root.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let reader = shell.spawn().expect("sh runs");
    let errors = || std::fs::read_to_string(served.root.path().join("err")).unwrap_or_default();
    until(SOON, "it listens", || errors().contains(CONNECTED));
    served.root.drop_file("client1", "a.csv", b"a,b\n1,2\n");
    until(SOON, "the file is ingested", || {
        served.http.get("/api/files?state=ingested").json()["items"][0].is_object()
    });
    served.root.drop_file("client1", "b.csv", b"a,b\n3,4\n");
    let output = reader.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((stderr.as_str(), errors().trim()), ("ended 0\n", CONNECTED));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    served.stop();
}

#[test]
fn a_token_sees_its_client_alone_and_what_cannot_be_listened_to_is_an_exit_code() {
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s"},
        "serving": {"listen": "127.0.0.1:0", "tokens_file": "tokens.json"},
        "clients": [documents("client1"), documents("client2")],
    }));
    write_tokens(
        root.path(),
        &json!([
            token("reader", None, &["read"]),
            token("own", Some("client1"), &["read"]),
            token("sender", Some("client1"), &["drop"]),
        ]),
    );
    assert!(run(&root, 69, &["tail"]).contains("no HTTP server has been started for this data root"));
    let up = Daemon::start(&root, &["up"], &[]);
    let served = Served::of(root, up);
    let token_file = served.root.path().join("token");
    std::fs::write(&token_file, "reader\n").expect("write the token");
    let mut all = tail(&served.root, &["--token-file", &token_file.display().to_string()], &[]);
    let mut own = tail(&served.root, &[], &[("MYSIMBDP_TOKEN", "own")]);
    served.root.drop_file("client2", "other.csv", b"a,b\n1,2\n");
    all.until_output(SOON, "other.csv: 1 stored");
    served.root.drop_file("client1", "own.csv", b"a,b\n1,2\n");
    own.until_output(SOON, "own.csv: 1 stored");
    assert!(!own.output().contains("client2"), "{}", own.output());

    let address = url(served.root.path());
    for (token, words, code, expected) in [
        ("", vec![], 77, "refuses (unauthorized)"),
        ("sender", vec![], 77, "refuses (forbidden)"),
        ("own", vec!["client2"], 77, "refuses (forbidden)"),
        ("reader", vec!["nobody"], 66, "unknown client \"nobody\": expected one of client1, client2"),
        ("reader", vec!["no body"], 64, "invalid"),
        ("reader", vec!["--to", "http://127.0.0.1:1"], 69, "http://127.0.0.1:1 does not answer"),
        ("reader", vec!["--to", "127.0.0.1"], 64, "expected https://"),
        ("reader", vec!["--token-file", "/nowhere"], 66, "/nowhere"),
        ("nobody", vec!["--to", &address], 77, "refuses (unauthorized)"),
    ] {
        let output =
            Daemon::run(&served.root, &[&["tail"], words.as_slice()].concat(), &[("MYSIMBDP_TOKEN", token)]);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(code) && printed.contains(expected),
            "{words:?}: {:?} {printed}",
            output.status
        );
    }
    // A token that is removed ends what it has begun.
    write_tokens(served.root.path(), &json!([token("own", Some("client1"), &["read"])]));
    assert_eq!(all.wait().code(), Some(77), "{}", all.output());
    drop(own);
    served.stop();
}
