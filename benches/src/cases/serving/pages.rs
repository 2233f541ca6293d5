//! Ingestion of a file, alone and while a hundred dashboards are open.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::ingest::Ingest;
use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::YARDSTICK;
use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;

const PAGES: u32 = 100;
/// What a page asks for, whatever happens, as `main.js` and `present_files.js` do.
const POLLED: [(&str, Duration); 5] = [
    ("/api/streams", Duration::from_secs(5)),
    ("/api/queues", Duration::from_secs(5)),
    ("/readyz?verbose", Duration::from_secs(15)),
    ("/api/arrivals", Duration::from_secs(60)),
    ("/api/files?state=waiting,staged,held,discarded&limit=1000", Duration::from_secs(60)),
];
/// The place in it of what a page asks for when a file moves, and how soon it does so again.
const AFTER_EVENTS: usize = 1;
const PAUSE: Duration = Duration::from_secs(1);

pub const PAGES_OPEN: Plan = Plan {
    name: "serving-pages",
    title: "50 MB CSV to documents while 100 dashboards are open",
    unit: "rows/s",
    timed: "as the case csv: platform: while 100 callers do what an open dashboard does: listen to all events, read the lists of \
            streams, queues, files and contracts as often as the page does, and the queues again when a file moves; yardstick: \
            without them. What browsers need for drawing is not part of it",
    goals: &[Goal::AtLeast(0.95, YARDSTICK)],
    rounds_max: u32::MAX,
    start: |extent| Pages::start(extent).boxed_local(),
};

struct Pages {
    ingest: Ingest,
}

impl Pages {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        Ok(Box::new(Self { ingest: Ingest::begin(extent).await? }))
    }

    async fn while_open(&mut self, round: u32) -> Result<Sample> {
        let host = self.ingest.host()?;
        let mut pages = JoinSet::new();
        for number in 0..PAGES {
            // They were not all opened at the same moment.
            pages.spawn(open(host.clone(), PAUSE * number / PAGES));
        }
        let begun = Instant::now();
        tokio::time::sleep(2 * PAUSE).await;
        let sample = self.ingest.alone(round).await;
        if let Some(ended) = pages.try_join_next() {
            let Err(failure) = ended.map_err(BenchError::of("run a page"))?;
            return Err(failure);
        }
        pages.shutdown().await;
        Ok(sample?.with("s open", begun.elapsed().as_secs_f64()))
    }
}

#[async_trait(?Send)]
impl BenchCase for Pages {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp, 100 dashboards open"),
            Contender::new(ContenderKind::Yardstick, "mysimbdp, none open"),
        ]
    }

    async fn run(&mut self, contender: usize, round: u32) -> Result<Sample> {
        // Each has files of its own.
        let file = round * 2 + contender as u32;
        match contender {
            0 => self.while_open(file).await,
            _ => self.ingest.alone(file).await,
        }
    }
}

/// An open page. It ends only with a failure.
async fn open(host: String, after: Duration) -> Result<Infallible> {
    tokio::time::sleep(after).await;
    let mut events = HttpConnection::open(&host).await?.listen("/events").await?;
    let mut connection = HttpConnection::open(&host).await?;
    let mut due = [Instant::now(); POLLED.len()];
    let mut queues_read_at = Instant::now();
    let mut text = vec![0; 64 << 10];
    loop {
        let next = due.into_iter().min().unwrap_or_else(Instant::now);
        match timeout_at(next.into(), events.read(&mut text)).await {
            Ok(Ok(0)) => return Err(BenchError::new("the stream of events has ended")),
            Ok(Ok(length)) => {
                if text[..length].windows(6).any(|word| word == b"event:") {
                    due[AFTER_EVENTS] = due[AFTER_EVENTS].min(queues_read_at + PAUSE);
                }
            }
            Ok(Err(error)) => return Err(BenchError::of("read events")(error)),
            Err(_due) => {
                let position = due.iter().position(|due| *due <= next).unwrap_or_default();
                let (path, every) = POLLED[position];
                let answer = connection.get(path, "application/json").await?;
                // What is not ready says so with 503.
                if !matches!(answer.status, 200 | 503) {
                    return Err(BenchError::new(format!("{path} was answered with {}", answer.status)));
                }
                due[position] = Instant::now() + every;
                if position == AFTER_EVENTS {
                    queues_read_at = Instant::now();
                }
            }
        }
    }
}
