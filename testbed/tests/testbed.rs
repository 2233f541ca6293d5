//! The servers keep their port and data, and nothing remains of them, however a test process ends.

#![allow(clippy::disallowed_methods, reason = "tests start processes and write files themselves")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use bson::{Document, doc};
use mysimbdp_testbed::mqtt::{self, MqttListener};
use mysimbdp_testbed::{
    Browser, Mongod, Mosquitto, Process, Signal, descendants, free_port, is_running, mosquitto, signal,
    unique, until,
};

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_mongod_keeps_port_and_data_when_it_is_killed_and_restarted() {
    let mut server = Mongod::start();
    let url = server.url();
    let client = mongodb::Client::with_uri_str(&url).await.expect("valid address");
    let documents = client.database("kept").collection::<Document>("kept");
    documents.insert_one(doc! {"_id": 1}).await.expect("insert");

    server.kill9();
    server.restart();

    assert_eq!(server.url(), url);
    assert_eq!(documents.find_one(doc! {}).await.expect("find"), Some(doc! {"_id": 1}));
}

#[test]
fn a_mosquitto_keeps_port_and_messages_when_it_is_stopped_and_restarted() {
    let mut broker = Mosquitto::start();
    let url = broker.url();
    // A run with a fixed client id creates the session, for which the broker queues messages from then on.
    let subscriber = |broker: &Mosquitto, arguments: &[&str]| {
        let mut command = Command::new(mysimbdp_testbed::program("mosquitto_sub"));
        command.args(["-p", &broker.port().to_string(), "-i", "away", "-c", "-q", "1", "-t", "kept"]);
        command.args(arguments).stdout(Stdio::null());
        Process::spawn(command)
    };
    assert!(subscriber(&broker, &["-E"]).wait(WITHIN).success());
    mqtt::publish(&url, "kept", "one\ntwo\n");

    broker.restart();

    assert_eq!(broker.url(), url);
    // It ends by itself when both messages have arrived.
    assert!(subscriber(&broker, &["-C", "2"]).wait(WITHIN).success());
}

#[test]
fn messages_of_both_publishers_are_received_in_order() {
    let broker = mosquitto();
    let topic = unique("order");
    let listener = MqttListener::subscribe(broker.url(), &topic);
    mqtt::publish(broker.url(), &topic, "one\ntwo two\n");
    mqtt::publish_with_paho(broker.url(), &topic, "three\n{\"four\": 4}\n", 100);
    until(WITHIN, "four messages have come", || listener.messages().len() == 4);
    let payloads: Vec<String> = listener.messages().into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, ["one", "two two", "three", "{\"four\": 4}"]);
}

#[test]
fn a_paused_broker_answers_when_it_is_resumed() {
    let mut broker = Mosquitto::start();
    let status = format!("/proc/{}/status", broker.pid());
    broker.pause();
    until(WITHIN, "it is stopped", || {
        std::fs::read_to_string(&status).expect("status of the broker").contains("State:\tT (stopped)")
    });
    broker.resume();
    mqtt::publish(&broker.url(), &unique("resumed"), "late\n");
}

#[test]
fn reserved_ports_differ() {
    let mut ports: Vec<u16> = (0..50).map(|_| free_port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 50);
}

#[test]
fn dropping_a_process_kills_its_children_even_in_another_group() {
    // `set -m` gives each job a process group of its own.
    let mut command = Command::new("/bin/bash");
    command.args(["-c", "set -m; sleep 600 & sleep 600 & exec sleep 600"]);
    let process = Process::spawn(command);
    until(WITHIN, "all three sleep", || process.session().len() == 3);
    let session = process.session();
    drop(process);
    assert!(session.iter().all(|pid| !is_running(*pid)), "some of {session:?} still run");
}

