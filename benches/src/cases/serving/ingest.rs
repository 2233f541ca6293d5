//! Ingestion of a file, alone and while many read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use tokio::task::JoinSet;

use super::records::{client, fill, latest};
use crate::case::{BenchCase, Contender, ContenderKind, Plan, RunSize, Sample};
use crate::cases::documents::Documents;
use crate::effort::processor_seconds;
use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;
use crate::input::InputFormat;
use crate::percentile::percentile;

/// Connections that read without a pause.
const READERS: usize = 64;

pub const INGEST: Plan = Plan {
    name: "serving-ingest",
    title: "50 MB CSV to documents while 64 connections read",
    unit: "rows/s",
    timed: "as the case csv: platform: while 64 connections ask the HTTP server for the latest record of a station, each as soon \
            as it has its answer; yardstick: without them",
    goals: &[],
    rounds_max: u32::MAX,
    start: |extent| Ingest::start(extent).boxed_local(),
};

pub(super) struct Ingest {
    documents: Documents,
}

impl Ingest {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        Ok(Box::new(Self::begin(extent).await?))
    }

    pub(super) async fn begin(extent: RunSize) -> Result<Self> {
        let documents = Documents::start_with(InputFormat::Csv, extent, &[client()]).await?;
        fill(&documents.platform, extent.of(10_000, 100_000)).await?;
        Ok(Self { documents })
    }

    /// Of the HTTP server.
    pub(super) fn host(&self) -> Result<String> {
        Ok(self.documents.platform.http_server()?.0)
    }

    pub(super) async fn alone(&mut self, round: u32) -> Result<Sample> {
        let (_, server) = self.documents.platform.http_server()?;
        let before = processor_seconds(server)?;
        let sample = self.documents.platform(round).await?;
        Ok(sample.with("CPU s serve", processor_seconds(server)? - before))
    }

    async fn while_read(&mut self, round: u32) -> Result<Sample> {
        let host = self.host()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut readers = JoinSet::new();
        for number in 0..READERS as u64 {
            let connection = HttpConnection::open(&host).await?;
            readers.spawn(read(connection, number, Arc::clone(&stop)));
        }
        let begun = Instant::now();
        let sample = self.alone(round).await;
        stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        while let Some(read) = readers.join_next().await {
            times.extend(read.map_err(BenchError::of("run a reader"))??);
        }
        let per_second = times.len() as f64 / begun.elapsed().as_secs_f64();
        let sample = sample?.with("reads/s", per_second);
        Ok(sample.with("ms p50", percentile(times.clone(), 50)).with("ms p99", percentile(times, 99)))
    }
}

#[async_trait(?Send)]
impl BenchCase for Ingest {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp, read by 64"),
            Contender::new(ContenderKind::Yardstick, "mysimbdp, not read"),
        ]
    }

    async fn run(&mut self, contender: usize, round: u32) -> Result<Sample> {
        // Each has files of its own.
        let file = round * 2 + contender as u32;
        match contender {
            0 => self.while_read(file).await,
            _ => self.alone(file).await,
        }
    }
}

/// The time of each request until the end.
async fn read(
    mut connection: HttpConnection,
    mut number: u64,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let begun = Instant::now();
        let answer = connection.get(&latest(number), "application/json").await?;
        if answer.status != 200 {
            return Err(BenchError::new(format!("a query was answered with {}", answer.status)));
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}
