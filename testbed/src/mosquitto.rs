//! A mosquitto of a test's own.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::Process;
use crate::{SOON, free_port, mqtt, program, until};

/// What a broker of this platform needs: no limit on what is queued for a client that is away, and a window as large
/// as the consumer's own (the default of 20 would cap every batch at 20). The packet limit is the platform's own.
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
    // Before the directory: fields are dropped in this order.
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

    /// The same with further lines for its configuration file.
    ///
    /// # Panics
    ///
    /// If mosquitto is not installed or does not start with them.
    pub fn with(settings: &str) -> Self {
        let directory = TempDir::with_prefix("mysimbdp-mosquitto-").expect("temporary directory");
        let port = free_port();
        let path = directory.path();
        // As root it would otherwise change to a user who may not write here.
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

    /// Ends it without warning: what it has not saved in the last second is gone.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Ends it without warning, and nothing is left of its sessions and of what it had acknowledged and queued.
    pub fn forget(&mut self) {
        self.kill9();
        match std::fs::remove_file(self.directory.path().join("mosquitto.db")) {
            // It had not saved anything yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.expect("remove what mosquitto has saved"),
        }
    }

    /// Ends it in order: it saves its sessions and their messages.
    pub fn stop(&mut self) {
        self.process.terminate(SOON);
    }

    /// Starts it again, on the port and with the data that it had; one that runs is stopped in order first.
    pub fn restart(&mut self) {
        self.stop();
        self.process = run(self.directory.path(), self.port);
    }

    /// It holds its connections and answers nothing.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Publishes each line to any broker, with `mosquitto_pub` and QoS 1; returns when all are acknowledged.
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
            let said = std::fs::read_to_string(&log_path).unwrap_or_default();
            panic!("mosquitto ended with {status}: {said}");
        }
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    process
}
