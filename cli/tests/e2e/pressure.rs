//! Limits of staging, disks, descriptors and memory; and a clock and a config that change while everything runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use mysimbdp_testbed::mqtt::MqttListener;
use mysimbdp_testbed::{
    Daemon, Mongod, Mosquitto, Root, Signal, SystemFaults, binary, descendants, limit_descriptors, mongodb,
    mosquitto, signal, until, until_async,
};
use serde_json::{Value, json};

use crate::privacy::Unprivileged;
use crate::support::{LOADED, Platform, SOON, documents, keyed_stream, messages, number, readings};

/// More than an idle process needs, far less than the load of these tests.
const GROWTH_MAX: u64 = 64 << 20;

/// Changes the config file.
fn configure(platform: &Platform, change: impl FnOnce(&mut Value)) {
    let text = std::fs::read(platform.root.config()).expect("read config.json");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    change(&mut config);
    platform.root.configure(&config);
}

/// The notices of a process in the status.
fn notices(platform: &Platform, kind: &str) -> String {
    let output = Daemon::run(&platform.root, &["status", "--json"], &[]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let notices = status["notices"].as_array().cloned().unwrap_or_default();
    let texts =
        notices.iter().filter(|notice| notice["role"] == kind).map(|notice| notice["text"].to_string());
    texts.collect::<Vec<_>>().join("\n")
}

fn until_noticed(platform: &Platform, kind: &str, text: &str) {
    until(SOON, &format!("{kind} reports {text:?}"), || notices(platform, kind).contains(text));
}

fn until_unnoticed(platform: &Platform, kind: &str) {
    let began = std::time::Instant::now();
    until(SOON, &format!("{kind} reports nothing any more"), || {
        let notices = notices(platform, kind);
        assert!(notices.is_empty() || began.elapsed() < SOON / 2, "{kind} still reports {notices}");
        notices.is_empty()
    });
}

/// How many lines of a log have this level and this text.
fn logged(platform: &Platform, log: &str, level: &str, text: &str) -> usize {
    let log = platform.root.log(log);
    log.lines().filter(|line| line.contains(&format!(" {level} ")) && line.contains(text)).count()
}

/// A file of about `bytes` bytes whose content no other number has, and its number of rows.
fn numbered(bytes: usize, number: usize) -> (Vec<u8>, u64) {
    readings(bytes + 100 * number)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_intake_pauses_at_the_limit_of_staged_bytes_and_resumes_by_itself() {
    let clients = json!([documents("client1"), documents("client2")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    configure(&platform, |config| config["fetchdata"]["staged_bytes_max"] = json!("100kB"));
    let _fetchdata = platform.start("fetchdata");
    let mut rows = 0;
    for number in 0..6 {
        // One file alone is larger than the limit.
        let (content, count) = numbered(if number == 3 { 200_000 } else { 40_000 }, number);
        platform.root.drop_file("client2", &format!("{number}.csv"), &content);
        rows += count;
    }
    until_noticed(&platform, "fetchdata", "staged_bytes_max 100kB");
    let staged = platform.root.list("staging/client2").len();
    assert!((1..=2).contains(&staged), "{staged} of 40 kB each are within 100 kB");

    platform.root.drop_file("client2", "wrong.exe", b"discarded nevertheless");
    until(SOON, "files are still discarded", || platform.root.list("discarded/client2").len() == 1);
    platform.root.drop_file("client1", "other.csv", &numbered(1_000, 0).0);
    until(SOON, "another client is not stopped", || platform.root.list("staging/client1").len() == 1);

    let _batch_manager = platform.start("batch-manager");
    platform.until_ingested("client2", 6, LOADED).await;
    assert_eq!(platform.count("client2", "readings").await, rows);
    until_unnoticed(&platform, "fetchdata");
    assert_eq!(logged(&platform, "fetchdata.log", "WARN", "intake pauses"), 1, "logged once");
    assert_eq!(logged(&platform, "fetchdata.log", "INFO", "intake resumes"), 1);
}

/// No disk has this much space. Only an edit of the config helps.
#[tokio::test(flavor = "multi_thread")]
async fn below_the_minimum_of_free_space_nothing_is_taken() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    configure(&platform, |config| config["fetchdata"]["free_space_min"] = json!("9999999999GiB"));
    let mut fetchdata = platform.start("fetchdata");
    platform.root.drop_file("client2", "a.csv", &readings(1_000).0);
    platform.root.drop_file("client2", "a.exe", b"discarded nevertheless");
    until_noticed(&platform, "fetchdata", "free_space_min 9999999999GiB");
    until(SOON, "files are still discarded", || platform.root.list("discarded/client2").len() == 1);
    assert!(platform.root.list("staging/client2").is_empty());
    assert_eq!(platform.root.list("client-input-directory/client2"), ["a.csv", "backfill"]);

    configure(&platform, |config| config["fetchdata"]["free_space_min"] = json!("0B"));
    until(SOON, "the file is staged", || platform.root.list("staging/client2").len() == 1);
    until_unnoticed(&platform, "fetchdata");
    assert!(fetchdata.terminate().success());
}

/// The disk of staging, then of state, then of the logs is full or accepts no more files, while fetchdata runs.
#[tokio::test(flavor = "multi_thread")]
async fn fetchdata_waits_for_space_on_each_of_its_disks() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    let faults = SystemFaults::new();
    let mut fetchdata = Daemon::start(&platform.root, &["fetchdata"], &faults.env());
    let _batch_manager = platform.start("batch-manager");
    let path = |name: &str| platform.root.path().join(name);
    let mut rows = 0;
    let mut files = 0;
    let mut dropped = |name: &str| {
        files += 1;
        let (content, count) = numbered(10_000, files);
        platform.root.drop_file("client2", name, &content);
        rows += count;
        (files, rows)
    };
    type Fill = fn(&SystemFaults, &Path);
    for (disk, fill) in [("bytes", SystemFaults::deny_space as Fill), ("files", SystemFaults::deny_files)] {
        fill(&faults, &path("staging"));
        let (count, _) = dropped(&format!("{disk}.csv"));
        until_noticed(&platform, "fetchdata", "No space left");
        assert!(platform.root.list("client-input-directory/client2").contains(&format!("{disk}.csv")));
        faults.allow_all();
        platform.until_ingested("client2", count, SOON).await;
        until_unnoticed(&platform, "fetchdata");
    }
    assert_eq!(logged(&platform, "fetchdata.log", "WARN", "intake pauses"), 2);
    assert_eq!(logged(&platform, "fetchdata.log", "INFO", "intake resumes"), 2);

    for directory in ["state", "logs"] {
        faults.deny_space(&path(directory));
        let (count, _) = dropped(&format!("{directory}.csv"));
        platform.until_ingested("client2", count, SOON).await;
        faults.allow_all();
    }
    let (count, all) = dropped("last.csv");
    platform.until_ingested("client2", count, SOON).await;
    assert_eq!(platform.count("client2", "readings").await, all);
    assert_eq!(
        logged(&platform, "fetchdata.log", "WARN", "lines are missing lost="),
        1,
        "the gap is reported"
    );
    assert!(fetchdata.terminate().success(), "{}", fetchdata.output());
}

/// The same while batch-manager runs: before a unit, between the app's end and its outcome, at the end of the file.
#[tokio::test(flavor = "multi_thread")]
async fn batch_manager_waits_for_space_on_each_of_its_disks_and_stores_nothing_twice() {
    // The app stores everything, and ends when the file `go` exists.
    let script = format!(
        "{} --null NA --type time_hour=date; code=$?; while [ ! -e go ]; do sleep 0.02; done; exit $code",
        binary("document-app").display()
    );
    let mut client = documents("client2");
    client["apps"][0]["command"] = json!(["sh", "-c", script]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([client])).await;
    let path = |name: &str| platform.root.path().join(name);
    let faults = SystemFaults::new();
    let _fetchdata = platform.start("fetchdata");
    let mut batch_manager = Daemon::start(&platform.root, &["batch-manager"], &faults.env());
    until(SOON, "batch-manager is at work", || {
        platform.root.log("batch-manager.log").contains("started staging=")
    });

    let mut rows = 0;
    let mut drop = |name: &str, number| {
        let (content, count) = numbered(20_000, number);
        platform.root.drop_file("client2", name, &content);
        rows += count;
        rows
    };
    faults.deny_space(&path("staging"));
    let all = drop("attempt.csv", 1);
    until_noticed(&platform, "batch-manager", "No space left");
    assert_eq!(
        platform.count("client2", "readings").await,
        0,
        "no unit is begun whose outcome cannot be recorded"
    );
    faults.allow_all();
    platform.until_stored("client2", "readings", all, SOON).await;

    faults.deny_files(&path("staging"));
    std::fs::write(path("go"), "").expect("signal the app");
    until_noticed(&platform, "batch-manager", "No space left");
    assert!(platform.history("client2").await.is_empty());
    faults.allow_all();
    platform.until_ingested("client2", 1, SOON).await;

    faults.deny_space(&path("state"));
    drop("finish.csv", 2);
    until_noticed(&platform, "batch-manager", "cannot finish yet");
    faults.allow_all();
    platform.until_ingested("client2", 2, SOON).await;

    faults.deny_space(&path("logs"));
    let all = drop("logs.csv", 3);
    let runs = platform.until_ingested("client2", 3, SOON).await;
    faults.allow_all();
    assert_eq!(platform.count("client2", "readings").await, all);
    assert_eq!(runs.iter().map(|run| number(run, "stored")).sum::<i64>(), all as i64, "{runs:?}");
    assert!(runs.iter().all(|run| number(run, "duplicates") == 0), "{runs:?}");
    until_unnoticed(&platform, "batch-manager");
    assert!(platform.root.list("held/client2").is_empty());
    assert!(logged(&platform, "batch-manager.log", "WARN", "work waits") <= 3, "once for each outage");
    assert!(batch_manager.terminate().success(), "{}", batch_manager.output());
}

/// The record of an instance cannot be written: the instance is started once it can be, however long that takes.
#[tokio::test(flavor = "multi_thread")]
async fn stream_manager_restarts_an_instance_when_there_is_space() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
    configure(&platform, |config| {
        // Fewer restarts than there will be attempts.
        config["stream_manager"]["restarts_max"] = json!(1);
        config["stream_manager"]["backoff_max"] = json!("200ms");
    });
    let faults = SystemFaults::new();
    let _stream_manager = Daemon::start(&platform.root, &["stream-manager"], &faults.env());
    let instance = platform.until_instances("client3", 1).await[0];
    Mosquitto::publish(mosquitto().url(), &platform.ingest_topic("client3"), &messages(0, 100));
    platform.until_stored("client3", "readings", 100, SOON).await;

    faults.deny_space(&platform.root.path().join("state"));
    signal(instance, Signal::KILL);
    let tries = || logged(&platform, "stream-manager.log", "WARN", "instance not started");
    until(SOON, "the start failed", || tries() == 1);
    Mosquitto::publish(mosquitto().url(), &platform.ingest_topic("client3"), &messages(100, 100));
    faults.allow_all();
    platform.until_stored("client3", "readings", 200, SOON).await;
    assert_eq!(logged(&platform, "stream-manager.log", "ERROR", "given up"), 0);
}

/// No descriptors are left for any of the daemons while files and messages arrive.
#[tokio::test(flavor = "multi_thread")]
async fn out_of_descriptors_everything_waits_and_resumes_when_there_are_some() {
    let clients = json!([documents("client2"), keyed_stream("client3")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let topic = platform.ingest_topic("client3");
    let mut daemons = ["fetchdata", "batch-manager", "stream-manager"].map(|kind| platform.start(kind));
    let instance = platform.until_instances("client3", 1).await[0];
    let (content, mut rows) = numbered(10_000, 0);
    platform.root.drop_file("client2", "first.csv", &content);
    platform.until_ingested("client2", 1, SOON).await;
    Mosquitto::publish(mosquitto().url(), &topic, &messages(0, 100));
    platform.until_stored("client3", "readings", 100, SOON).await;

    let pids = daemons.each_ref().map(Daemon::pid);
    let limits = pids.map(|pid| limit_descriptors(pid, 0));
    signal(instance, Signal::KILL);
    // The config is written unchanged: each process reads it once it can, and finds it unchanged.
    platform.configure(|_| ());
    for number in 1..=30 {
        let (content, count) = numbered(10_000, number);
        platform.root.drop_file("client2", &format!("{number}.csv"), &content);
        rows += count;
    }
    Mosquitto::publish(mosquitto().url(), &topic, &messages(100, 100));
    until_noticed(&platform, "fetchdata", "Too many open files");
    until_noticed(&platform, "batch-manager", "Too many open files");
    assert!(platform.root.list("discarded/client2").is_empty());
    for (pid, limit) in pids.into_iter().zip(limits) {
        limit_descriptors(pid, limit);
    }

    let runs = platform.until_ingested("client2", 31, LOADED).await;
    assert!(runs.iter().all(|run| run.get_str("state").is_ok_and(|state| state == "ingested")), "{runs:?}");
    assert_eq!(platform.count("client2", "readings").await, rows);
    platform.until_stored("client3", "readings", 200, SOON).await;
    for kind in ["fetchdata", "batch-manager"] {
        until_unnoticed(&platform, kind);
    }
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

/// What needs a thread waits until one is free, also in a process whose threads were all idle before.
#[tokio::test(flavor = "multi_thread")]
async fn out_of_threads_every_process_continues_and_the_embedded_broker_answers() {
    // So that the limit counts the threads of no other process.
    const ALONE: u32 = 65_011;
    let client = json!({
        "id": "client2",
        "files": {"globs": ["*"], "extensions": ["csv"]},
        "apps": [{
            "name": "app",
            "command": ["sh", "-c", "cat > /dev/null; echo last words >&2; exit 65"],
            "collection": "records",
            "ids": "none",
        }],
    });
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "200ms", "backoff_first": "100ms", "backoff_max": "1s"},
        "clients": [client],
    }));
    let user = Unprivileged::with_id(root.path(), ALONE);
    let mut up = user.start_with(&root, "up", &[]);
    until(SOON, "everything runs", || {
        let health = user.run(&root, &["health"]);
        health.status.success()
    });
    let children = descendants(up.id());
    assert_eq!(children.len(), 5, "broker, fetchdata, batch-manager, stream-manager and serve");

    children.iter().for_each(|&pid| user.limit_threads(pid, Some(0)));
    // The length of the shortage: an idle thread of the runtime ends after 10 s unless it is told otherwise.
    let shortage = Instant::now();
    let broker: Value =
        serde_json::from_slice(&std::fs::read(root.path().join("state/broker.json")).expect("a broker"))
            .expect("JSON");
    let broker = broker["url"].as_str().expect("its address").to_owned();
    while shortage.elapsed() < Duration::from_secs(15) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let listener = MqttListener::subscribe_durably(&broker, "during/#", "durable");
    root.drop_file("client2", "during.csv", b"a,b\n1,2\n");
    Mosquitto::publish(&broker, "during/it", "a message\n");
    until(SOON, "batch-manager cannot start the app", || {
        root.log("batch-manager.log").contains("Resource temporarily unavailable")
    });
    children.iter().for_each(|&pid| user.limit_threads(pid, None));

    until(SOON, "the message arrives", || !listener.messages().is_empty());
    until(LOADED, "the file is held", || root.list("held/client2").len() == 1);
    let reasons = root.reasons("held", "client2");
    assert!(format!("{reasons:?}").contains("last words"), "{reasons:?}");
    assert_eq!(descendants(up.id()), children, "a process has ended");
    assert!(user.run(&root, &["health"]).status.success());
    assert!(up.terminate(SOON).success());
}

