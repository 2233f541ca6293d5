//! What a file costs when there are many: in staging all at once, and in the history.

use async_trait::async_trait;
use bson::DateTime;
use futures::FutureExt;

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::small_files::{client, prepare};
use crate::cases::{MEMORY_KIB_MAX, YARDSTICK};
use crate::failure::{BenchError, Result};
use crate::platform::{RunningPlatform, seconds};
use crate::servers::Servers;

const CLIENT: &str = "many";
/// One record.
const FILE_BYTES: u64 = 1;
/// Apart from the numbers of any other step.
const STEP: u64 = 1_000_000_000;

pub const GROWTH: Plan = Plan {
    name: "growth",
    title: "cost per file, by the number of files",
    unit: "files/s",
    timed: "from the moment the first settled file is taken to the end of the last one, all dropped at once, one record each, \
            each step with the history of those before it; the second step is the yardstick, the last one the platform",
    goals: &[Goal::AtLeast(0.8, YARDSTICK), Goal::MemoryKib(MEMORY_KIB_MAX)],
    // Minutes each.
    rounds_max: 1,
    start: |extent| Growth::start(extent).boxed_local(),
};

struct Growth {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    _servers: Servers,
    steps: Vec<usize>,
    /// So many files are in the history.
    before: usize,
}

impl Growth {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::up(&servers, client(CLIENT));
        let steps = match extent {
            RunSize::Quick => vec![30, 100, 300],
            RunSize::Full => vec![100, 1_000, 10_000, 100_000],
        };
        Ok(Box::new(Self { platform, _servers: servers, steps, before: 0 }))
    }
}

#[async_trait(?Send)]
impl BenchCase for Growth {
    fn contenders(&self) -> Vec<Contender> {
        let kind = |position: usize| match position {
            YARDSTICK => ContenderKind::Yardstick,
            last if last + 1 == self.steps.len() => ContenderKind::Platform,
            _ => ContenderKind::Peer,
        };
        let contender =
            |(position, files)| Contender::new(kind(position), format!("mysimbdp, {files} files"));
        self.steps.iter().enumerate().map(contender).collect()
    }

    async fn run(&mut self, contender: usize, round: u32) -> Result<Sample> {
        // Of the round for warming up the smallest step is enough.
        let count = if round == 0 { self.steps[0] } else { self.steps[contender] };
        let files = prepare(&self.platform, self.before as u64 * STEP, count, FILE_BYTES)?;
        let memory = self.platform.watch_memory();
        for file in &files {
            self.platform.drop_prepared(CLIENT, &file.path)?;
        }
        let runs = self.platform.ended(CLIENT, self.before + count).await?;
        let memory_kib = memory.peaks();
        let mut runs = runs;
        runs.sort_by_key(|run| run.taken_at);
        let own = runs.split_off(self.before);
        self.before += count;
        let (Some(begun), Some(ended)) =
            (own.iter().map(|run| run.taken_at).min(), own.iter().map(|run| run.finished_at).max())
        else {
            return Err(BenchError::new("no file has ended"));
        };
        if own.iter().any(|run| run.stored != 1) {
            return Err(BenchError::new("a file's record was not stored"));
        }
        let took = seconds(begun, ended);
        let noted = seconds(begun, DateTime::now());
        let sample = Sample::of(count as f64 / took).with("ms per file", 1e3 * took / count as f64);
        Ok(Sample { memory_kib, ..sample.with("s until all history is written", noted) })
    }
}
