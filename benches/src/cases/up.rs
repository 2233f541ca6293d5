//! The platform with nothing to do, and how soon it is ready for something.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::{Value, json};

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::effort::processor_seconds;
use crate::failure::Result;
use crate::memory::{share_kib, tree};
use crate::platform::RunningPlatform;
use crate::servers::Servers;

const MEMORY: &str = "MiB resident, all processes";
/// What is done once, after the start, is done by then.
const CALM: Duration = Duration::from_secs(10);

pub const IDLE: Plan = Plan {
    name: "idle",
    title: "idle, 1,000 batch clients",
    unit: "% of a core",
    timed: "user and system time of all idle processes of the platform, over 60 s (quick: 10 s), as a share \
            of one core; resident memory of all processes at the end, shared memory counted once",
    goals: &[Goal::AtMost(1.0), Goal::FactAtMost(MEMORY, 100.0)],
    rounds_max: 2,
    start: |extent| Idle::start(extent).boxed_local(),
};

pub const START: Plan = Plan {
    name: "start",
    title: "start of `up`, 10 clients",
    unit: "s",
    timed: "from the start of the program on an empty data root to its line that says ready, looked for every 15 ms",
    goals: &[Goal::AtMost(1.0)],
    rounds_max: u32::MAX,
    start: |_| Start::start().boxed_local(),
};

struct Idle {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    _servers: Servers,
    time: Duration,
}

impl Idle {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::up(&servers, clients(1_000));
        tokio::time::sleep(CALM).await;
        Ok(Box::new(Self { platform, _servers: servers, time: Duration::from_secs(extent.of(10, 60)) }))
    }
}

#[async_trait(?Send)]
impl BenchCase for Idle {
    fn contenders(&self) -> Vec<Contender> {
        vec![Contender::new(ContenderKind::Platform, "mysimbdp")]
    }

    async fn run(&mut self, _contender: usize, round: u32) -> Result<Sample> {
        if round == 0 {
            return Ok(Sample::default());
        }
        let memory = self.platform.watch_memory();
        let (begun, before) = (Instant::now(), processor_seconds(self.platform.pid())?);
        tokio::time::sleep(self.time).await;
        let used = processor_seconds(self.platform.pid())? - before;
        let share = 100.0 * used / begun.elapsed().as_secs_f64();
        let resident = tree(self.platform.pid()).into_iter().filter_map(share_kib).sum::<u64>();
        let sample = Sample::of(share).with(MEMORY, resident as f64 / 1024.0);
        Ok(Sample { memory_kib: memory.peaks(), ..sample })
    }
}

struct Start {
    servers: Servers,
}

impl Start {
    async fn start() -> Result<Box<dyn BenchCase>> {
        Ok(Box::new(Self { servers: Servers::start().await? }))
    }
}

#[async_trait(?Send)]
impl BenchCase for Start {
    fn contenders(&self) -> Vec<Contender> {
        vec![Contender::new(ContenderKind::Platform, "mysimbdp up")]
    }

    async fn run(&mut self, _contender: usize, _round: u32) -> Result<Sample> {
        let begun = Instant::now();
        let platform = RunningPlatform::up(&self.servers, clients(10));
        let took = begun.elapsed();
        drop(platform);
        Ok(Sample::of(took.as_secs_f64()))
    }
}

fn clients(count: usize) -> Value {
    let client = |number: usize| {
        json!({
            "id": format!("client{number}"),
            "files": {"globs": [format!("{number}-*.csv")]},
            "apps": [{"name": "app", "command": ["document-app"]}],
        })
    };
    (0..count).map(client).collect()
}