/// A process that finds fewer threads than it needs at its start ends, to be started again.
#[test]
fn a_process_that_cannot_start_its_threads_exits_71_at_once() {
    const ALONE: u32 = 65_012;
    let app = json!({"name": "app", "command": ["cat"], "collection": "records"});
    let root = Root::new(&json!({"clients": [{"id": "client2", "apps": [app]}]}));
    let user = Unprivileged::with_id(root.path(), ALONE);
    let mut codes = BTreeSet::new();
    for threads in 1..=64 {
        let code = user.run_with_threads(&root, &["check"], threads);
        codes.insert(code);
        if code == Some(0) {
            break;
        }
    }
    assert_eq!(codes, BTreeSet::from([Some(0), Some(71)]));
}

/// 50 MB of messages and 40 files while the database hangs, then stutters: the backlog waits at the broker and on disk.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_memory_is_bounded_while_the_database_hangs_and_stutters() {
    const MESSAGES: u64 = 50_000;
    let mut database = Mongod::start();
    let broker = Mosquitto::start();
    let clients = json!([documents("client2"), keyed_stream("client3")]);
    let platform = Platform::new(&database.url(), &broker.url(), clients).await;
    let topic = platform.ingest_topic("client3");
    let daemons = ["fetchdata", "batch-manager", "stream-manager"].map(|kind| platform.start(kind));
    let instances = platform.until_instances("client3", 1).await;
    Mosquitto::publish(&broker.url(), &topic, &messages(0, 1000));
    platform.until_stored("client3", "readings", 1000, SOON).await;
    let pids: Vec<u32> = daemons.iter().map(Daemon::pid).chain(instances).collect();
    let before: Vec<u64> = pids.iter().map(|pid| memory(*pid, "VmRSS")).collect();

    database.pause();
    let text = "x".repeat(1000);
    let padded: String = (1000..1000 + MESSAGES)
        .map(|number| format!("{{\"number\":{number},\"text\":\"{text}\"}}\n"))
        .collect();
    Mosquitto::publish(&broker.url(), &topic, &padded);
    let mut rows = 0;
    for number in 0..40 {
        let (content, count) = numbered(200_000, number);
        platform.root.drop_file("client2", &format!("{number}.csv"), &content);
        rows += count;
    }
    until(LOADED, "all files wait in staging", || platform.root.list("staging/client2").len() == 40);
    until_noticed(&platform, "batch-manager", "waits");
    database.resume();
    for burst in 1..=5 {
        let stored = platform.count("client3", "readings").await;
        database.pause();
        Mosquitto::publish(&broker.url(), &topic, &messages(1000 + MESSAGES + burst * 500, 500));
        database.resume();
        until_async(LOADED, "more is stored", async || platform.count("client3", "readings").await > stored)
            .await;
    }
    platform.until_stored("client3", "readings", 1000 + MESSAGES + 2500, LOADED).await;
    platform.until_ingested("client2", 40, LOADED).await;
    assert_eq!(platform.count("client2", "readings").await, rows);
    for (pid, before) in pids.into_iter().zip(before) {
        let growth = memory(pid, "VmHWM").saturating_sub(before);
        let name =
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs").replace('\0', " ");
        assert!(growth < GROWTH_MAX, "{name} grew by {growth} bytes");
    }
}

