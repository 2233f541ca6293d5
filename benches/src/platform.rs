//! The platform as it is run: the real programs, on a data root of their own.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use bson::{DateTime, Document, doc};
use mongodb::Database;
use mysimbdp_testbed::{Daemon, Root};
use serde_json::{Value, json};

use crate::failure::{BenchError, Result};
use crate::memory::MemoryWatch;
use crate::servers::{DEADLINE, Servers, found};
use crate::wait::until;

/// The platform's own database, and what its clients' begin with.
pub const DATABASE: &str = "bench";

/// The first level of its topics.
pub const TOPIC_PREFIX: &str = "bench";

/// Short, as it is no part of what is timed.
const SETTLE: &str = "100ms";

/// The platform at work.
#[derive(Debug)]
pub struct RunningPlatform {
    // Before the root: fields are dropped in this order.
    daemon: Daemon,
    pub root: Root,
    /// The command of `mysimbdp` that runs.
    command: &'static str,
    database: Database,
}

impl RunningPlatform {
    /// Runs `mysimbdp up` for these clients and returns when it is ready.
    ///
    /// # Panics
    ///
    /// If the programs are not built or do not start.
    pub fn up(servers: &Servers, clients: Value) -> Self {
        Self::up_through(servers, &servers.mosquitto.url(), clients)
    }

    /// The same, connected to the broker at `broker`.
    pub fn up_through(servers: &Servers, broker: &str, clients: Value) -> Self {
        Self::start(servers, &servers.mongod.url(), broker, clients, "up").once_printed("ready after")
    }

    /// Runs fetchdata alone.
    pub fn fetchdata(servers: &Servers, clients: Value) -> Self {
        Self::start(servers, &servers.mongod.url(), &servers.mosquitto.url(), clients, "fetchdata")
            .once_printed("started")
    }

    /// Runs stream-manager alone, on the store at `mongodb`.
    pub fn stream_side(servers: &Servers, mongodb: &str, clients: Value) -> Self {
        Self::start(servers, mongodb, &servers.mosquitto.url(), clients, "stream-manager")
    }

    /// Runs the HTTP server alone.
    pub fn serving(servers: &Servers, clients: Value) -> Self {
        Self::start(servers, &servers.mongod.url(), &servers.mosquitto.url(), clients, "serve")
            .once_printed("listening")
    }

