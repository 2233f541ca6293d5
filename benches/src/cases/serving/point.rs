//! The latest record of a station, asked for by many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::{Document, doc};
use futures::FutureExt;
use mongodb::Database;
use tokio::task::JoinSet;

use super::records::{CLIENT, FILES, MESSAGES, Record, client, fill, index, latest, latest_of, station};
use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::effort::Effort;
use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;
use crate::percentile::percentile;
use crate::platform::RunningPlatform;
use crate::servers::Servers;

const FAILED: &str = "failed";

/// How many ask at a time, each one request after the other.
const CALLERS: usize = 500;

pub const POINT: Plan = Plan {
    name: "serving-point",
    title: "latest record of a station, 500 at a time, p99",
    unit: "ms",
    timed: "from the request to the whole answer, 3,000 requests by 500 callers: platform: one GET of the view on a connection \
            that is kept; yardstick: the driver looks for the latest record in both collections and takes the later one",
    goals: &[Goal::FactAtMost(FAILED, 0.0)],
    rounds_max: u32::MAX,
    start: |extent| Point::start(latest, extent).boxed_local(),
};

pub const LATEST: Plan = Plan {
    name: "serving-latest",
    title: "/latest of a station, 500 at a time, p99",
    timed: "as the case serving-point, but of the path that is made for it",
    start: |extent| Point::start(latest_of, extent).boxed_local(),
    ..POINT
};

struct Point {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    servers: Servers,
    database: Database,
    requests: u64,
    path: fn(u64) -> String,
}

impl Point {
    async fn start(path: fn(u64) -> String, extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::serving(&servers, serde_json::json!([client()]));
        fill(&platform, extent.of(10_000, 100_000)).await?;
        let database = platform.client_database(CLIENT);
        index(&database).await?;
        Ok(Box::new(Self { platform, servers, database, requests: extent.of(1_000, 3_000), path }))
    }

    async fn platform(&self) -> Result<Sample> {
        let (host, _) = self.platform.http_server()?;
        let mut connections = Vec::new();
        for _ in 0..CALLERS {
            connections.push(HttpConnection::open(&host).await?);
        }
        let path = self.path;
        let ask = async move |connection: &mut HttpConnection, number: u64| {
            let answer = connection.get(&path(number), "application/json").await;
            answer.is_ok_and(|answer| answer.status == 200 && has_record(&answer.body, number))
        };
        self.measure(connections, ask).await
    }

    async fn yardstick(&self) -> Result<Sample> {
        let databases = vec![self.database.clone(); CALLERS];
        let ask = async |database: &mut Database, number: u64| find_latest(database, number).await;
        self.measure(databases, ask).await
    }

    /// The times of all requests. Each caller has one of `callers`.
    async fn measure<C: 'static, A>(&self, callers: Vec<C>, ask: A) -> Result<Sample>
    where
        A: AsyncFn(&mut C, u64) -> bool + Clone + 'static,
    {
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let (next, requests) = (Arc::new(AtomicU64::new(0)), self.requests);
        let begun = Instant::now();
        let local = tokio::task::LocalSet::new();
        let mut running = JoinSet::new();
        for mut caller in callers {
            let (next, ask) = (Arc::clone(&next), ask.clone());
            running.spawn_local_on(
                async move {
                    let (mut times, mut failed) = (Vec::new(), 0_u64);
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= requests {
                            return (times, failed);
                        }
                        let begun = Instant::now();
                        failed += u64::from(!ask(&mut caller, number).await);
                        times.push(begun.elapsed());
                    }
                },
                &local,
            );
        }
        let (mut times, mut failed) = (Vec::<Duration>::new(), 0);
        local
            .run_until(async {
                while let Some(ended) = running.join_next().await {
                    let (some, failures) = ended.map_err(BenchError::of("run a caller"))?;
                    times.extend(some);
                    failed += failures;
                }
                Ok(())
            })
            .await?;
        let per_second = requests as f64 / begun.elapsed().as_secs_f64();
        Ok(Sample::of(percentile(times.clone(), 99))
            .with("ms p50", percentile(times, 50))
            .with("requests/s", per_second)
            .with(FAILED, failed as f64)
            .with_all(effort.end()?))
    }
}

#[async_trait(?Send)]
impl BenchCase for Point {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp serve"),
            Contender::new(ContenderKind::Yardstick, "driver, both collections"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        match contender {
            0 => self.platform().await,
            _ => self.yardstick().await,
        }
    }
}

fn has_record(body: &[u8], number: u64) -> bool {
    memchr::memmem::find(body, station(number).as_bytes()).is_some()
}

/// Whether there is one.
async fn find_latest(database: &Database, number: u64) -> bool {
    let of = async |collection: &str| {
        let filter: Document = doc! {"station": station(number)};
        let stored = database.collection::<Record>(collection);
        stored.find_one(filter).sort(doc! {"at": -1, "_id": -1}).await
    };
    let found = futures::future::try_join(of(FILES), of(MESSAGES)).await;
    found.is_ok_and(|(file, message)| {
        let latest = file.into_iter().chain(message).max_by_key(|record| record.at);
        latest.is_some_and(|record| serde_json::to_vec(&record).is_ok())
    })
}
