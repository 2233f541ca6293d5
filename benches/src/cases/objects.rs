//! One file to a GridFS object.

use std::path::PathBuf;

use async_trait::async_trait;
use bson::{DateTime, Document, doc};
use futures::FutureExt;
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};
use serde_json::json;

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, Sample};
use crate::cases::{MEMORY_KIB_MAX, PEER, YARDSTICK};
use crate::effort::Effort;
use crate::failure::{BenchError, Result};
use crate::input::noise;
use crate::peers;
use crate::platform::{RunningPlatform, seconds};
use crate::servers::{Servers, clear, found, until_durable};
use crate::yardsticks;

const CLIENT: &str = "objects";
const BUCKET: &str = "files";
/// The one that the driver and `mongofiles` take by default.
const DEFAULT_BUCKET: &str = "fs";

pub const GRIDFS_50: Plan = Plan {
    name: "gridfs-50",
    title: "50 MB to GridFS",
    unit: "MB/s",
    timed: "platform: from the moment the settled file is taken to the object acknowledged with all its chunks (majority, \
            journal), the file as one unit, protocol worker; yardstick: the driver's upload of the same bytes from memory. \
            The collections and their indexes exist",
    goals: &[Goal::AtLeast(1.5, YARDSTICK), Goal::AtLeast(2.0, PEER), Goal::MemoryKib(MEMORY_KIB_MAX)],
    rounds_max: u32::MAX,
    start: |extent| Objects::start("file", extent.of(5_000_000, 50_000_000)).boxed_local(),
};

pub const GRIDFS_500: Plan = Plan {
    name: "gridfs-500",
    title: "500 MB to GridFS",
    timed: "platform: from the moment the settled file is taken to the object acknowledged with all its chunks (majority, \
            journal), micro-batches of 50 MB in parallel, protocol worker; yardstick: the driver's upload of the same \
            bytes from memory. The collections and their indexes exist",
    start: |extent| Objects::start("range", extent.of(50_000_000, 500_000_000)).boxed_local(),
    ..GRIDFS_50
};

struct Objects {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    servers: Servers,
    bytes: u64,
}

impl Objects {
    async fn start(unit: &str, bytes: u64) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let clients = json!([{
            "id": CLIENT,
            "files": {"globs": ["*.bin"]},
            "micro_batching": {"block_size": "50MB"},
            "apps": [{
                "name": "app",
                "command": ["object-app"],
                "protocol": "worker",
                "unit": unit,
                "ids": "object",
                "collection": BUCKET,
            }],
        }]);
        let platform = RunningPlatform::up(&servers, clients);
        Ok(Box::new(Self { platform, servers, bytes }))
    }

    fn file(&self, round: u32) -> Result<PathBuf> {
        let write = |file: &mut std::fs::File| noise(file, self.bytes, u64::from(round));
        let path = self.platform.prepare(&format!("object-{round}.bin"), write)?;
        self.platform.sync()?;
        Ok(path)
    }

    fn rate(&self, seconds: f64) -> f64 {
        self.bytes as f64 / 1e6 / seconds
    }

    async fn platform(&self, round: u32) -> Result<Sample> {
        let file = self.file(round)?;
        let database = self.platform.client_database(CLIENT);
        make_bucket(&database, BUCKET).await?;
        let (effort, memory) = (Effort::begin(&self.servers, &self.platform)?, self.platform.watch_memory());
        self.platform.drop_prepared(CLIENT, &file)?;
        until_durable(&database, &format!("{BUCKET}.files"), 1).await?;
        let durable_at = DateTime::now();
        let runs = self.platform.ended(CLIENT, 1).await?;
        let (effort, memory_kib) = (effort.end()?, memory.peaks());
        let objects = found(&database, &format!("{BUCKET}.files"), doc! {}).await?;
        let length = objects.first().and_then(|object| object.get_i64("length").ok());
        if length.and_then(|length| u64::try_from(length).ok()) != Some(self.bytes) {
            return Err(BenchError::new(format!("the object has {length:?} of {} bytes", self.bytes)));
        }
        self.platform.forget(CLIENT).await?;
        let took = seconds(runs[0].taken_at, durable_at);
        let sample = Sample::of(self.rate(took))
            .with_all(effort)
            .with("s until durable", took)
            .with("s until staged", seconds(runs[0].taken_at, runs[0].staged_at))
            .with("s until counted and noted", seconds(runs[0].taken_at, runs[0].finished_at));
        Ok(Sample { memory_kib, ..sample })
    }

    async fn yardstick(&self, round: u32) -> Result<Sample> {
        let mut bytes = Vec::new();
        noise(&mut bytes, self.bytes, u64::from(round)).map_err(BenchError::of("make bytes"))?;
        let database = self.servers.database("yardstick");
        make_bucket(&database, DEFAULT_BUCKET).await?;
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let took = yardsticks::upload(&database, &bytes).await?.as_secs_f64();
        let effort = effort.end()?;
        clear(&database).await?;
        Ok(Sample::of(self.rate(took)).with("s", took).with_all(effort))
    }

    async fn mongofiles(&self, round: u32) -> Result<Sample> {
        let file = self.file(round)?;
        let database = self.servers.database("mongofiles");
        make_bucket(&database, DEFAULT_BUCKET).await?;
        let took = peers::mongofiles(&self.servers.mongod.url(), database.name(), &file)?;
        clear(&database).await?;
        Ok(Sample::of(self.rate(took.as_secs_f64())))
    }
}

#[async_trait(?Send)]
impl BenchCase for Objects {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp"),
            Contender::new(ContenderKind::Yardstick, "driver's own upload"),
            peers::contender("mongofiles", "mongofiles"),
        ]
    }

    async fn run(&mut self, contender: usize, round: u32) -> Result<Sample> {
        match contender {
            0 => self.platform(round).await,
            1 => self.yardstick(round).await,
            _ => self.mongofiles(round).await,
        }
    }
}

/// Makes the collections and indexes of a bucket, which takes as long as some megabytes and is done once in its life.
async fn make_bucket(database: &Database, bucket: &str) -> Result<()> {
    let unique = IndexOptions::builder().unique(true).build();
    let chunks = IndexModel::builder().keys(doc! {"files_id": 1, "n": 1}).options(unique).build();
    let files = IndexModel::builder().keys(doc! {"filename": 1, "uploadDate": 1}).build();
    for (collection, index) in [("chunks", chunks), ("files", files)] {
        let collection = database.collection::<Document>(&format!("{bucket}.{collection}"));
        collection.create_index(index).await.map_err(BenchError::of("make an index of a bucket"))?;
    }
    Ok(())
}