    /// The address of the HTTP server as `host:port`, and its process.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn http_server(&self) -> Result<(String, u32)> {
        let path = self.root.path().join("state/serving.json");
        let text = std::fs::read(path).map_err(BenchError::of("read the address of the HTTP server"))?;
        let state: Value = serde_json::from_slice(&text).unwrap_or_default();
        let address = state["url"].as_str().and_then(|url| url.strip_prefix("http://"));
        let process = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let found = address.map(str::to_owned).zip(process);
        found.ok_or_else(|| BenchError::new(format!("no address of the HTTP server in {state}")))
    }

    fn start(servers: &Servers, mongodb: &str, broker: &str, clients: Value, command: &'static str) -> Self {
        let root = Root::new(&config(mongodb, broker, clients));
        let daemon = Daemon::start(&root, &[command], &[]);
        Self { daemon, root, command, database: servers.database(DATABASE) }
    }

    /// Returns after it has printed `text`.
    fn once_printed(mut self, text: &str) -> Self {
        self.daemon.until_output(DEADLINE, text);
        self
    }

    /// Stops the HTTP server in order, and starts it again.
    ///
    /// # Errors
    ///
    /// Its exit status is not 0.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.daemon = Daemon::start(&self.root, &[self.command], &[]);
        self.daemon.until_output(DEADLINE, "listening");
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    ///
    /// Its exit status is not 0.
    pub fn stop(&mut self) -> Result<()> {
        match self.daemon.terminate() {
            status if status.success() => Ok(()),
            status => Err(BenchError::new(format!(
                "{} ended with {status}: {}",
                self.command,
                self.daemon.output()
            ))),
        }
    }

    /// Starts it again after [`RunningPlatform::stop`].
    pub fn start_again(&mut self) {
        self.daemon = Daemon::start(&self.root, &[self.command], &[]);
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Watches the memory of all its processes from now on.
    pub fn watch_memory(&self) -> MemoryWatch {
        MemoryWatch::start(self.pid())
    }

    /// Puts a file where it can be dropped by a rename, which takes no time.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn prepare(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<PathBuf> {
        let directory = self.root.path().join("prepared");
        let failed = || format!("prepare {name}");
        std::fs::create_dir_all(&directory).map_err(BenchError::of(failed()))?;
        let path = directory.join(name);
        let mut file = File::create(&path).map_err(BenchError::of(failed()))?;
        write(&mut file).map_err(BenchError::of(failed()))?;
        Ok(path)
    }

    /// Returns when all that has been prepared is on disk, so that the disk is not busy with it while something is timed.
    ///
    /// # Errors
    ///
    /// The file system cannot be synced.
    pub fn sync(&self) -> Result<()> {
        let status = Command::new("sync").arg("--file-system").arg(self.root.path()).status();
        match status.map_err(BenchError::of("run sync"))? {
            status if status.success() => Ok(()),
            status => Err(BenchError::new(format!("sync ended with {status}"))),
        }
    }

    /// Drops a prepared file for a client.
    ///
    /// # Errors
    ///
    /// It cannot be renamed.
    pub fn drop_prepared(&self, client: &str, prepared: &PathBuf) -> Result<()> {
        let name = prepared.file_name().unwrap_or_default();
        let target = self.root.drop_directory(client).join(name);
        std::fs::rename(prepared, target).map_err(BenchError::of(format!("drop {}", prepared.display())))
    }

    /// Waits until this many files of a client have ended, and gives the history of all of them.
    ///
    /// # Errors
    ///
    /// They do not end in time, or one of them is discarded or held.
    pub async fn ended(&self, client: &str, files: usize) -> Result<Vec<PlatformRun>> {
        let what = format!("{files} files of {client} have ended");
        let runs = self.database.collection::<Document>("ingestions");
        until(DEADLINE, &what, async || {
            self.refuse_losses(client)?;
            let count = runs.estimated_document_count().await.map_err(BenchError::of("count the history"))?;
            Ok(count >= files as u64)
        })
        .await?;
        let runs = found(&self.database, "ingestions", doc! {"client": client}).await?;
        if runs.len() != files {
            return Err(BenchError::new(format!(
                "{} files of {client} have ended, expected {files}",
                runs.len()
            )));
        }
        runs.iter().map(PlatformRun::read).collect()
    }

    fn refuse_losses(&self, client: &str) -> Result<()> {
        for state in ["discarded", "held"] {
            if !self.root.list(&format!("{state}/{client}")).is_empty() {
                let reasons = self.root.reasons(state, client);
                return Err(BenchError::new(format!("files of {client} were {state}: {reasons:?}")));
            }
        }
        Ok(())
    }

    /// A client's own database.
    pub fn client_database(&self, client: &str) -> Database {
        self.database.client().database(&format!("{DATABASE}_{client}"))
    }

    /// Forgets what a client has stored, and its history.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn forget(&self, client: &str) -> Result<()> {
        crate::servers::clear(&self.client_database(client)).await?;
        let removed =
            self.database.collection::<Document>("ingestions").delete_many(doc! {"client": client}).await;
        removed.map(drop).map_err(BenchError::of("clear the history"))
    }

    /// Returns when a client has so many instances that run.
    ///
    /// # Errors
    ///
    /// They do not start in time.
    pub async fn instances(&self, client: &str, count: usize) -> Result<()> {
        until(DEADLINE, &format!("{client} has {count} instances"), async || {
            let output = Daemon::run(&self.root, &["list", client, "--json"], &[]);
            let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let listed = listed.as_array().map(Vec::as_slice).unwrap_or_default();
            Ok(listed.iter().filter(|instance| instance["state"] == "running").count() == count)
        })
        .await
    }

    /// Where a client publishes.
    pub fn topic(client: &str) -> String {
        format!("{TOPIC_PREFIX}/ingest/{client}/measured")
    }
}

/// The history of one file, as the platform has written it.
#[derive(Clone, Copy, Debug)]
pub struct PlatformRun {
    /// When the file had settled and was taken.
    pub taken_at: DateTime,
    /// When it had been split and was about to be shown to batch-manager.
    pub staged_at: DateTime,
    /// When its last unit was stored, counted and noted.
    pub finished_at: DateTime,
    pub stored: i64,
}

impl PlatformRun {
    fn read(document: &Document) -> Result<Self> {
        let date = |name: &str| {
            document.get_datetime(name).copied().map_err(BenchError::of(format!("read {name} of a history")))
        };
        let finished_at = date("finished_at")?;
        let seconds = document.get_f64("seconds").map_err(BenchError::of("read seconds of a history"))?;
        Ok(Self {
            taken_at: DateTime::from_millis(
                finished_at.timestamp_millis() - (seconds * 1000.0).round() as i64,
            ),
            staged_at: date("staged_at")?,
            finished_at,
            stored: document.get_i64("stored").map_err(BenchError::of("read stored of a history"))?,
        })
    }
}

fn config(mongodb: &str, broker: &str, clients: Value) -> Value {
    json!({
        "broker": {"url": broker, "topic_prefix": TOPIC_PREFIX},
        "coredms": {"url": mongodb, "database": DATABASE},
        "rules": {"file_bytes_max": "2GB"},
        "fetchdata": {"settle": SETTLE},
        "clients": clients,
    })
}

/// Seconds from one moment of the clock to another.
pub fn seconds(from: DateTime, to: DateTime) -> f64 {
    (to.timestamp_millis() - from.timestamp_millis()) as f64 / 1e3
}
