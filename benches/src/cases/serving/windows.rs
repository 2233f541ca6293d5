//! Windows of a minute over millions of readings, computed and from what is kept.

use std::time::Instant;

use async_trait::async_trait;
use bson::{DateTime, Document, doc};
use futures::{FutureExt, TryStreamExt};
use mongodb::{Database, IndexModel};
use serde::Serialize;
use serde_json::{Value, json};

use super::records::{CLIENT, FILES};
use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::YARDSTICK;
use crate::effort::Effort;
use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;
use crate::memory::MemoryGrowth;
use crate::platform::RunningPlatform;
use crate::servers::{Servers, barrier};

const KEPT: &str = "share of the time when repeated";
const GROWTH: &str = "MiB growth of the server";

/// Each sends a reading every second.
const STATIONS: u64 = 10;

const MINUTE: u64 = 60;

/// 2026-01-01, in milliseconds since 1970.
const BEGIN: i64 = 1_767_225_600_000;

const INSERTED_AT_A_TIME: u64 = 10_000;

pub const WINDOWS: Plan = Plan {
    name: "serving-windows",
    title: "windows of 1 minute over 10 million readings",
    unit: "readings/s",
    timed: "from the request to the last window: platform: one GET as NDJSON of a server that has just been started; then the same \
            again, from what it has kept; yardstick: MongoDB's own aggregation by minute and station, read by the driver",
    goals: &[Goal::AtLeast(1.0 / 1.2, YARDSTICK), Goal::FactAtMost(KEPT, 0.02)],
    rounds_max: 2,
    start: |extent| Windows::start(extent).boxed_local(),
};

struct Windows {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    servers: Servers,
    database: Database,
    readings: u64,
}

#[derive(Serialize)]
struct Reading {
    #[serde(rename = "_id")]
    id: i64,
    at: DateTime,
    station: String,
    temp: f64,
}

fn client() -> Value {
    json!({
        "id": CLIENT,
        "apps": [{"name": "app", "command": ["document-app"], "collection": FILES}],
        "views": {"all": {"batch": FILES, "time": "at", "source": "station"}},
    })
}

impl Windows {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::serving(&servers, json!([client()]));
        let (readings, database) = (extent.of(200_000, 10_000_000), platform.client_database(CLIENT));
        fill(&database, readings).await?;
        Ok(Box::new(Self { platform, servers, database, readings }))
    }

    fn windows(&self) -> u64 {
        (self.readings / STATIONS).div_ceil(MINUTE) * STATIONS
    }

    async fn platform(&mut self) -> Result<Sample> {
        self.platform.restart()?;
        let (_, process) = self.platform.http_server()?;
        // The server looks for the index when it is asked for the first time.
        self.ask("limit=1&from=2025-01-01T00:00:00Z&until=2025-01-02T00:00:00Z", None).await?;
        let (growth, effort) = (MemoryGrowth::begin(process)?, Effort::begin(&self.servers, &self.platform)?);
        let expected = Some(self.windows());
        let computed = self.ask("limit=1000000", expected).await?;
        let (growth, effort) = (growth.kib()?, effort.end()?);
        let kept = self.ask("limit=1000000", expected).await?;
        Ok(Sample::of(self.readings as f64 / computed)
            .with(KEPT, kept / computed)
            .with(GROWTH, growth as f64 / 1024.0)
            .with_all(effort))
    }

    /// Returns how many seconds it took.
    async fn ask(&self, parameters: &str, expected: Option<u64>) -> Result<f64> {
        let (host, _) = self.platform.http_server()?;
        let mut connection = HttpConnection::open(&host).await?;
        let path = format!("/api/clients/{CLIENT}/windows?view=all&size=1m&fields=temp&{parameters}");
        let begun = Instant::now();
        let answer = connection.get(&path, "application/x-ndjson").await?;
        let took = begun.elapsed().as_secs_f64();
        let lines = memchr::memchr_iter(b'\n', &answer.body).count() as u64;
        if answer.status != 200 || expected.is_some_and(|expected| expected != lines) {
            return Err(BenchError::new(format!(
                "{lines} windows and status {}, expected {expected:?}",
                answer.status
            )));
        }
        Ok(took)
    }

    async fn yardstick(&self) -> Result<Sample> {
        let group = doc! {
            "_id": {"start": {"$dateTrunc": {"date": "$at", "unit": "minute"}}, "station": "$station"},
            "count": {"$sum": 1}, "min": {"$min": "$temp"}, "max": {"$max": "$temp"},
            "mean": {"$avg": "$temp"}, "stddev": {"$stdDevPop": "$temp"},
        };
        let readings = self.database.collection::<Document>(FILES);
        let pipeline = [doc! {"$group": group}, doc! {"$sort": {"_id": 1}}];
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let begun = Instant::now();
        let windows = async { readings.aggregate(pipeline).allow_disk_use(true).await?.try_collect().await };
        let windows: Vec<Document> = windows.await.map_err(BenchError::of("aggregate"))?;
        let took = begun.elapsed().as_secs_f64();
        let effort = effort.end()?;
        if windows.len() as u64 != self.windows() {
            return Err(BenchError::new(format!("{} of {} windows", windows.len(), self.windows())));
        }
        Ok(Sample::of(self.readings as f64 / took).with_all(effort))
    }
}

#[async_trait(?Send)]
impl BenchCase for Windows {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp serve"),
            Contender::new(ContenderKind::Yardstick, "aggregation of MongoDB"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        match contender {
            0 => self.platform().await,
            _ => self.yardstick().await,
        }
    }
}

async fn fill(database: &Database, readings: u64) -> Result<()> {
    let stored = database.collection::<Reading>(FILES);
    for first in (0..readings).step_by(INSERTED_AT_A_TIME as usize) {
        let readings = (first..readings.min(first + INSERTED_AT_A_TIME)).map(reading);
        let inserted = stored.insert_many(readings.collect::<Vec<_>>()).ordered(false).await;
        inserted.map_err(BenchError::of("store readings"))?;
    }
    let by_time = IndexModel::builder().keys(doc! {"at": 1, "_id": 1}).build();
    stored.create_index(by_time).await.map_err(BenchError::of("create an index"))?;
    barrier(database).await
}

fn reading(number: u64) -> Reading {
    let second = number / STATIONS;
    Reading {
        id: number as i64,
        at: DateTime::from_millis(BEGIN + second as i64 * 1_000),
        station: format!("station-{:03}", number % STATIONS),
        temp: (number % 397) as f64 / 8.0 + 0.5,
    }
}
