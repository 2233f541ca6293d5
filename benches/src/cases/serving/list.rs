//! A long list of both layers, while it is read.

use std::collections::HashSet;
use std::time::Instant;

use async_trait::async_trait;
use bson::doc;
use futures::{FutureExt, TryStreamExt};
use jiff::Timestamp;
use mongodb::Database;
use serde::Serialize;

use super::records::{CLIENT, FILES, MESSAGES, Record, client, fill, list};
use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::YARDSTICK;
use crate::effort::Effort;
use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;
use crate::memory::MemoryGrowth;
use crate::platform::RunningPlatform;
use crate::servers::Servers;

const GROWTH: &str = "MiB growth of the server";

pub const LIST: Plan = Plan {
    name: "serving-list",
    title: "100,000 records of both layers as NDJSON",
    unit: "records/s",
    timed: "from the request to the last byte: platform: one GET of the view, in the order of time, where files override \
            messages; yardstick: the driver reads both collections at the same time into memory, leaves out the overridden, \
            sorts, and writes the same bytes",
    goals: &[Goal::AtLeast(0.8, YARDSTICK), Goal::FactAtMost(GROWTH, 64.0)],
    rounds_max: u32::MAX,
    start: |extent| List::start(extent).boxed_local(),
};

struct List {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    servers: Servers,
    database: Database,
    records: u64,
    /// What the platform has answered.
    answered: Vec<u8>,
}

impl List {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::serving(&servers, serde_json::json!([client()]));
        let (records, database) = (extent.of(10_000, 100_000), platform.client_database(CLIENT));
        fill(&platform, records).await?;
        Ok(Box::new(Self { platform, servers, database, records, answered: Vec::new() }))
    }

    async fn platform(&mut self) -> Result<Sample> {
        let (host, process) = self.platform.http_server()?;
        let mut connection = HttpConnection::open(&host).await?;
        let (growth, effort) = (MemoryGrowth::begin(process)?, Effort::begin(&self.servers, &self.platform)?);
        let begun = Instant::now();
        let answer = connection.get(&list(self.records), "application/x-ndjson").await?;
        let took = begun.elapsed().as_secs_f64();
        let (growth, effort) = (growth.kib()?, effort.end()?);
        let lines = memchr::memchr_iter(b'\n', &answer.body).count() as u64;
        if answer.status != 200 || lines != self.records {
            let status = answer.status;
            return Err(BenchError::new(format!("{lines} of {} records, status {status}", self.records)));
        }
        self.answered = answer.body;
        Ok(Sample::of(self.records as f64 / took).with(GROWTH, growth as f64 / 1024.0).with_all(effort))
    }

    async fn yardstick(&self) -> Result<Sample> {
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let begun = Instant::now();
        let (files, messages) =
            futures::future::try_join(read(&self.database, FILES), read(&self.database, MESSAGES)).await?;
        let text = merged(files, messages)?;
        let took = begun.elapsed().as_secs_f64();
        let effort = effort.end()?;
        if text != self.answered {
            return Err(BenchError::new(format!(
                "the platform has answered {} other bytes than the {} of the yardstick, such as {:?} and {:?}",
                self.answered.len(),
                text.len(),
                first_line(&self.answered),
                first_line(&text),
            )));
        }
        Ok(Sample::of(self.records as f64 / took).with_all(effort))
    }
}

#[async_trait(?Send)]
impl BenchCase for List {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp serve"),
            Contender::new(ContenderKind::Yardstick, "driver, merged in memory"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        match contender {
            0 => self.platform().await,
            _ => self.yardstick().await,
        }
    }
}

/// A record as the platform writes it.
#[derive(Serialize)]
struct Line<'r> {
    #[serde(rename = "_id")]
    id: &'r str,
    n: i64,
    at: String,
    station: &'r str,
    temp: f64,
    humidity: f64,
    #[serde(rename = "_origin")]
    origin: Origin,
}

#[derive(Clone, Copy, Serialize)]
struct Origin {
    layer: &'static str,
}

async fn read(database: &Database, collection: &str) -> Result<Vec<Record>> {
    let failed = format!("read {collection}");
    let found = database.collection::<Record>(collection).find(doc! {}).await;
    found.map_err(BenchError::of(failed.clone()))?.try_collect().await.map_err(BenchError::of(failed))
}

fn merged(files: Vec<Record>, messages: Vec<Record>) -> Result<Vec<u8>> {
    let corrected: HashSet<&str> = files.iter().map(|record| record.id.as_str()).collect();
    let messages = messages.iter().filter(|record| !corrected.contains(record.id.as_str()));
    let files = files.iter().map(|record| (record, Origin { layer: "batch" }));
    let mut all: Vec<_> = files.chain(messages.map(|record| (record, Origin { layer: "stream" }))).collect();
    // At the same time files come first, and then the _id counts.
    all.sort_unstable_by_key(|(record, origin)| (record.at, origin.layer, &record.id));
    let mut text = Vec::new();
    for (record, origin) in all {
        let Record { id, n, at, station, temp, humidity } = record;
        let at =
            Timestamp::from_millisecond(at.timestamp_millis()).map_err(BenchError::of("write a time"))?;
        let at = format!("{at:.3}");
        let line = Line { id, n: *n, at, station, temp: *temp, humidity: *humidity, origin };
        serde_json::to_writer(&mut text, &line).map_err(BenchError::of("write a record"))?;
        text.push(b'\n');
    }
    Ok(text)
}

fn first_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned()
}