/// A day of hourly files, with no broker from the first hour to the last: only the messages about them wait.
#[tokio::test(flavor = "multi_thread")]
async fn broker_down_over_several_hours_of_data_nothing_grows() {
    let mut broker = Mosquitto::start();
    let platform = Platform::new(mongodb().url(), &broker.url(), json!([documents("client2")])).await;
    let daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    platform.root.drop_file("client2", "before.csv", &readings(1_000).0);
    let outbox = || platform.root.list("state/outbox").len();
    until(SOON, "the first has ended", || {
        logged(&platform, "batch-manager.log", "INFO", "ingested") == 1 && outbox() == 0
    });
    let before = daemons.each_ref().map(|daemon| memory(daemon.pid(), "VmRSS"));
    broker.kill9();
    for hour in 0..24 {
        platform.root.drop_file("client2", &format!("hour-{hour:02}.csv"), &numbered(50_000, hour).0);
    }
    platform.until_ingested("client2", 25, LOADED).await;
    until(SOON, "all have ended", || platform.root.list("staging/client2").is_empty());
    assert_eq!(outbox(), 24, "their notifications wait on disk");
    for (daemon, before) in daemons.iter().zip(before) {
        let growth = memory(daemon.pid(), "VmHWM").saturating_sub(before);
        assert!(growth < GROWTH_MAX, "{growth} bytes");
        assert!(cpu_ticks(daemon.pid()) < 1500, "no busy loop");
    }
    broker.restart();
    until(SOON, "the messages are published", || outbox() == 0);
}

