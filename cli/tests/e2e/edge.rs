//! A numbered source, from lines in a file to the database.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bson::{Document, doc};
use mysimbdp_testbed::mqtt::MqttListener;
use mysimbdp_testbed::{Daemon, Mosquitto, Process, binary, mongodb, mosquitto, program, until, until_async};
#[cfg(feature = "failpoints")]
use mysimbdp_testbed::{Disk, FileSystem};
use serde_json::json;

use crate::support::{LOADED, Platform, SOON, messages, stream};

const EDGE: [&str; 5] = ["edge", "--client", "client1", "--source", "sensor-1"];

/// A file that an edge follows.
struct Readings {
    path: PathBuf,
    lines: u64,
}

impl Readings {
    fn new(platform: &Platform) -> Self {
        Self { path: platform.root.path().join("readings.ndjson"), lines: 0 }
    }

    fn append(&mut self, count: u64) {
        let mut file = File::options().create(true).append(true).open(&self.path).expect("open the readings");
        file.write_all(messages(self.lines, count).as_bytes()).expect("append readings");
        self.lines += count;
    }

    fn follow(&self, platform: &Platform) -> Daemon {
        let path = self.path.to_string_lossy().into_owned();
        let words = [&EDGE[..], &["--resend-after", "1s", "--follow", &path]].concat();
        Daemon::start(&platform.root, &words, &[])
    }
}

/// Runs an edge on these lines from stdin to its end; returns its exit code and its stderr.
#[track_caller]
fn feed(config: &Path, words: &[&str], environment: &[(&str, &str)], lines: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (input, errors) = (directory.path().join("lines"), directory.path().join("errors"));
    std::fs::write(&input, lines).expect("write lines");
    let mut command = Command::new(binary("mysimbdp"));
    command.arg("--config").arg(config).args(EDGE).args(words).envs(environment.iter().copied());
    command.stdin(File::open(&input).expect("lines")).stdout(Stdio::null());
    command.stderr(File::create(&errors).expect("a file"));
    let status = Process::spawn(command).wait(LOADED);
    (status.code(), std::fs::read_to_string(&errors).expect("a file"))
}

/// Asserts that each line is one document, and that there is no other.
async fn assert_exactly_once(platform: &Platform, lines: u64) {
    platform.until_stored("client1", "readings", lines, LOADED).await;
    let readings = platform.client_database("client1").collection::<Document>("readings");
    let numbers = readings.distinct("number", doc! {}).await.expect("read the numbers");
    assert_eq!(numbers.len() as u64, lines);
    assert_eq!(platform.count("client1", "rejected").await, 0);
}

