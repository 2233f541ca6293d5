//! A numbered source, from lines in a file to the database.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bson::{Document, doc};
use mysimbdp_testbed::mqtt::Listener;
use mysimbdp_testbed::{Daemon, Mosquitto, Process, binary, mongodb, mosquitto, until, until_async};
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

/// Each line is one document, and there is no other.
async fn exactly_once(platform: &Platform, lines: u64) {
    platform.stored("client1", "readings", lines, LOADED).await;
    let readings = platform.client_database("client1").collection::<Document>("readings");
    let numbers = readings.distinct("number", doc! {}).await.expect("read the numbers");
    assert_eq!(numbers.len() as u64, lines);
    assert_eq!(platform.count("client1", "rejected").await, 0);
}

/// It had acknowledged messages that nobody had stored, and its database with the session of the stream is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_forgets_everything_loses_nothing_of_an_edge() {
    let mut broker = Mosquitto::with("persistence false");
    let platform = Platform::new(mongodb().url(), &broker.url(), json!([stream("client1", json!({}))])).await;
    let mut readings = Readings::new(&platform);
    readings.append(1_000);
    let stream_manager = platform.start("stream-manager");
    platform.instances("client1", 1).await;
    let mut edge = readings.follow(&platform);
    platform.stored("client1", "readings", 1_000, SOON).await;

    // With its instance: nobody stores what the broker acknowledges now.
    drop(stream_manager);
    let witness = Listener::subscribe(&broker.url(), &format!("{}/ingest/#", platform.topic_prefix));
    readings.append(500);
    until(SOON, "the broker has taken more", || witness.messages().len() >= 500);
    drop(witness);
    broker.kill9();
    readings.append(500);
    broker.restart();
    let _stream_manager = platform.start("stream-manager");

    exactly_once(&platform, 2_000).await;
    until_async(SOON, "the edge has heard so", async || edge.output().contains("received=2000")).await;
    assert!(edge.terminate().success(), "{}", edge.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let clients = json!([stream("client1", json!({"instances": {"min": 2, "max": 2}}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _stream_manager = platform.start("stream-manager");
    platform.instances("client1", 2).await;
    let mut readings = Readings::new(&platform);
    for round in 1..=5 {
        readings.append(1_500);
        let mut edge = readings.follow(&platform);
        // Killed at work, each time at another place.
        let stored = round * 1_500 - 1_400;
        let what = format!("{stored} are stored");
        until_async(SOON, &what, async || platform.count("client1", "readings").await >= stored).await;
        edge.kill9();
    }
    let mut edge = readings.follow(&platform);
    exactly_once(&platform, 7_500).await;
    // Perhaps before it has heard so, or has heard anything at all.
    edge.kill9();

    // Without new lines it waits until what is in the outbox is received.
    platform.command(0, &EDGE);
    exactly_once(&platform, 7_500).await;
}

/// The next one publishes what it finds, and a power cut must not take that back: another line would get its number.
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
    // It ends when all is received that it has found.
    assert_eq!(feed("", None), Some(0));
    platform.stored("client1", "readings", 5, LOADED).await;
    disk.cut();
    disk.restore();
    assert_eq!(feed(&messages(5, 4), None), Some(0));
    exactly_once(&platform, 9).await;
}

/// From stdin; the command returns when all is stored, and says by its exit code why it did not.
#[tokio::test(flavor = "multi_thread")]
async fn lines_from_stdin_are_stored_when_the_command_returns() {
    let clients = json!([stream("client1", json!({}))]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let input = platform.root.path().join("lines");
    let run = |words: &[&str], lines: &str| {
        std::fs::write(&input, lines).expect("write lines");
        let errors = platform.root.path().join("edge.err");
        let mut command = Command::new(binary("mysimbdp"));
        command.arg("--config").arg(platform.root.config()).args(EDGE).args(words);
        command.stdin(File::open(&input).expect("lines")).stdout(Stdio::null());
        command.stderr(File::create(&errors).expect("a file"));
        let status = Process::spawn(command).wait(LOADED);
        (status.code(), std::fs::read_to_string(&errors).expect("a file"))
    };
    let (code, said) = run(&["--timeout", "1s"], &messages(0, 3));
    assert_eq!(code, Some(75), "no platform: {said}");
    assert!(said.contains("3 messages are not received"), "{said}");

    let _stream_manager = platform.start("stream-manager");
    let (code, said) = run(&["--resend-after", "1s"], &messages(3, 997));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(platform.count("client1", "readings").await, 1_000, "all is there when the command returns");

    let (code, said) = run(&["--message-max", "20B"], "{\"number\":1000}\n{\"number\":10000000000}\n");
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("line 2 of stdin"), "{said}");
    assert!(platform.command(66, &["edge", "--client", "nobody", "--source", "s"]).contains("nobody"));
}
