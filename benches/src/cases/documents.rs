//! One large file to documents.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bson::{DateTime, RawDocumentBuf};
use futures::FutureExt;
use serde_json::{Value, json};

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::{MEMORY_KIB_MAX, PEER, YARDSTICK};
use crate::effort::Effort;
use crate::failure::{BenchError, Result};
use crate::input::{InputFormat, TYPES, readings};
use crate::peers;
use crate::platform::{RunningPlatform, seconds};
use crate::servers::{Servers, clear, documents, until_durable};
use crate::yardsticks;

const CLIENT: &str = "documents";
const COLLECTION: &str = "readings";

/// Apart from the numbers of any other round.
const ROUND: u64 = 10_000_000;

/// A Python app takes ten times as long, so it gets a tenth: what is compared is a rate.
const PYTHON_SHARE: u64 = 10;

pub const CSV: Plan = Plan {
    name: "csv",
    title: "50 MB CSV to documents",
    unit: "rows/s",
    timed: "platform: from the moment the settled file is taken to the last document acknowledged (majority, journal); \
            yardstick: the same documents as prepared raw BSON, 2 writers, 1,000 each; python: the app alone on a tenth",
    goals: &[Goal::AtLeast(0.65, YARDSTICK), Goal::AtLeast(2.0, PEER), Goal::MemoryKib(MEMORY_KIB_MAX)],
    rounds_max: u32::MAX,
    start: |extent| Documents::start(InputFormat::Csv, extent).boxed_local(),
};

pub const NDJSON: Plan = Plan {
    name: "ndjson",
    title: "50 MB NDJSON to documents",
    goals: &[Goal::AtLeast(0.60, YARDSTICK), Goal::AtLeast(2.0, PEER), Goal::MemoryKib(MEMORY_KIB_MAX)],
    start: |extent| Documents::start(InputFormat::Ndjson, extent).boxed_local(),
    ..CSV
};

pub(super) struct Documents {
    // Before the servers: fields are dropped in this order.
    pub(super) platform: RunningPlatform,
    servers: Servers,
    format: InputFormat,
    bytes: u64,
    /// Read from what the platform has stored in the round for warming up.
    prepared: Arc<Vec<RawDocumentBuf>>,
}

impl Documents {
    async fn start(format: InputFormat, extent: RunSize) -> Result<Box<dyn BenchCase>> {
        Ok(Box::new(Self::start_with(format, extent, &[]).await?))
    }

    /// Starts a platform that has these other clients, too.
    pub(super) async fn start_with(format: InputFormat, extent: RunSize, others: &[Value]) -> Result<Self> {
        let servers = Servers::start().await?;
        let clients = [&[client()], others].concat();
        let platform = RunningPlatform::up(&servers, clients.into());
        let bytes = extent.of(5_000_000, 50_000_000);
        Ok(Self { platform, servers, format, bytes, prepared: Arc::default() })
    }

    fn name(&self, round: u32) -> String {
        let ending = if self.format == InputFormat::Csv { "csv" } else { "ndjson" };
        format!("readings-{round}.{ending}")
    }

    fn file(&self, round: u32, bytes: u64) -> Result<(PathBuf, u64)> {
        let mut rows = 0;
        let path = self.platform.prepare(&self.name(round), |file: &mut File| {
            rows = readings(file, self.format, bytes, u64::from(round) * ROUND)?;
            Ok(())
        })?;
        self.platform.sync()?;
        Ok((path, rows))
    }

    /// Ingests a file of this round.
    pub(super) async fn platform(&mut self, round: u32) -> Result<Sample> {
        let (file, rows) = self.file(round, self.bytes)?;
        let database = self.platform.client_database(CLIENT);
        let (effort, memory) = (Effort::begin(&self.servers, &self.platform)?, self.platform.watch_memory());
        self.platform.drop_prepared(CLIENT, &file)?;
        until_durable(&database, COLLECTION, rows).await?;
        let durable_at = DateTime::now();
        let runs = self.platform.ended(CLIENT, 1).await?;
        let (effort, memory_kib) = (effort.end()?, memory.peaks());
        let run = runs[0];
        if u64::try_from(run.stored) != Ok(rows) {
            return Err(BenchError::new(format!("{} of {rows} rows were stored", run.stored)));
        }
        if self.prepared.is_empty() {
            self.prepared = Arc::new(documents(&database, COLLECTION).await?);
        }
        self.platform.forget(CLIENT).await?;
        let took = seconds(run.taken_at, durable_at);
        let sample = Sample::of(rows as f64 / took)
            .with_all(effort)
            .with("rows", rows as f64)
            .with("s until durable", took)
            .with("s until staged", seconds(run.taken_at, run.staged_at))
            .with("s until counted and noted", seconds(run.taken_at, run.finished_at));
        Ok(Sample { memory_kib, ..sample })
    }

    async fn yardstick(&self) -> Result<Sample> {
        let database = self.servers.database("yardstick");
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let took = yardsticks::insert(&database, &self.prepared).await?.as_secs_f64();
        let effort = effort.end()?;
        clear(&database).await?;
        Ok(Sample::of(self.prepared.len() as f64 / took).with("s", took).with_all(effort))
    }

    async fn mongoimport(&self, round: u32) -> Result<Sample> {
        let (file, rows) = self.file(round, self.bytes)?;
        let database = self.servers.database("mongoimport");
        let took = peers::mongoimport(&self.servers.mongod.url(), database.name(), &file, self.format)?;
        until_durable(&database, COLLECTION, rows).await?;
        clear(&database).await?;
        Ok(Sample::of(rows as f64 / took.as_secs_f64()))
    }

    async fn python(&self, round: u32) -> Result<Sample> {
        let (file, rows) = self.file(round, self.bytes / PYTHON_SHARE)?;
        let database = self.servers.database("python");
        let unit =
            peers::PeerUnit { file: &file, format: self.format, records: rows, number: u64::from(round) };
        let took = peers::python_batch_app(&self.servers.mongod.url(), database.name(), &unit)?;
        until_durable(&database, COLLECTION, rows).await?;
        clear(&database).await?;
        Ok(Sample::of(rows as f64 / took.as_secs_f64()))
    }
}

#[async_trait(?Send)]
impl BenchCase for Documents {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp"),
            Contender::new(ContenderKind::Yardstick, "driver, raw BSON, 2 writers"),
            peers::contender("mongoimport", "mongoimport -j 4"),
            Contender::new(ContenderKind::Peer, "Python app alone"),
        ]
    }

    async fn run(&mut self, contender: usize, round: u32) -> Result<Sample> {
        match contender {
            0 => self.platform(round).await,
            1 => self.yardstick().await,
            2 => self.mongoimport(round).await,
            _ => self.python(round).await,
        }
    }
}

fn client() -> Value {
    let command: Vec<&str> = ["document-app"].into_iter().chain(TYPES).collect();
    json!({
        "id": CLIENT,
        "files": {"globs": ["*.csv", "*.ndjson"]},
        "micro_batching": {"block_size": "10MB"},
        "apps": [{"name": "app", "command": command, "collection": COLLECTION}],
    })
}
