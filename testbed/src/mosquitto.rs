//! A mosquitto for one test.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::Process;
use crate::{SOON, free_port, mqtt, program, until};

/// The settings that the platform needs: no limit on the messages queued for a disconnected client, and a window as large as
/// the consumer's (the default of 20 would limit every batch to 20). The packet limit is the platform's.
const SETTINGS: &str = "\
allow_anonymous true
persistence true
autosave_interval 1
max_queued_messages 0
max_inflight_messages 0
max_packet_size 16777216
set_tcp_nodelay true
log_type error
log_type warning
";

/// A mosquitto on the loopback address, with persistence, killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    port: u16,
    // Before the directory, because fields are dropped in this order.
    process: Process,
    directory: TempDir,
}

impl Mosquitto {
    /// Starts one on a free port.
    ///
    /// # Panics
    ///
    /// If mosquitto is not installed or does not start.
    pub fn start() -> Self {
        Self::with("")
    }

    /// The same with additional lines in its configuration file.
    ///
    /// # Panics
    ///
    /// If mosquitto is not installed or does not start with them.
    pub fn with(settings: &str) -> Self {
        let directory = TempDir::with_prefix("mysimbdp-mosquitto-").expect("temporary directory");
        let port = free_port();
        let path = directory.path();
        // Started by root, it would otherwise change to a user who cannot write here.
        let own = format!("listener {port} 127.0.0.1\nuser root\npersistence_location {}/\n", path.display());
        std::fs::write(path.join("mosquitto.conf"), format!("{own}{SETTINGS}{settings}\n"))
            .expect("mosquitto.conf");
        let process = run(path, port);
        Self { port, process, directory }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `mqtt://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it: changes of the last second may be lost, because they are not saved yet.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Kills it and deletes its sessions and all messages that it had acknowledged and queued.
    pub fn forget(&mut self) {
        self.kill9();
        match std::fs::remove_file(self.directory.path().join("mosquitto.db")) {
            // It had not saved anything yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.expect("remove the saved state of mosquitto"),
        }
    }

    /// Stops it cleanly: it saves its sessions and their messages.
    pub fn stop(&mut self) {
        self.process.terminate(SOON);
    }

    /// Restarts it on the same port and data. If it is running, it is stopped cleanly first.
    pub fn restart(&mut self) {
        self.stop();
        self.process = run(self.directory.path(), self.port);
    }

    /// Stops its execution: it keeps its connections and does not answer.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Publishes each line to any broker, with `mosquitto_pub` and QoS 1, and returns when all are acknowledged.
    ///
    /// # Panics
    ///
    /// If it is not installed or fails.
    #[track_caller]
    pub fn publish(url: &str, topic: &str, lines: &str) {
        mqtt::publish(url, topic, lines);
    }

    /// The same with QoS 0.
    ///
    /// # Panics
    ///
    /// If it is not installed or fails.
    #[track_caller]
    pub fn publish_at_most_once(url: &str, topic: &str, lines: &str) {
        mqtt::publish_at_most_once(url, topic, lines);
    }
}

fn run(directory: &Path, port: u16) -> Process {
    let log_path = directory.join("mosquitto.log");
    let log = File::options().create(true).append(true).open(&log_path).expect("log of mosquitto");
    let mut command = Command::new(program("mosquitto"));
    command.arg("-c").arg(directory.join("mosquitto.conf")).current_dir(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut process = Process::spawn(command);
    until(SOON, "mosquitto listens", || {
        if let Some(status) = process.try_wait() {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            panic!("mosquitto ended with {status}: {log}");
        }
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    process
}
