//! Publishes and listens with the clients that users have: mosquitto's own, and paho for Python.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::process::Process;
use crate::{program, python, until};

const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// The largest runs publish some hundred thousand messages.
const PUBLISH_WITHIN: Duration = Duration::from_secs(120);

const PAHO_PUBLISH: &str = include_str!("publish.py");

/// Publishes each line with `mosquitto_pub`, QoS 1, and returns when the broker has acknowledged all.
///
/// # Panics
///
/// If it is not installed or fails.
#[track_caller]
pub fn publish(url: &str, topic: &str, lines: &str) {
    let (host, port) = host_and_port(url);
    let mut command = Command::new(program("mosquitto_pub"));
    command.args(["-h", host, "-p", port, "-V", "5", "-q", "1", "-l", "-t", topic]);
    run(command, lines);
}

/// Publishes each line with paho, QoS 1, `per_second` of them (0: as fast as it can), and returns when the broker has
/// acknowledged all.
///
/// # Panics
///
/// If Python or paho is not installed, or it fails.
#[track_caller]
pub fn publish_with_paho(url: &str, topic: &str, lines: &str, per_second: u32) {
    let (host, port) = host_and_port(url);
    let mut command = Command::new(python());
    command.args(["-c", PAHO_PUBLISH, host, port, topic, &per_second.to_string()]);
    run(command, lines);
}

#[track_caller]
fn run(mut command: Command, lines: &str) {
    let mut input = NamedTempFile::new().expect("temporary file");
    input.write_all(lines.as_bytes()).expect("lines to publish");
    let errors = NamedTempFile::new().expect("temporary file");
    command.stdin(input.reopen().expect("lines to publish")).stdout(Stdio::null()).stderr(append_to(&errors));
    let status = Process::spawn(command).wait(PUBLISH_WITHIN);
    assert!(status.success(), "publishing ended with {status}: {}", text_of(&errors));
}

/// A `mosquitto_sub` and what it has received; stopped when dropped.
#[derive(Debug)]
pub struct Listener {
    _process: Process,
    received: NamedTempFile,
}

impl Listener {
    /// Returns when it has subscribed.
    ///
    /// # Panics
    ///
    /// If it is not installed or cannot subscribe.
    #[track_caller]
    pub fn subscribe(url: &str, filter: &str) -> Self {
        let received = NamedTempFile::new().expect("temporary file");
        let errors = NamedTempFile::new().expect("temporary file");
        let (host, port) = host_and_port(url);
        // It would keep what it prints to a file to itself until there is a block of it.
        let mut command = Command::new(program("stdbuf"));
        command.arg("-oL").arg(program("mosquitto_sub")).args(["-h", host, "-p", port]);
        // Messages begin with a mark that nothing else of what `-d` prints has.
        command.args(["-V", "5", "-q", "1", "-d", "-F", "\u{1}%t %p", "-t", filter]);
        command.stdin(Stdio::null()).stdout(append_to(&received)).stderr(append_to(&errors));
        let mut process = Process::spawn(command);
        until(CONNECT_WITHIN, "mosquitto_sub has subscribed", || {
            assert!(process.is_running(), "mosquitto_sub ended: {}", text_of(&errors));
            text_of(&received).contains("Subscribed")
        });
        Self { _process: process, received }
    }

    /// Topic and payload of what has come so far, in order, as text.
    pub fn messages(&self) -> Vec<(String, String)> {
        let text = text_of(&self.received);
        let messages = text.lines().filter_map(|line| line.strip_prefix('\u{1}')?.split_once(' '));
        messages.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())).collect()
    }
}

#[track_caller]
fn host_and_port(url: &str) -> (&str, &str) {
    let authority = url.strip_prefix("mqtt://").map(|rest| rest.trim_end_matches('/'));
    let parts = authority.and_then(|authority| authority.rsplit_once(':'));
    parts.unwrap_or_else(|| panic!("{url} is not mqtt://<host>:<port>"))
}

fn append_to(file: &NamedTempFile) -> File {
    File::options().append(true).open(file.path()).expect("temporary file")
}

fn text_of(file: &NamedTempFile) -> String {
    String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()).into_owned()
}
