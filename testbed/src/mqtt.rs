//! Publishes and subscribes with the clients that users have: those of mosquitto, and paho for Python.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

use crate::process::Process;
use crate::{SOON, program, python, until};

/// How many lines one `mosquitto_pub` gets: it reads all its input before it sends. Of 100,000 lines a mosquitto 2.0 accepted
/// 34,500 and then closed the connection as out of memory, and `mosquitto_pub` still reported success.
const LINES_PER_RUN: usize = 10_000;

const PAHO_PUBLISH: &str = include_str!("publish.py");

/// Publishes each line with `mosquitto_pub`, QoS 1, and returns when the broker has acknowledged all.
///
/// # Panics
///
/// If it is not installed or fails.
#[track_caller]
pub fn publish(url: &str, topic: &str, lines: &str) {
    publish_with_mosquitto(url, topic, lines, "1");
}

/// Publishes each line with `mosquitto_pub`, QoS 0, and returns when all are sent.
///
/// # Panics
///
/// If it is not installed or fails.
#[track_caller]
pub fn publish_at_most_once(url: &str, topic: &str, lines: &str) {
    publish_with_mosquitto(url, topic, lines, "0");
}

#[track_caller]
fn publish_with_mosquitto(url: &str, topic: &str, lines: &str, qos: &str) {
    let (host, port) = host_and_port(url);
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    for part in lines.chunks(LINES_PER_RUN) {
        let mut command = Command::new(program("mosquitto_pub"));
        command.args(["-h", host, "-p", port, "-V", "5", "-q", qos, "-l", "-t", topic]);
        run(command, &part.concat());
    }
}

/// Publishes each line with paho, QoS 1, at `per_second` lines a second (0: no limit), and returns when the broker has
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
    let status = Process::spawn(command).wait(SOON);
    assert!(status.success(), "publishing ended with {status}: {}", text_of(&errors));
}

/// A `mosquitto_sub` and the messages that it has received. It is stopped when dropped.
#[derive(Debug)]
pub struct MqttListener {
    _process: Process,
    received: NamedTempFile,
}

impl MqttListener {
    /// Returns when it has subscribed.
    ///
    /// # Panics
    ///
    /// If it is not installed or cannot subscribe.
    #[track_caller]
    pub fn subscribe(url: &str, filter: &str) -> Self {
        Self::start(url, filter, &[])
    }

    /// The same, with a session that the broker keeps.
    #[track_caller]
    pub fn subscribe_durably(url: &str, filter: &str, client_id: &str) -> Self {
        Self::start(url, filter, &["-c", "-i", client_id])
    }

    #[track_caller]
    fn start(url: &str, filter: &str, session: &[&str]) -> Self {
        let received = NamedTempFile::new().expect("temporary file");
        let errors = NamedTempFile::new().expect("temporary file");
        let (host, port) = host_and_port(url);
        // Otherwise it would buffer output to a file until a block is full.
        let mut command = Command::new(program("stdbuf"));
        command.arg("-oL").arg(program("mosquitto_sub")).args(["-h", host, "-p", port]);
        // Messages begin with a character that no other output of `-d` contains.
        command.args(["-V", "5", "-q", "1", "-d", "-F", "\u{1}%t %p", "-t", filter]).args(session);
        command.stdin(Stdio::null()).stdout(append_to(&received)).stderr(append_to(&errors));
        let mut process = Process::spawn(command);
        until(SOON, "mosquitto_sub has subscribed", || {
            assert!(process.is_running(), "mosquitto_sub ended: {}", text_of(&errors));
            text_of(&received).contains("Subscribed")
        });
        Self { _process: process, received }
    }

    /// Returns topic and payload of the messages received so far, in order, as text.
    pub fn messages(&self) -> Vec<(String, String)> {
        let text = text_of(&self.received);
        let messages = text.lines().filter_map(|line| line.strip_prefix('\u{1}')?.split_once(' '));
        messages.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())).collect()
    }
}

/// Returns whether the broker keeps a session for this client id. A client that is connected with it is disconnected, and the
/// check ends the session.
///
/// # Panics
///
/// If the broker does not answer.
#[track_caller]
pub fn had_session(url: &str, client_id: &str) -> bool {
    let (host, port) = host_and_port(url);
    let mut broker = TcpStream::connect(format!("{host}:{port}")).expect("the broker listens");
    broker.set_read_timeout(Some(SOON)).expect("a time-out");
    // MQTT 5, no clean start, keep-alive 10 s, no properties: the session expires with the connection.
    let mut connect = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 10, 0, 0];
    connect.push(u8::try_from(client_id.len()).expect("a short name"));
    connect.extend(client_id.bytes());
    broker.write_all(&[0x10, u8::try_from(connect.len()).expect("a short packet")]).expect("CONNECT");
    broker.write_all(&connect).expect("CONNECT");
    let mut acknowledged = [0; 4];
    broker.read_exact(&mut acknowledged).expect("CONNACK");
    assert_eq!((acknowledged[0], acknowledged[3]), (0x20, 0), "the broker refuses {client_id}");
    acknowledged[2] & 1 == 1
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