/// The broker had acknowledged messages that nobody had stored, and its database with the session of the stream is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_forgets_everything_loses_nothing_of_an_edge() {
    let mut broker = Mosquitto::with("persistence false");
    let platform = Platform::new(mongodb().url(), &broker.url(), json!([stream("client1", json!({}))])).await;
    let mut readings = Readings::new(&platform);
    readings.append(1_000);
    let stream_manager = platform.start("stream-manager");
    platform.until_instances("client1", 1).await;
    let mut edge = readings.follow(&platform);
    platform.until_stored("client1", "readings", 1_000, SOON).await;

    // Its instance ends, too: nobody stores what the broker acknowledges now.
    drop(stream_manager);
    let witness = MqttListener::subscribe(&broker.url(), &format!("{}/ingest/#", platform.topic_prefix));
    readings.append(500);
    until(SOON, "the broker has received more", || witness.messages().len() >= 500);
    drop(witness);
    broker.kill9();
    readings.append(500);
    broker.restart();
    let _stream_manager = platform.start("stream-manager");

    assert_exactly_once(&platform, 2_000).await;
    until_async(SOON, "the edge has received its receipts", async || edge.output().contains("received=2000"))
        .await;
    assert!(edge.terminate().success(), "{}", edge.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_repeatedly_loses_and_duplicates_nothing() {
    let clients = json!([stream("client1", json!({"instances": {"min": 2, "max": 2}}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _stream_manager = platform.start("stream-manager");
    platform.until_instances("client1", 2).await;
    let mut readings = Readings::new(&platform);
    for cycle in 1..=5 {
        readings.append(1_500);
        let mut edge = readings.follow(&platform);
        // Killed while it works, each time at another position.
        let stored = cycle * 1_500 - 1_400;
        let what = format!("{stored} are stored");
        until_async(SOON, &what, async || platform.count("client1", "readings").await >= stored).await;
        edge.kill9();
    }
    let mut edge = readings.follow(&platform);
    assert_exactly_once(&platform, 7_500).await;
    // Perhaps before it has received that receipt, or any receipt at all.
    edge.kill9();

    // Without new lines it waits until the messages in the outbox are received.
    platform.command(0, &EDGE);
    assert_exactly_once(&platform, 7_500).await;
}

/// The next edge publishes what it finds, and a power cut must not undo that: otherwise another line would get the same
/// number.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn power_cut_leaves_a_number_to_the_line_that_a_killed_edge_had_written() {
    let Some(mut disk) = Disk::new_or_skip(FileSystem::Ext4) else { return };
    let clients = json!([stream("client1", json!({}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _stream_manager = platform.start("stream-manager");
    let outbox = disk.path().join("outbox").display().to_string();
    let input = platform.root.path().join("lines");
    let feed = |lines: &str, failpoint: Option<&str>| {
        std::fs::write(&input, lines).expect("write lines");
        let mut command = Command::new(binary("mysimbdp"));
        command.arg("--config").arg(platform.root.config()).args(EDGE).args(["--outbox", &outbox]);
        command.stdin(File::open(&input).expect("lines")).envs(failpoint.map(|point| ("FAILPOINTS", point)));
        Process::spawn(command).wait(LOADED).code()
    };
    assert_eq!(feed(&messages(0, 3), None), Some(0));
    assert_eq!(feed(&messages(3, 2), Some("edge.appended")), None, "killed");
    // It ends when all messages that it has found are received.
    assert_eq!(feed("", None), Some(0));
    assert_eq!(platform.count("client1", "readings").await, 5);
    disk.cut();
    disk.restore();
    assert_eq!(feed(&messages(5, 4), None), Some(0));
    assert_eq!(platform.count("client1", "rejected").await, 0, "a number with two contents");
    assert_exactly_once(&platform, 9).await;
}

/// Lines come from stdin; the command returns when all are stored, or says by its exit code why they are not.
#[tokio::test(flavor = "multi_thread")]
async fn lines_from_stdin_are_stored_when_the_command_returns() {
    let clients = json!([stream("client1", json!({}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let run = |words: &[&str], lines: &str| feed(&platform.root.config(), words, &[], lines);
    let (code, stderr) = run(&["--timeout", "1s"], &messages(0, 3));
    assert_eq!(code, Some(75), "no platform: {stderr}");
    assert!(stderr.contains("3 messages were not received"), "{stderr}");

    let _stream_manager = platform.start("stream-manager");
    let (code, stderr) = run(&["--resend-after", "1s"], &messages(3, 997));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        platform.count("client1", "readings").await,
        1_000,
        "everything is stored when the command returns"
    );

    let (code, stderr) = run(&["--message-max", "20B"], "{\"number\":1000}\n{\"number\":10000000000}\n");
    assert_eq!(code, Some(65), "{stderr}");
    assert!(stderr.contains("line 2 of stdin"), "{stderr}");
    assert!(platform.command(66, &["edge", "--client", "nobody", "--source", "s"]).contains("nobody"));
}

/// It can come from a file or the environment, as every user of the machine can see the command line.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_the_broker_need_not_be_on_the_command_line() {
    const PASSWORD: &str = "p%41s:s/w@rd";
    let directory = tempfile::tempdir().expect("temporary directory");
    let (users, password) = (directory.path().join("users"), directory.path().join("password"));
    std::fs::write(&password, format!("{PASSWORD}\n")).expect("write the password");
    let mut users_file = Command::new(program("mosquitto_passwd"));
    users_file.args(["-b", "-c"]).arg(&users).args(["platform", PASSWORD]);
    assert!(users_file.status().expect("mosquitto_passwd").success());
    let broker = Mosquitto::with(&format!("allow_anonymous false\npassword_file {}", users.display()));
    let url = format!("mqtt://platform@127.0.0.1:{}", broker.port());
    let from_environment = [("MYSIMBDP_BROKER_PASSWORD", PASSWORD)];

    let platform = Platform::new(mongodb().url(), &url, json!([stream("client1", json!({}))])).await;
    let _stream_manager = Daemon::start(&platform.root, &["stream-manager"], &from_environment);
    let mut readings = Readings::new(&platform);
    let in_address = url.replace("platform@", "platform:p%2541s%3As%2Fw%40rd@");
    let password = password.display().to_string();
    let ways: [(&[&str], bool); 4] = [
        (&["--password-file", &password], false),
        (&["--broker", &url, "--password-file", &password], false),
        (&["--broker", &url], true),
        (&["--broker", &in_address], false),
    ];
    for (cycle, (words, in_environment)) in (1..).zip(ways) {
        readings.append(10);
        let path = readings.path.to_string_lossy().into_owned();
        let words = [&EDGE[..], &["--resend-after", "1s", "--follow", &path], words].concat();
        let environment = if in_environment { &from_environment[..] } else { &[] };
        let mut edge = Daemon::start(&platform.root, &words, environment);
        platform.until_stored("client1", "readings", 10 * cycle, SOON).await;
        assert!(edge.terminate().success(), "{}", edge.output());
        let (output, on_command_line) = (edge.output(), words.contains(&&*in_address));
        assert_eq!(
            output.contains("password of the broker is on the command line"),
            on_command_line,
            "{output}"
        );
        assert!(!output.contains(PASSWORD) && !output.contains("p%2541s"), "{output}");
    }
    assert_exactly_once(&platform, 40).await;

    let nobody = url.replace("platform@", "");
    let words = [&EDGE[..], &["--broker", &nobody, "--password-file", &password]].concat();
    assert!(platform.command(64, &words).contains("names no user"));
    std::fs::write(&password, "\n").expect("write the password");
    let words = [&EDGE[..], &["--password-file", &password]].concat();
    assert!(platform.command(78, &words).contains("contains no password"));
}

/// Another broker may belong to another platform, whose receipts say nothing about what this one has stored.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_publishes_to_no_other_broker_than_the_running_processes_use() {
    let other = Mosquitto::start();
    let clients = json!([stream("client1", json!({}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _stream_manager = platform.start("stream-manager");
    platform.until_instances("client1", 1).await;
    let elsewhere = MqttListener::subscribe(&other.url(), "#");
    let run = |environment: &[(&str, &str)], lines: &str| {
        feed(&platform.root.config(), &["--timeout", "60s"], environment, lines)
    };
    let config = std::fs::read_to_string(platform.root.config()).expect("read config.json");
    let write = |text: &str| std::fs::write(platform.root.config(), text).expect("write config.json");
    let refused = |environment: &[(&str, &str)], named: &str| {
        let (code, stderr) =
            feed(&platform.root.config(), &["--timeout", "1s"], environment, &messages(0, 1));
        let expected = format!(
            "it uses the broker {}, but this config names {named}",
            mosquitto().url().trim_end_matches('/')
        );
        let published = elsewhere.messages();
        assert!(code == Some(78) && published.is_empty(), "{code:?}, {published:?}: {stderr}");
        assert!(stderr.contains(&expected) && stderr.contains("stream-manager runs (pid "), "{stderr}");
    };
    let forgotten = [("MYSIMBDP_BROKER", &*other.url())];
    refused(&forgotten, &other.url());
    write("{");
    refused(&forgotten, &other.url());
    write(&config.replace(mosquitto().url(), &other.url()));
    refused(&[], &other.url());
    write(&config);
    platform.configure(|config| {
        config["broker"].as_object_mut().expect("an object").remove("url");
    });
    refused(&[], "the embedded one");
    write(&config);
    platform.configure(|config| config["broker"]["topic_prefix"] = json!("elsewhere"));
    let (code, stderr) = feed(&platform.root.config(), &["--timeout", "1s"], &[], &messages(0, 1));
    assert!(
        code == Some(78) && stderr.contains("but this config names elsewhere: set broker.topic_prefix"),
        "{stderr}"
    );

    // An edge does not use the store.
    write(&config);
    let (code, stderr) = run(&[("MYSIMBDP_COREDMS", "mongodb://127.0.0.1:1")], &messages(0, 10));
    assert_eq!(code, Some(0), "{stderr}");
    assert_exactly_once(&platform, 10).await;
}

/// Like all other commands, so that a pipe into an edge survives an edit.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_continues_while_the_config_has_faults_or_is_missing() {
    let clients = json!([stream("client1", json!({}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let mut stream_manager = platform.start("stream-manager");
    platform.until_instances("client1", 1).await;
    let path = platform.root.config();
    let valid = std::fs::read_to_string(&path).expect("read config.json");
    let says = "the config of the running processes is used";
    let edits = [Some(valid.replace("client1", "Client 1")), Some(valid[..valid.len() / 2].to_owned()), None];
    for (cycle, edit) in (0..).zip(&edits) {
        match edit {
            Some(text) => std::fs::write(&path, text).expect("write config.json"),
            None => std::fs::remove_file(&path).expect("remove config.json"),
        }
        let (code, stderr) = feed(&path, &["--timeout", "60s"], &[], &messages(cycle * 10, 10));
        assert!(code == Some(0) && stderr.contains(says), "{edit:?}: {code:?}: {stderr}");
        platform.until_stored("client1", "readings", (cycle + 1) * 10, SOON).await;
    }

    // On another machine only the broker can be reached.
    let machine = tempfile::tempdir().expect("temporary directory");
    let nowhere = machine.path().join("config.json");
    let (code, stderr) = feed(&nowhere, &["--broker", mosquitto().url()], &[], "");
    assert!(code == Some(78) && stderr.contains("--outbox must name"), "{code:?}: {stderr}");
    let outbox = machine.path().join("outbox").display().to_string();
    let words = ["--outbox", &outbox, "--topic-prefix", &platform.topic_prefix, "--timeout", "60s"];
    let (code, stderr) = feed(&nowhere, &words, &[], "");
    assert!(code == Some(78) && stderr.contains("must name a broker"), "{code:?}: {stderr}");
    let (code, stderr) = feed(&nowhere, &words, &[("MYSIMBDP_BROKER", mosquitto().url())], &messages(30, 10));
    assert_eq!(code, Some(0), "{stderr}");
    assert_exactly_once(&platform, 40).await;

    // No process runs any more whose config it could use.
    std::fs::write(&path, "{").expect("write config.json");
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
    let (code, stderr) = feed(&path, &["--timeout", "60s"], &[], "");
    assert!(code == Some(78) && !stderr.contains(says), "{code:?}: {stderr}");
}
