//! Many small files at once.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bson::{DateTime, RawDocumentBuf};
use futures::FutureExt;
use serde_json::{Value, json};

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::{MEMORY_KIB_MAX, PEER, YARDSTICK};
use crate::effort::Effort;
use crate::failure::{BenchError, Result};
use crate::input::{InputFormat, readings};
use crate::peers;
use crate::platform::{RunningPlatform, seconds};
use crate::servers::{Servers, clear, documents, until_durable};
use crate::yardsticks;

const CLIENT: &str = "small";
const COLLECTION: &str = "readings";
const FILE_BYTES: u64 = 10_000;

/// Apart from the numbers of any other file, and of any other round.
const FILE: u64 = 1_000;
const ROUND: u64 = 1_000_000_000;

/// Each starts a Python, so a few of them give the rate.
const PYTHON_FILES: usize = 20;

pub const SMALL_FILES: Plan = Plan {
    name: "small-files",
    title: "5,000 files of 10 KB",
    unit: "files/s",
    timed: "platform: from the moment the first settled file is taken to the last document of the last file acknowledged \
            (majority, journal), protocol worker; yardstick: the same documents, 10 KB in each insert, one insert after \
            the other on one connection; python: one process for each of 20 files",
    goals: &[Goal::AtLeast(0.5, YARDSTICK), Goal::AtLeast(50.0, PEER), Goal::MemoryKib(MEMORY_KIB_MAX)],
    rounds_max: u32::MAX,
    start: |extent| SmallFiles::start(extent).boxed_local(),
};

struct SmallFiles {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    servers: Servers,
    files: usize,
    /// Read from what the platform has stored in the round for warming up.
    prepared: Vec<RawDocumentBuf>,
}

impl SmallFiles {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::up(&servers, client(CLIENT));
        Ok(Box::new(Self { platform, servers, files: extent.of(300, 5_000) as usize, prepared: Vec::new() }))
    }

    async fn platform(&mut self, round: u32) -> Result<Sample> {
        let files = prepare(&self.platform, u64::from(round) * ROUND, self.files, FILE_BYTES)?;
        let rows = files.iter().map(|file| file.rows).sum();
        let database = self.platform.client_database(CLIENT);
        let (effort, memory) = (Effort::begin(&self.servers, &self.platform)?, self.platform.watch_memory());
        for file in &files {
            self.platform.drop_prepared(CLIENT, &file.path)?;
        }
        until_durable(&database, COLLECTION, rows).await?;
        let durable_at = DateTime::now();
        let runs = self.platform.ended(CLIENT, files.len()).await?;
        let (effort, memory_kib) = (effort.end()?, memory.peaks());
        let stored: i64 = runs.iter().map(|run| run.stored).sum();
        if u64::try_from(stored) != Ok(rows) {
            return Err(BenchError::new(format!("{stored} of {rows} records were stored")));
        }
        if self.prepared.is_empty() {
            self.prepared = documents(&database, COLLECTION).await?;
        }
        self.platform.forget(CLIENT).await?;
        let begun = runs.iter().map(|run| run.taken_at).min().unwrap_or(durable_at);
        let staged = runs.iter().map(|run| run.staged_at).max().unwrap_or(durable_at);
        let took = seconds(begun, durable_at);
        let sample = Sample::of(files.len() as f64 / took)
            .with_all(effort)
            .with("s until durable", took)
            .with("s until staged", seconds(begun, staged));
        Ok(Sample { memory_kib, ..sample })
    }

    async fn yardstick(&self) -> Result<Sample> {
        let database = self.servers.database("yardstick");
        let at_once = self.prepared.len().div_ceil(self.files);
        let url = self.servers.mongod.url();
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let inserts = yardsticks::sequential(&url, database.name(), &self.prepared, at_once).await?;
        let effort = effort.end()?;
        clear(&database).await?;
        let took: Duration = inserts.iter().sum();
        Ok(Sample::of(inserts.len() as f64 / took.as_secs_f64()).with_all(effort))
    }

    async fn python(&self, round: u32) -> Result<Sample> {
        let files = prepare(&self.platform, u64::from(round) * ROUND, PYTHON_FILES, FILE_BYTES)?;
        let rows = files.iter().map(|file| file.rows).sum();
        let (url, database) = (self.servers.mongod.url(), self.servers.database("python"));
        let mut took = Duration::ZERO;
        for (number, Prepared { path, rows }) in files.iter().enumerate() {
            let unit = peers::PeerUnit {
                file: path,
                format: InputFormat::Ndjson,
                records: *rows,
                number: number as u64,
            };
            took += peers::python_batch_app(&url, database.name(), &unit)?;
        }
        until_durable(&database, COLLECTION, rows).await?;
        clear(&database).await?;
        Ok(Sample::of(files.len() as f64 / took.as_secs_f64()))
    }
}

#[async_trait(?Send)]
impl BenchCase for SmallFiles {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp, worker"),
            Contender::new(ContenderKind::Yardstick, "sequential inserts, one connection"),
            Contender::new(ContenderKind::Peer, "one Python process per file"),
        ]
    }

    async fn run(&mut self, contender: usize, round: u32) -> Result<Sample> {
        match contender {
            0 => self.platform(round).await,
            1 => self.yardstick().await,
            _ => self.python(round).await,
        }
    }
}

/// A client whose app stays.
pub fn client(id: &str) -> Value {
    json!([{
        "id": id,
        "files": {"globs": ["*.ndjson"]},
        "apps": [{"name": "app", "command": ["document-app"], "protocol": "worker", "collection": COLLECTION}],
    }])
}

/// A file that can be dropped.
#[derive(Debug)]
pub struct Prepared {
    pub path: PathBuf,
    pub rows: u64,
}

/// Files of so many bytes each; with another `first` they are other files.
pub fn prepare(platform: &RunningPlatform, first: u64, files: usize, bytes: u64) -> Result<Vec<Prepared>> {
    let mut prepared = Vec::with_capacity(files);
    for number in 0..files as u64 {
        let mut rows = 0;
        let path = platform.prepare(&format!("small-{first}-{number}.ndjson"), |file| {
            rows = readings(file, InputFormat::Ndjson, bytes, first + number * FILE)?;
            Ok(())
        })?;
        prepared.push(Prepared { path, rows });
    }
    platform.sync()?;
    Ok(prepared)
}