#[test]
fn killing_a_test_process_ends_its_servers() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut test = Process::spawn(testbed_run(directory.path(), &["sleep", "600"]));
    // mongod, mosquitto and the program, which is started last.
    until(WITHIN, "the servers and the program run", || descendants(test.id()).len() == 3);
    let session = test.session();
    let servers: Vec<u32> = descendants(test.id()).into_iter().filter(|pid| !session.contains(pid)).collect();
    assert_eq!(servers.len(), 2);
    test.kill9();
    until(WITHIN, "the servers have ended", || servers.iter().all(|pid| !is_running(*pid)));
}

#[test]
fn a_test_process_that_ends_leaves_no_directory_and_its_exit_code_is_passed_on() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut test = Process::spawn(testbed_run(directory.path(), &["sh", "-c", "exit 7"]));
    assert_eq!(test.wait(WITHIN).code(), Some(7));
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("temporary directory").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_orphan_that_ends_is_reaped() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let pid_file = directory.path().join("pid");
    let gone = "while [ -e /proc/$(cat $0) ]; do sleep 0.01; done";
    // The inner shell ends at once, so testbed-run becomes the parent of the process that it has started.
    let script = format!("sh -c 'sleep 0.1 & echo $! > {0}'; sh -c '{gone}' {0}", pid_file.display());
    let mut command = testbed_run(directory.path(), &["sh", "-c", &script]);
    command.env("MYSIMBDP_TEST_MONGODB", "mongodb://unused").env("MYSIMBDP_TEST_BROKER", "mqtt://unused:1");
    assert!(Process::spawn(command).wait(WITHIN).success());
}

#[test]
fn processes_that_a_program_leaves_behind_are_killed_and_make_it_fail() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let pid_file = directory.path().join("pid");
    let script = format!("setsid sleep 600 & echo $! > {}", pid_file.display());
    let mut command = testbed_run(directory.path(), &["sh", "-c", &script]);
    // No servers are needed: addresses that are set are not contacted.
    command.env("MYSIMBDP_TEST_MONGODB", "mongodb://unused").env("MYSIMBDP_TEST_BROKER", "mqtt://unused:1");
    command.stderr(Stdio::null());
    assert_eq!(Process::spawn(command).wait(WITHIN).code(), Some(1));
    let pid =
        std::fs::read_to_string(&pid_file).expect("pid of what was left").trim().parse().expect("a number");
    assert!(!is_running(pid));
}

fn testbed_run(temporary: &std::path::Path, program: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed-run"));
    command.args(program).env("TMPDIR", temporary).stdin(Stdio::null());
    command.env_remove("MYSIMBDP_TEST_MONGODB").env_remove("MYSIMBDP_TEST_BROKER");
    command
}

#[test]
fn a_browser_reports_what_no_page_may_do_and_leaves_no_process() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            let _ = connection.read(&mut [0; 4096]);
            let body = "<title>x</title><link rel=icon href=data:,><script>console.error('seen'); fetch('http://127.0.0.1:1/other')</script>";
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = connection.write_all(format!("{head}{body}").as_bytes());
        }
    });
    let browser = Browser::start();
    let directory = browser.downloads().parent().expect("a directory").display().to_string();
    assert!(named(&directory) > 1);
    browser.open(&format!("http://{host}/"));
    browser.until("it is loaded", "document.title === 'x'");
    let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| browser.finish(&host)));
    let panic = finished.expect_err("it has done what it may not");
    let message = panic.downcast_ref::<String>().expect("a text");
    assert!(message.contains("seen") && message.contains("request to http://127.0.0.1:1/other"), "{message}");
    assert_eq!(named(&directory), 0);
}

#[test]
fn a_browser_ends_with_its_driver_when_that_is_killed() {
    let browser = Browser::start();
    let directory = browser.downloads().parent().expect("a directory").display().to_string();
    let is_driver = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("chromedriver")
    };
    let driver = descendants(std::process::id()).into_iter().find(is_driver).expect("it runs");
    signal(driver, Signal::KILL);
    until(WITHIN, "the browser has ended", || named(&directory) == 0);
}

/// How many processes have this text in their command line.
fn named(text: &str) -> usize {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}
