//! `status`, `health`, `up`, `list`, `start`: what is missing is named, and every command is answered.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use mysimbdp_testbed::{Daemon, Mosquitto, Proxy, Root, Signal, mongodb, mosquitto, signal, until};
use serde_json::{Value, json};

use crate::privacy::Unprivileged;
use crate::support::{Platform, SOON, documents, keyed_stream, number, readings};

/// An address at which nothing listens.
const UNREACHABLE: &str = "mqtt://127.0.0.1:9";

/// The exit code of `health --json`, and its report.
fn health(root: &Root) -> (Option<i32>, Value) {
    let output = Daemon::run(root, &["health", "--json"], &[]);
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// The part of the report with this name; null if there is none.
fn part<'a>(health: &'a Value, name: &str) -> &'a Value {
    let parts = health["parts"].as_array().expect("parts");
    parts.iter().find(|part| part["name"] == name).unwrap_or(&Value::Null)
}

fn condition<'a>(health: &'a Value, name: &str) -> &'a str {
    part(health, name)["condition"].as_str().unwrap_or("no such part")
}

const KINDS: [&str; 3] = ["fetchdata", "batch-manager", "stream-manager"];

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_process_and_connection_is_named_with_its_exit_code() {
    let clients = json!([documents("client2"), keyed_stream("client3")]);
    let (mut broker, store) = (Mosquitto::start(), Proxy::before_mongodb(mongodb().url()));
    let platform = Platform::new(mongodb().url(), &broker.url(), clients).await;
    platform.set("coredms", json!({"url": store.mongodb_url() + "&serverSelectionTimeoutMS=30000"}));
    let (code, nothing_runs) = health(&platform.root);
    assert_eq!((code, &nothing_runs["healthy"]), (Some(69), &json!(false)), "{nothing_runs:#}");
    let found = ["fetchdata", "broker", "store"].map(|name| condition(&nothing_runs, name));
    assert_eq!(found, ["missing", "ok", "ok"], "{nothing_runs:#}");

    let mut daemons = KINDS.map(|kind| platform.start(kind));
    platform.until_instances("client3", 1).await;
    until(SOON, "everything is running", || health(&platform.root).0 == Some(0));
    let status = platform.command(0, &["status"]);
    for line in [
        "ok       process     fetchdata: pid",
        "ok       connection  store: ",
        "ok       stream      client3/stream: 1 of 1",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }

    daemons[0].kill9();
    let status = platform.command(69, &["status"]);
    assert!(status.contains("missing  process     fetchdata: is not running"), "{status}");
    daemons[0] = platform.start("fetchdata");
    until(SOON, "everything is running again", || health(&platform.root).0 == Some(0));

    // The broker refuses connections; the store accepts them and does not answer.
    broker.stop();
    store.fall_silent();
    let (code, unavailable) = health(&platform.root);
    assert_eq!(code, Some(69), "{unavailable:#}");
    let found = ["fetchdata", "batch-manager", "stream-manager", "broker", "store"]
        .map(|name| condition(&unavailable, name));
    assert_eq!(found, ["ok", "ok", "ok", "missing", "missing"], "{unavailable:#}");
    let status = platform.command(69, &["status"]);
    assert!(status.contains("onnection refused") && status.contains("it does not answer within"), "{status}");
    store.heal();
    broker.restart();
    until(SOON, "everything is running at last", || health(&platform.root).0 == Some(0));

    // A process that no longer answers is not reported as one that does not run.
    daemons[2].pause();
    let (code, hangs) = health(&platform.root);
    daemons[2].resume();
    assert_eq!(code, Some(75), "{hangs:#}");
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_is_ready_when_broker_and_store_are_available_and_reports_before_what_it_waits_for() {
    let mut broker = Mosquitto::start();
    let platform = Platform::new(mongodb().url(), &broker.url(), json!([documents("client2")])).await;
    broker.stop();
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "not ready, waits: broker");
    // Its processes work nevertheless.
    let (content, rows) = readings(20_000);
    platform.root.drop_file("client2", "weather.csv", &content);
    assert_eq!(number(&platform.until_ingested("client2", 1, SOON).await[0], "stored"), rows as i64);
    assert!(!up.output().contains("ready after"), "{}", up.output());
    broker.restart();
    up.until_output(SOON, "ready after");
    assert!(up.interrupt().success(), "{}", up.output());
}

