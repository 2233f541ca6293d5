//! How fast a backlog drains after an outage of the stream side, and under how much load it still does.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use mongodb::Database;
use mysimbdp_testbed::{Daemon, Proxy};
use serde_json::json;

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::failure::{BenchError, Result};
use crate::platform::RunningPlatform;
use crate::servers::{DEADLINE, Servers, barrier, count, durable};
use crate::wait::until;

const CLIENT: &str = "late";
const COLLECTION: &str = "measured";
/// The edges follow one file, so a line is one message of each of them.
const SOURCES: u64 = 3;
const INSTANCES: usize = 2;
/// Messages that an edge sends before any is confirmed, by default.
const WINDOW: u64 = 10_000;
/// A backlog that has not drained after this time counts as one that does not drain.
const DRAINED_WITHIN: Duration = Duration::from_secs(300);
/// Under load something is always on its way: the backlog has drained if that is no more than what is published in this time.
const ON_THE_WAY: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(10);
const SECONDS: &str = "s until drained";

/// The round trip to the store, and what is published while the backlog drains, in percent of the rate at which it drains
/// without. The hardest without load comes first: it has the goal.
const ROWS: [(Duration, u64); 6] = [
    (Duration::from_millis(50), 0),
    (Duration::from_millis(10), 0),
    (Duration::ZERO, 0),
    (Duration::from_millis(10), 25),
    (Duration::from_millis(10), 50),
    (Duration::from_millis(10), 75),
];

pub const BACKLOG: Plan = Plan {
    name: "backlog",
    title: "limits of collapse: a backlog of three edges, 2 instances",
    unit: "msg/s",
    timed: "three edges publish 90,000 messages of 200 B while the stream side is down; from its start until they are stored: \
            first without load, then under a load that is a part of that rate, with all that is published meanwhile except \
            for the last second's; value: the backlog divided by that time; share: all that was stored in that time, as a \
            rate, divided by the rate without load",
    goals: &[Goal::FactAtMost(SECONDS, 60.0)],
    // Minutes.
    rounds_max: 1,
    start: |extent| Backlog::start(extent).boxed_local(),
};

struct Backlog {
    // The edges before their root, and that before the servers: fields are dropped in this order.
    _edges: Vec<Daemon>,
    platform: RunningPlatform,
    /// Between the instances and the store.
    store: Proxy,
    /// Between the edges and the broker.
    sent: Proxy,
    _servers: Servers,
    database: Database,
    /// The file that the edges follow, and how many lines it has.
    file: File,
    lines: u64,
    /// Messages in each edge's backlog.
    each: u64,
}

/// How the backlog has drained.
#[derive(Clone, Copy)]
struct Drained {
    took: Duration,
    /// In that time, of the backlog and of what was published meanwhile.
    stored: u64,
    /// If it has not drained: messages of the backlog that were not stored.
    left: u64,
}

impl Drained {
    /// Messages stored in a second.
    fn rate(self) -> f64 {
        self.stored as f64 / self.took.as_secs_f64()
    }
}

