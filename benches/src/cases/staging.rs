//! One very large file, up to staging: validated, split, hashed, moved.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures::FutureExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::{MEMORY_KIB_MAX, YARDSTICK};
use crate::failure::{BenchError, Result};
use crate::input::{InputFormat, readings};
use crate::platform::RunningPlatform;
use crate::servers::{DEADLINE, Servers};
use crate::wait::until;
use crate::yardsticks;

const CLIENT: &str = "large";
const WRITTEN: &str = "MB written by fetchdata";

pub const STAGING: Plan = Plan {
    name: "staging",
    title: "1 GB CSV staged",
    unit: "MB/s",
    timed: "platform: from the moment the settled file is taken to the moment it is published in staging (fetchdata alone); \
            yardstick: one pass over the same file that reads and hashes it with BLAKE3, one thread",
    goals: &[
        Goal::AtLeast(0.75, YARDSTICK),
        // The manifest and the log, and no byte of the file.
        Goal::FactAtMost(WRITTEN, 1.0),
        Goal::MemoryKib(MEMORY_KIB_MAX),
    ],
    rounds_max: u32::MAX,
    start: |extent| Staging::start(extent).boxed_local(),
};

struct Staging {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    _servers: Servers,
    file: PathBuf,
    bytes: u64,
}

impl Staging {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let clients = json!([{
            "id": CLIENT,
            "files": {"globs": ["*.csv"]},
            "micro_batching": {"block_size": "10MB"},
            "apps": [{"name": "app", "command": ["document-app"]}],
        }]);
        let platform = RunningPlatform::fetchdata(&servers, clients);
        let size = extent.of(50_000_000, 1_000_000_000);
        let write = |file: &mut std::fs::File| readings(file, InputFormat::Csv, size, 0).map(drop);
        let file = platform.prepare("large.csv", write)?;
        platform.sync()?;
        let bytes = std::fs::metadata(&file).map_err(BenchError::of("read the status of the file"))?.len();
        Ok(Box::new(Self { platform, _servers: servers, file, bytes }))
    }

    /// Drops the file, and takes it back when it is staged.
    async fn platform(&self) -> Result<Sample> {
        let log = || self.platform.root.log("fetchdata.log").matches("TIMING stage=notify").count();
        let (noted, written) = (log(), bytes_written(self.platform.pid())?);
        let memory = self.platform.watch_memory();
        self.platform.drop_prepared(CLIENT, &self.file)?;
        let staged = || self.platform.root.list(&format!("staging/{CLIENT}")).pop();
        until(DEADLINE, "the file is staged", async || Ok(staged().is_some())).await?;
        let staged_at = Timestamp::now();
        let memory_kib = memory.peaks();
        // Its last step, so all that it writes is written.
        until(DEADLINE, "fetchdata has sent the staged notification", async || Ok(log() > noted)).await?;
        let written = bytes_written(self.platform.pid())? - written;
        let directory =
            self.platform.root.path().join("staging").join(CLIENT).join(staged().unwrap_or_default());
        let took = staged_at.duration_since(taken_at(&directory)?).as_secs_f64();
        let name = self.file.file_name().unwrap_or_default();
        std::fs::rename(directory.join(name), &self.file).map_err(BenchError::of("move the file back"))?;
        std::fs::remove_dir_all(&directory).map_err(BenchError::of("clear staging"))?;
        let sample = Sample::of(self.bytes as f64 / 1e6 / took).with("s", took);
        Ok(Sample { memory_kib, ..sample.with(WRITTEN, written as f64 / 1e6) })
    }

    async fn yardstick(&self) -> Result<Sample> {
        let (file, bytes) = (self.file.clone(), self.bytes);
        let pass = tokio::task::spawn_blocking(move || yardsticks::hash(&file, bytes));
        let took = pass.await.map_err(BenchError::of("run the pass"))??.as_secs_f64();
        Ok(Sample::of(self.bytes as f64 / 1e6 / took).with("s", took))
    }
}

#[async_trait(?Send)]
impl BenchCase for Staging {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp"),
            Contender::new(ContenderKind::Yardstick, "read and BLAKE3, one thread"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        if contender == 0 { self.platform().await } else { self.yardstick().await }
    }
}

/// When the staged file had settled and was taken.
fn taken_at(directory: &Path) -> Result<Timestamp> {
    let json = std::fs::read(directory.join("manifest.json")).map_err(BenchError::of("read the manifest"))?;
    let manifest: Value = serde_json::from_slice(&json).map_err(BenchError::of("read the manifest"))?;
    let text = manifest["taken_at"].as_str().unwrap_or_default();
    text.parse().map_err(BenchError::of("read taken_at of the manifest"))
}

/// All that a process has written, to whatever.
fn bytes_written(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/io");
    let text = std::fs::read_to_string(&path).map_err(BenchError::of(format!("read {path}")))?;
    let written = text.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
    written.ok_or_else(|| BenchError::new(format!("{path} has no number of written bytes")))
}
