//! A mongod for one test: a replica set of one member, so that the write concerns `majority` and journal take effect.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bson::doc;
use mongodb::{Client, Database};
use tempfile::TempDir;

use crate::process::Process;
use crate::{SOON, free_port, program, until_async};

/// How much a mongod may use for its cache and its oplog.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// `None` is mongod's default, half of the machine's memory.
    cache_gigabytes: Option<&'static str>,
    oplog_megabytes: &'static str,
}

/// For several at a time on a small machine.
const SMALL: Limits = Limits { cache_gigabytes: Some("0.5"), oplog_megabytes: "512" };

/// For a load of a gigabyte: with less it would constantly evict from the cache and truncate the oplog.
const LARGE: Limits = Limits { cache_gigabytes: None, oplog_megabytes: "8192" };

/// A mongod on the loopback address, killed when dropped.
#[derive(Debug)]
pub struct Mongod {
    port: u16,
    limits: Limits,
    // Before the directory, because fields are dropped in this order.
    process: Process,
    directory: TempDir,
}

impl Mongod {
    /// Starts one on a free port and waits until it accepts writes.
    ///
    /// # Panics
    ///
    /// If there is no mongod or it does not start.
    pub fn start() -> Self {
        Self::with_limits(SMALL)
    }

    /// The same with limits for large loads, if it is alone on its machine.
    ///
    /// # Panics
    ///
    /// If there is no mongod or it does not start.
    pub fn start_large() -> Self {
        Self::with_limits(LARGE)
    }

    fn with_limits(limits: Limits) -> Self {
        let directory = TempDir::with_prefix("mysimbdp-mongod-").expect("temporary directory");
        let port = free_port();
        let process = run(directory.path(), port, limits);
        Self { port, limits, process, directory }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `mongodb://127.0.0.1:<port>/?replicaSet=rs0`.
    pub fn url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", self.port)
    }

    /// Kills it: writes without `j: true` may be lost.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Stops it cleanly.
    pub fn stop(&mut self) {
        self.process.terminate(SOON);
    }

    /// Restarts it on the same port and data, and waits until it accepts writes. If it is running, it is stopped cleanly first.
    pub fn restart(&mut self) {
        self.stop();
        self.process = run(self.directory.path(), self.port, self.limits);
    }

    /// Stops its execution: it keeps its connections and does not answer.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Makes it step down as primary, as in an election, for `time`.
    ///
    /// # Panics
    ///
    /// If it refuses.
    pub async fn step_down(&self, time: Duration) {
        let url = format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port);
        let admin = Client::with_uri_str(url).await.expect("a valid address").database("admin");
        let seconds = i64::try_from(time.as_secs()).expect("a short time");
        let command = doc! {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true};
        admin.run_command(command).await.expect("it steps down");
    }
}

fn run(directory: &Path, port: u16, limits: Limits) -> Process {
    let output = std::fs::File::create(directory.join("mongod.out")).expect("output of mongod");
    let mut command = Command::new(program::mongod());
    command.args([
        "--replSet",
        "rs0",
        "--bind_ip",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--nounixsocket",
    ]);
    command
        .arg("--dbpath")
        .arg(directory)
        .arg("--logpath")
        .arg(directory.join("mongod.log"))
        .arg("--logappend");
    if let Some(gigabytes) = limits.cache_gigabytes {
        command.args(["--wiredTigerCacheSizeGB", gigabytes]);
    }
    command.args(["--oplogSize", limits.oplog_megabytes]);
    command.args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file more")).stderr(output);
    let mut process = Process::spawn(command);
    // On a thread of its own, because the test may be within a runtime.
    let waited = std::thread::scope(|scope| {
        let wait = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("runtime").block_on(until_primary(&mut process, directory, port));
        };
        scope.spawn(wait).join()
    });
    match waited {
        Ok(()) => process,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Initiates its replica set with it as the only member if it is new, and waits until it accepts writes.
async fn until_primary(process: &mut Process, directory: &Path, port: u16) {
    let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=1000");
    let admin = Client::with_uri_str(url).await.expect("a valid address").database("admin");
    until_async(SOON, "mongod is primary", async || {
        if let Some(status) = process.try_wait() {
            panic!("mongod ended with {status}: {}", last_lines(directory));
        }
        is_primary(&admin, port).await
    })
    .await;
}

async fn is_primary(admin: &Database, port: u16) -> bool {
    // While it starts, it does not answer or returns an error.
    let Ok(hello) = admin.run_command(doc! {"hello": 1}).await else { return false };
    // It is true if there is no configuration yet. If it is initiated a second time, it refuses, which is harmless.
    if hello.get_bool("isreplicaset").unwrap_or(false) {
        let member = doc! {"_id": 0, "host": format!("127.0.0.1:{port}")};
        let set = doc! {"_id": "rs0", "members": [member]};
        let _ = admin.run_command(doc! {"replSetInitiate": set}).await;
    }
    hello.get_bool("isWritablePrimary").unwrap_or(false)
}

fn last_lines(directory: &Path) -> String {
    let text = |name| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    let all = text("mongod.out") + &text("mongod.log");
    let lines: Vec<&str> = all.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