impl Backlog {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let (store, sent) =
            (Proxy::before_mongodb(&servers.mongod.url()), Proxy::before_broker(&servers.mosquitto.url()));
        let stream = json!({"command": ["stream-app"], "collection": COLLECTION, "instances": {"min": INSTANCES, "max": INSTANCES}});
        let platform = RunningPlatform::stream_side(
            &servers,
            &store.mongodb_url(),
            json!([{"id": CLIENT, "streams": [stream]}]),
        );
        platform.instances(CLIENT, INSTANCES).await?;
        let followed = platform.root.path().join("lines.ndjson");
        let file = File::create(&followed).map_err(BenchError::of("make the file that is followed"))?;
        let (followed, broker) = (followed.to_string_lossy(), sent.mqtt_url());
        let edge = |source: u64| {
            let source = format!("s{source}");
            let words = ["edge", "--client", CLIENT, "--source", &source, "--follow", &followed];
            Daemon::start(&platform.root, &[&words[..], &["--broker", &broker]].concat(), &[])
        };
        let edges = (0..SOURCES).map(edge).collect();
        let database = platform.client_database(CLIENT);
        let each = extent.of(1_000, 30_000);
        Ok(Box::new(Self {
            _edges: edges,
            platform,
            store,
            sent,
            _servers: servers,
            database,
            file,
            lines: 0,
            each,
        }))
    }

    fn publish(&mut self, lines: u64) -> Result<()> {
        let line = |number| format!("{{\"n\":{number:<8},\"temp\":12.5,\"pad\":\"{:x<165}\"}}\n", "");
        let text: String = (self.lines..self.lines + lines).map(line).collect();
        self.lines += lines;
        self.file.write_all(text.as_bytes()).map_err(BenchError::of("write lines"))
    }

    fn published(&self) -> u64 {
        SOURCES * self.lines
    }

    async fn stored(&self) -> Result<u64> {
        count(&durable(&self.database, COLLECTION)).await
    }

    /// Returns after all that is published is durable, if nothing else is stored.
    async fn all_stored(&self) -> Result<()> {
        let published = self.published();
        let what = format!("{published} messages are stored");
        until(DEADLINE, &what, async || Ok(self.stored().await? >= published)).await?;
        barrier(&self.database).await?;
        let rejected = count(&durable(&self.database, "rejected")).await?;
        match self.stored().await? {
            stored if stored == published && rejected == 0 => Ok(()),
            stored => Err(BenchError::new(format!(
                "{stored} stored and {rejected} rejected of {published} messages"
            ))),
        }
    }

    /// Stops the stream side, publishes the backlog, and returns after the edges have sent what they send unconfirmed.
    async fn build_backlog(&mut self) -> Result<()> {
        self.platform.stop()?;
        let sent = self.sent.published() + SOURCES * self.each.min(WINDOW);
        self.publish(self.each)?;
        until(DEADLINE, "the windows of the edges are sent", async || Ok(self.sent.published() >= sent)).await
    }

    /// Returns after all is stored, also what is published under load while the backlog drains.
    async fn build_and_drain(&mut self, load: f64) -> Result<Drained> {
        self.build_backlog().await?;
        let drained = self.drain(load).await?;
        self.all_stored().await?;
        Ok(drained)
    }

    /// Starts the stream side, publishes `load` messages a second, and returns after the backlog has drained, or has not in
    /// time.
    async fn drain(&mut self, load: f64) -> Result<Drained> {
        let (lines, stored) = (self.lines, self.stored().await?);
        let on_the_way = (load * ON_THE_WAY.as_secs_f64()) as u64;
        let begun = Instant::now();
        self.platform.start_again();
        loop {
            let took = begun.elapsed();
            let due = lines + (load * took.as_secs_f64()) as u64 / SOURCES;
            self.publish(due - self.lines)?;
            let now = self.stored().await?;
            let left = self.published().saturating_sub(now + on_the_way);
            if left == 0 || took > DRAINED_WITHIN {
                return Ok(Drained { took, stored: now - stored, left });
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

#[async_trait(?Send)]
impl BenchCase for Backlog {
    fn contenders(&self) -> Vec<Contender> {
        let row = |(position, (round_trip, load)): (usize, &(Duration, u64))| {
            let kind = if position == 0 { ContenderKind::Platform } else { ContenderKind::Peer };
            Contender::new(kind, format!("mysimbdp, round trip {} ms, load {load} %", round_trip.as_millis()))
        };
        ROWS.iter().enumerate().map(row).collect()
    }

    async fn run(&mut self, contender: usize, round: u32) -> Result<Sample> {
        let (round_trip, load) = ROWS[contender];
        self.store.delay(round_trip / 2);
        if round == 0 {
            let (begun, lines) = (Instant::now(), self.each / 30);
            self.publish(lines)?;
            self.all_stored().await?;
            return Ok(Sample::of((SOURCES * lines) as f64 / begun.elapsed().as_secs_f64()));
        }
        let (sent, published) = (self.sent.published(), self.published());
        let unloaded = self.build_and_drain(0.0).await?;
        let drained = match load {
            0 => unloaded,
            _ => self.build_and_drain(unloaded.rate() * load as f64 / 100.0).await?,
        };
        let (sent, published) = (self.sent.published() - sent, self.published() - published);
        let seconds = drained.took.as_secs_f64();
        Ok(Sample::of((SOURCES * self.each) as f64 / seconds)
            .with(SECONDS, seconds)
            .with("without load msg/s", unloaded.rate())
            .with("share of it", drained.rate() / unloaded.rate())
            .with("sent/stored", sent as f64 / published as f64)
            .with("NOT DRAINED, left", drained.left as f64))
    }
}