/// These commands used to be silent for two minutes.
#[tokio::test(flavor = "multi_thread")]
async fn start_stop_and_list_answer_while_broker_or_store_are_unavailable() {
    let platform = Platform::new(mongodb().url(), UNREACHABLE, json!([keyed_stream("client3")])).await;
    let mut stream_manager = platform.start("stream-manager");
    until(SOON, "the manager reports what it waits for", || {
        let listed = Daemon::run(&platform.root, &["list"], &[]).stdout;
        String::from_utf8_lossy(&listed).contains("waits: the broker is unavailable")
    });
    let refused = platform.command(75, &["start", "client3", "0"]);
    assert!(refused.contains("is not started yet: the broker is unavailable"), "{refused}");
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());

    let store = Proxy::before_mongodb(mongodb().url());
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
    platform.set("coredms", json!({"url": store.mongodb_url() + "&serverSelectionTimeoutMS=500"}));
    store.fall_silent();
    let mut stream_manager = platform.start("stream-manager");
    until(SOON, "the stream is listed while the store is unavailable", || {
        let listed = Daemon::run(&platform.root, &["list"], &[]).stdout;
        String::from_utf8_lossy(&listed).contains("waits: the store is unavailable")
    });
    let refused = platform.command(75, &["start", "client3", "0"]);
    assert!(refused.contains("is not started yet: the store is unavailable"), "{refused}");
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_answers_while_the_broker_is_unavailable_and_says_that_the_drain_continues() {
    let mut broker = Mosquitto::start();
    let stream = crate::support::stream("client3", json!({"instances": {"min": 2, "max": 2}}));
    let platform = Platform::new(mongodb().url(), &broker.url(), json!([stream])).await;
    let mut stream_manager = platform.start("stream-manager");
    let instances = platform.until_instances("client3", 2).await;
    broker.stop();
    let refused = platform.command(75, &["stop", "client3", &instances[1].to_string()]);
    assert!(
        refused.contains("is still draining: the broker at") && refused.contains("continues"),
        "{refused}"
    );
    let listed = platform.command(0, &["list"]);
    assert!(listed.contains("1 manual"), "{listed}");
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hangs_is_not_reported_as_healthy() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    for kind in ["fetchdata", "batch-manager"] {
        let (_, healthy) = health(&platform.root);
        let process = part(&healthy, kind)["pid"].as_u64().expect("a pid") as u32;
        signal(process, Signal::STOP);
        until(SOON, "it is reported as hanging", || {
            let (code, health) = health(&platform.root);
            code == Some(75) && part(&health, kind)["text"].to_string().contains("it hangs")
        });
        signal(process, Signal::CONT);
        until(SOON, "it is healthy again", || health(&platform.root).0 == Some(0));
    }
    assert!(up.interrupt().success(), "{}", up.output());
}