/// The clock steps a day forward, and two days back, while files and messages are ingested.
#[tokio::test(flavor = "multi_thread")]
async fn clock_steps_a_day_forward_and_back() {
    const DAY: i64 = 86_400;
    let faults = SystemFaults::new();
    let env = json!(faults.env().into_iter().collect::<std::collections::BTreeMap<_, _>>());
    let mut client2 = documents("client2");
    client2["apps"][0]["env"] = env.clone();
    client2["archive"] = json!("2d");
    let mut client3 = keyed_stream("client3");
    client3["streams"][0]["env"] = env;
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([client2, client3])).await;
    let processes = ["fetchdata", "batch-manager", "stream-manager"];
    let mut daemons = processes.map(|kind| Daemon::start(&platform.root, &[kind], &faults.env()));
    let instance = platform.until_instances("client3", 1).await[0];
    let mut rows = 0;
    for (step, seconds) in [0, DAY, -DAY, 0].into_iter().enumerate() {
        faults.clock(seconds);
        let (content, count) = numbered(20_000, step);
        let name = format!("step-{step}.csv");
        platform.root.drop_file("client2", &name, &content);
        rows += count;
        Mosquitto::publish(
            mosquitto().url(),
            &platform.ingest_topic("client3"),
            &messages(step as u64 * 100, 100),
        );
        let runs = platform.until_ingested("client2", step + 1, SOON).await;
        platform.until_stored("client3", "readings", (step as u64 + 1) * 100, SOON).await;
        assert!(
            runs.iter().all(|run| run.get_f64("seconds").is_ok_and(|seconds| seconds >= 0.0)),
            "{runs:?}"
        );
        let last = runs.iter().find(|run| run.get_str("file").is_ok_and(|file| file == name));
        let staged = last.expect("the run").get_datetime("staged_at").expect("a date");
        let off = staged.timestamp_millis() / 1000 - bson::DateTime::now().timestamp_millis() / 1000;
        assert!((off - seconds).abs() < 600, "the clock of step {step} was {seconds} s off, not {off}");
    }
    assert_eq!(platform.count("client2", "readings").await, rows);
    // The load may have added further instances.
    assert!(platform.running("client3").contains(&instance), "it was not restarted");
    assert_eq!(platform.root.list("archive/client2").len(), 4, "nothing was removed before its time");
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