/// An environment variable is easily forgotten in a terminal other than that of `up`.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_would_use_another_store_says_so() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let with_other_store = |words: &[&str]| {
        let other = format!("sqlite:{}", platform.root.path().join("other").display());
        let output = Daemon::run(&platform.root, words, &[("MYSIMBDP_COREDMS", &other)]);
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
    };
    let commands: [&[&str]; 4] = [
        &["reconcile"],
        &["drop", "client2", "config.json"],
        &["rejected", "00000000000000000000000000000000"],
        &["purge", "--held", "--older-than", "1d"],
    ];
    for words in commands {
        let (code, printed) = with_other_store(words);
        assert!(code == Some(78) && printed.contains("it uses the store mongodb://"), "{words:?}: {printed}");
    }
    // This one needs no store.
    let (code, printed) = with_other_store(&["purge", "--discarded", "--older-than", "1d"]);
    assert!(code == Some(0) && printed.contains("0 files removed"), "{printed}");
    let (code, printed) = with_other_store(&["status"]);
    assert!(code == Some(75) && printed.contains("set MYSIMBDP_COREDMS to the same value"), "{printed}");
    assert!(!platform.root.path().join("other").exists());
    platform.command(0, &["reconcile"]);
    platform.configure(|config| config["coredms"]["database"] = json!("elsewhere"));
    for words in commands {
        let refused = platform.command(78, words);
        assert!(
            refused.contains("but this config names elsewhere: set coredms.database"),
            "{words:?}: {refused}"
        );
    }
    platform.command(75, &["health"]);
    assert!(up.interrupt().success(), "{}", up.output());
}

/// Otherwise each command would wait as long as an instance may drain.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_hangs_is_reported_as_such() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
    let mut stream_manager = platform.start("stream-manager");
    let pid = platform.until_instances("client3", 1).await[0].to_string();
    signal(stream_manager.pid(), Signal::STOP);
    let commands: [&[&str]; 4] =
        [&["start", "client3", "0"], &["stop", "client3", &pid], &["scale", "client3", "auto"], &["list"]];
    for words in commands {
        let refused = platform.command(75, words);
        assert!(refused.contains("did not answer within 5 s"), "{words:?}: {refused}");
    }
    signal(stream_manager.pid(), Signal::CONT);
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
}

/// The app runs, but no longer does anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_app_that_hangs_is_unhealthy_and_is_replaced_but_not_while_the_broker_is_unavailable() {
    let network = Proxy::before_broker(mosquitto().url());
    let platform =
        Platform::new(mongodb().url(), &network.mqtt_url(), json!([keyed_stream("client3")])).await;
    platform.set("stream_manager", json!({"silence_max": "20s"}));
    let mut stream_manager = platform.start("stream-manager");
    let before = platform.until_instances("client3", 1).await;
    let listed = |field: &str| {
        let listed = Daemon::run(&platform.root, &["list", "client3", "--json"], &[]).stdout;
        serde_json::from_slice::<Value>(&listed).unwrap_or_default()[0][field].as_u64()
    };
    until(SOON, "it has reported", || listed("reported_seconds_ago").is_some());
    // Its reports do not arrive for longer than it may be silent.
    network.fall_silent();
    until(SOON, "it has been silent for long", || {
        listed("silent_seconds").is_some_and(|seconds| seconds > 25)
    });
    assert_eq!(
        platform.running("client3"),
        before,
        "the broker was unavailable: silence says nothing about the app"
    );
    network.heal();
    until(SOON, "it is healthy again", || condition(&health(&platform.root).1, "client3/stream") == "ok");

    signal(before[0], Signal::STOP);
    until(SOON, "it is shown as unhealthy", || {
        let status = Daemon::run(&platform.root, &["status"], &[]).stdout;
        let status = String::from_utf8_lossy(&status);
        status.contains("running, unhealthy") && status.contains("one is unhealthy: it has reported nothing")
    });
    until(SOON, "another instance has taken its slot", || {
        let running = platform.running("client3");
        running.len() == 1 && running != before
    });
    let log = platform.root.log("stream-manager.log");
    assert!(log.contains("instance reports nothing while the broker is connected"), "{log}");
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
}