/// Due times that the wrong clock made pass are judged again when they are in the future again, and are warned of once.
#[tokio::test(flavor = "multi_thread")]
async fn arrivals_are_judged_again_after_the_clock_was_two_days_ahead() {
    const DAYS: i64 = 2 * 86_400;
    let faults = SystemFaults::new();
    let mut client = documents("client2");
    client["apps"][0]["env"] = json!(faults.env().into_iter().collect::<std::collections::BTreeMap<_, _>>());
    let by = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(6)).strftime("%H:%M").to_string();
    client["apps"][0]["expect"] = json!([{"files": "*.csv", "by": by}]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([client])).await;
    let mut daemons =
        ["fetchdata", "batch-manager"].map(|kind| Daemon::start(&platform.root, &[kind], &faults.env()));
    let states = async || {
        let mut records = platform.documents("arrivals").await;
        records.sort_by_key(|record| record.get_datetime("due").copied().ok());
        records
            .iter()
            .filter_map(|record| record.get_str("state").ok().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let until_states = async |expected: &[&str]| {
        until_async(SOON, &format!("the states are {expected:?}"), async || states().await == expected).await;
    };
    until_async(SOON, "it is seen", async || platform.documents("arrival_contracts").await.len() == 1).await;
    faults.clock(DAYS);
    until_states(&["missing", "missing"]).await;
    faults.clock(0);
    until_states(&["expected", "missing"]).await;
    let (content, _) = numbered(2_000, 0);
    platform.root.drop_file("client2", "a.csv", &content);
    until_states(&["on_time", "missing"]).await;
    faults.clock(DAYS);
    // The clock has been noticed when the next file has been judged.
    let (content, _) = numbered(2_000, 1);
    platform.root.drop_file("client2", "b.csv", &content);
    until_states(&["repeated", "missing"]).await;
    let warnings = logged(&platform, "batch-manager.log", "WARN", "no file has arrived for a due time");
    assert_eq!(warnings, 2, "{}", platform.root.log("batch-manager.log"));
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

/// The config is broken while everything runs: this is reported, and the old config stays in use, even for processes
/// that are killed and started again.
#[tokio::test(flavor = "multi_thread")]
async fn broken_config_while_running() {
    let clients = json!([documents("client2"), keyed_stream("client3")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let valid = std::fs::read_to_string(platform.root.config()).expect("read");
    let write = |text: &str| std::fs::write(platform.root.config(), text).expect("write");
    let logs = ["fetchdata.log", "batch-manager.log", "stream-manager.log", "serve.log"];
    let all_say = |logs: &[&str], level: &str, text: &str, times: usize| {
        until(SOON, &format!("{times} times {text:?}"), || {
            logs.iter().all(|log| logged(&platform, log, level, text) == times)
        });
    };

    write(&valid.replace("\"settle\"", "\"setle\"").replace("\"client2\"", "\"Client 2\""));
    all_say(&logs, "WARN", "has faults", 1);
    assert!(platform.root.log("fetchdata.log").contains("did you mean settle"), "the line has all faults");
    let status = platform.command(0, &["status"]);
    assert!(status.contains("setle") && status.contains("Client 2"), "{status}");
    assert!(status.contains("the config of the running processes is used"), "{status}");
    platform.command(78, &["check"]);
    // Not even JSON.
    write(&valid[..valid.len() / 2]);
    all_say(&logs, "WARN", "has faults", 2);
    let file = platform.root.path().join("a.csv");
    std::fs::write(&file, readings(10_000).0).expect("a file");
    platform.command(0, &["drop", "--wait", "client2", file.to_str().expect("UTF-8")]);
    for words in [["health"], ["list"], ["reconcile"]] {
        platform.command(0, &words);
    }
    Mosquitto::publish(mosquitto().url(), &platform.ingest_topic("client3"), &messages(0, 100));
    platform.until_stored("client3", "readings", 100, SOON).await;

    let processes = ["fetchdata", "batch-manager", "stream-manager", "serve"];
    let kill_all = || processes.map(|kind| signal(child_of(up.pid(), kind), Signal::KILL));
    // Only `up`, which is about to start them again, is left: this is reported, and no command uses the file.
    signal(up.pid(), Signal::STOP);
    kill_all();
    until(SOON, "all have ended", || Daemon::run(&platform.root, &["health"], &[]).status.code() == Some(69));
    assert!(
        platform.command(69, &["health"]).contains(&format!("`mysimbdp up` (pid {}) restarts it", up.pid()))
    );
    let other_broker = valid.replace(mosquitto().url(), "mqtt://127.0.0.1:1");
    assert_ne!(other_broker, valid);
    write(&other_broker);
    let refused = platform.command(78, &["edge", "--client", "client3", "--source", "late"]);
    assert!(refused.contains(&format!("up runs (pid {}): it uses the broker", up.pid())), "{refused}");
    write(&valid[..valid.len() / 2]);
    signal(up.pid(), Signal::CONT);
    // Each refuses the truncated file and says so, as before: for the third time, and the new processes for the first.
    all_say(&logs, "WARN", "has faults", 3);
    platform.command(0, &["health"]);
    platform.root.drop_file("client2", "b.csv", &numbered(10_000, 1).0);
    platform.until_ingested("client2", 2, SOON).await;
    write(&valid);
    all_say(&logs, "INFO", "matches the running config again", 1);

    configure(&platform, |config| config["logs"] = json!({"retention": "1d"}));
    let reason = "needs a restart, because these are read only at the start: logs.retention";
    for kind in processes {
        until_noticed(&platform, kind, reason);
    }
    let refused = platform.command(78, &["reload"]);
    assert_eq!(refused.matches("refuses it, the old config stays").count(), 4, "{refused}");
    // A process that is started again must not run on another config than the others.
    signal(child_of(up.pid(), "fetchdata"), Signal::KILL);
    all_say(&logs[..1], "WARN", "needs a restart", 2);
    assert!(up.interrupt().success(), "{}", up.output());
}

/// The child of `up` of this kind.
fn child_of(up: u32, kind: &str) -> u32 {
    let is_child = |pid: &u32| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').nth(1) == Some(kind)
    };
    descendants(up).into_iter().find(is_child).expect("it runs")
}

/// A size from `/proc/<pid>/status`, in bytes.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect(name);
    let kilobytes = line.trim().strip_suffix(" kB").expect("a number of kB");
    kilobytes.trim().parse::<u64>().expect("a number") * 1024
}

/// The processor time of all threads of a process.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum()
}