#[test]
fn an_unreadable_file_and_an_unreadable_directory_are_named() {
    let root = Root::new(&json!({"broker": {"url": UNREACHABLE}, "clients": [documents("client2")]}));
    let file = root.drop_file("client2", "secret.csv", b"a\n1\n");
    let below = root.drop_directory("client2").join("closed");
    fs::create_dir(&below).expect("directory");
    let user = Unprivileged::new(root.path());
    user.own(&root.path().join("client-input-directory"));
    if !user.is_another() {
        println!("SKIPPED in part: root cannot be denied access to a file");
    }
    for path in [&file, &below] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).expect("mode");
    }
    let output = user.run(&root, &["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let notices = status["notices"].as_array().expect("notices");
    for path in ["client-input-directory/client2/secret.csv", "client-input-directory/client2/closed"] {
        let named = |notice: &&Value| {
            notice["text"].as_str().is_some_and(|text| text.starts_with(&format!("{path} cannot be read")))
        };
        assert_eq!(notices.iter().filter(named).count(), 1, "{path}: {status:#}");
    }
}

/// The sender sees only its own folder and the history in the store.
#[tokio::test(flavor = "multi_thread")]
async fn drop_by_another_user_waits_too_and_retry_says_what_is_wrong() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    let root = &platform.root;
    let mut daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    until(SOON, "the folder is there", || root.drop_directory("client2").join("backfill").exists());
    let user = Unprivileged::new(&root.path().join("nothing-of-the-platform"));
    if !user.is_another() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    for (path, mode) in [(root.path().to_owned(), 0o755), (root.config(), 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    }
    user.own(&root.drop_directory("client2"));
    let held = root.path().join("held");
    fs::create_dir_all(&held).expect("directory");
    fs::set_permissions(&held, fs::Permissions::from_mode(0o700)).expect("mode");
    let folder = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let (content, rows) = readings(20_000);
    let file = folder.path().join("weather.csv");
    fs::write(&file, content).expect("write");
    let dropped = user.run(root, &["drop", "client2", file.to_str().expect("text"), "--wait"]);
    let printed =
        String::from_utf8_lossy(&dropped.stdout).into_owned() + &String::from_utf8_lossy(&dropped.stderr);
    assert_eq!(dropped.status.code(), Some(0), "{printed}");
    assert!(printed.contains(&format!("stored {rows}")), "{printed}");

    let retried = user.run(root, &["retry", "00112233445566778899aabbccddeeff"]);
    let printed = String::from_utf8_lossy(&retried.stderr);
    assert_eq!(retried.status.code(), Some(77), "{printed}");
    assert!(printed.contains("only the platform's user or root may move files"), "{printed}");
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

#[test]
fn drop_says_what_it_waits_for_when_nothing_runs() {
    let root = Root::new(&json!({"broker": {"url": UNREACHABLE}, "clients": [documents("client2")]}));
    let file = root.path().join("weather.csv");
    fs::write(&file, readings(1_000).0).expect("write");
    let words = ["drop", "client2", file.to_str().expect("text"), "--wait", "--timeout", "15s"];
    let output = Daemon::run(&root, &words, &[]);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{printed}");
    assert!(printed.contains("waits: fetchdata is not running"), "{printed}");
}

#[test]
fn up_restarts_a_killed_process_and_status_shows_the_new_one() {
    let root = Root::new(&json!({"clients": [documents("client2")]}));
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let pid = || {
        let (_, health) = health(&root);
        let parts = health["parts"].as_array().expect("parts");
        parts.iter().find(|part| part["name"] == "fetchdata").and_then(|part| part["pid"].as_u64())
    };
    let before = pid().expect("it runs");
    signal(u32::try_from(before).expect("a pid"), Signal::KILL);
    until(SOON, "another one runs", || pid().is_some_and(|pid| pid != before));
    assert!(up.interrupt().success(), "{}", up.output());
}

/// With the address in one terminal's environment only, the other one is told about the broker in use.
#[test]
fn a_broker_that_only_up_knows_is_named() {
    let root = Root::new(&json!({"clients": [documents("client2")]}));
    let mut up = Daemon::start(&root, &["up"], &[("MYSIMBDP_BROKER", mosquitto().url())]);
    up.until_output(SOON, "ready after");
    let output = Daemon::run(&root, &["health"], &[]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let broker = printed.lines().find(|line| line.contains("process     broker")).expect("a line");
    assert!(broker.contains(mosquitto().url()) && !broker.contains("restarts it"), "{printed}");
    assert!(up.interrupt().success(), "{}", up.output());
}
