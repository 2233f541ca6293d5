//! Events to a thousand listeners.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use memchr::memmem::Finder;
use mysimbdp_testbed::Root;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::effort::processor_seconds;
use crate::event_server::{PLAIN, PLATFORM, PUBLISHED_AT, nanoseconds};
use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;
use crate::memory::MemoryGrowth;
use crate::wait::until;

const MEMORY: &str = "KiB of the server for each listener";
const LOST: &str = "lost";
const PER_SECOND: u64 = 1_000;

/// Within which the last events arrive after the last was published.
const ARRIVED_WITHIN: Duration = Duration::from_secs(10);

pub const EVENTS: Plan = Plan {
    name: "serving-events",
    title: "1,000 events/s to 1,000 listeners, p99",
    unit: "ms",
    timed: "from the publication of an event in the server to its arrival at a listener, of all events at all listeners: \
            platform: the HTTP server in a process of its own, whose events the harness makes; yardstick: a program that writes \
            the same bytes to all connections every 20 ms",
    goals: &[Goal::AtMost(100.0), Goal::FactAtMost(MEMORY, 64.0), Goal::FactAtMost(LOST, 0.0)],
    rounds_max: u32::MAX,
    start: |extent| Events::start(extent).boxed_local(),
};

struct Events {
    root: Root,
    listeners: usize,
    seconds: u64,
}

/// A process that publishes, ended when dropped.
struct EventServer {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// How often each delay was seen: the first is below 0.1 ms, and the last 2 s or more.
struct Delays(Vec<AtomicU64>);

impl Events {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let root = Root::new(&json!({
            "coredms": {"url": "sqlite:coredms"},
            "serving": {"listen": "127.0.0.1:0"},
            "clients": [{"id": "client1", "apps": [{"name": "app", "command": ["document-app"]}]}],
        }));
        let listeners = usize::try_from(extent.of(100, 1_000)).unwrap_or(usize::MAX);
        Ok(Box::new(Self { root, listeners, seconds: extent.of(2, 10) }))
    }

    async fn measure(&self, kind: &str) -> Result<Sample> {
        let config = self.root.path().join("config.json");
        let mut server = EventServer::start(kind, &config.to_string_lossy())?;
        let (host, process) = (server.answer()?, server.process.id());
        let (growth, delays) = (MemoryGrowth::begin(process)?, Arc::new(Delays::new()));
        let mut listeners = JoinSet::new();
        for _ in 0..self.listeners {
            let stream = HttpConnection::open(&host).await?.listen("/events").await?;
            let begin = stream.buffer().to_vec();
            listeners.spawn(listen(stream.into_inner(), begin, Arc::clone(&delays)));
        }
        let before = processor_seconds(process)?;
        server.order(PER_SECOND, self.seconds)?;
        let (mut server, published) = tokio::task::spawn_blocking(move || {
            let published = server.answer();
            (server, published)
        })
        .await
        .map_err(BenchError::of("wait for the server"))?;
        let published = published?.parse::<u64>().map_err(BenchError::of("read how many were published"))?;
        let expected = published * self.listeners as u64;
        let arrived = until(ARRIVED_WITHIN, "all events arrive", async || Ok(delays.count() >= expected));
        // Those that have not are counted as lost.
        let _ = arrived.await;
        let (growth, used) = (growth.kib()?, processor_seconds(process)? - before);
        server.end();
        listeners.shutdown().await;
        Ok(Sample::of(delays.percentile(99))
            .with("ms p50", delays.percentile(50))
            .with("ms at most", delays.percentile(100))
            .with(LOST, expected.saturating_sub(delays.count()) as f64)
            .with(MEMORY, growth as f64 / self.listeners as f64)
            .with("CPU s server", used))
    }
}

#[async_trait(?Send)]
impl BenchCase for Events {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "GET /events"),
            Contender::new(ContenderKind::Yardstick, "the same bytes, written to all"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        self.measure(if contender == 0 { PLATFORM } else { PLAIN }).await
    }
}

impl EventServer {
    fn start(kind: &str, config: &str) -> Result<Self> {
        let program = std::env::current_exe().map_err(BenchError::of("find this program"))?;
        let mut process = Command::new(program)
            .args(["--event-server", kind, config])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(BenchError::of("start a server of events"))?;
        let none = || BenchError::new("a server of events has no pipes");
        let orders = process.stdin.take().ok_or_else(none)?;
        let answers = BufReader::new(process.stdout.take().ok_or_else(none)?);
        Ok(Self { process, orders, answers })
    }

    fn order(&mut self, per_second: u64, seconds: u64) -> Result<()> {
        writeln!(self.orders, "{per_second} {seconds}").map_err(BenchError::of("order events"))
    }

    /// The next line that it prints.
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line).map_err(BenchError::of("read from a server of events"))? {
            0 => Err(BenchError::new("a server of events has ended")),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for EventServer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Delays {
    const COUNT: u64 = 20_000;

    fn new() -> Self {
        Self((0..=Self::COUNT).map(|_| AtomicU64::new(0)).collect())
    }

    fn add(&self, nanoseconds: u64) {
        let index = usize::try_from((nanoseconds / 100_000).min(Self::COUNT)).unwrap_or_default();
        self.0[index].fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// In milliseconds, rounded up to 0.1.
    fn percentile(&self, percent: u64) -> f64 {
        let below = (self.count() * percent).div_ceil(100);
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += count.load(Ordering::Relaxed);
            seen >= below
        });
        found.map_or(f64::NAN, |index| (index + 1) as f64 / 10.0)
    }
}

/// Notes the delay of each event, until the connection ends.
async fn listen(mut stream: TcpStream, mut text: Vec<u8>, delays: Arc<Delays>) {
    let published_at = Finder::new(PUBLISHED_AT);
    text.reserve(64 << 10);
    while let Ok(1..) = stream.read_buf(&mut text).await {
        let now = nanoseconds();
        let mut done = 0;
        while let Some(found) = published_at.find(&text[done..]) {
            let digits = &text[done + found + PUBLISHED_AT.len()..];
            let Some(end) = digits.iter().position(|byte| !byte.is_ascii_digit()) else { break };
            let at = digits[..end].iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
            delays.add(now.saturating_sub(at));
            done += found + PUBLISHED_AT.len() + end;
        }
        // A number, or what is in front of it, may have been cut.
        let kept = text.len() - done.max(text.len().saturating_sub(64));
        text.drain(..text.len() - kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_hundred_delays_is_above_the_99th_percentile() {
        let delays = Delays::new();
        (0..100).for_each(|millisecond| delays.add(millisecond * 1_000_000));
        assert_eq!((delays.count(), delays.percentile(50), delays.percentile(99)), (100, 49.1, 98.1));
        delays.add(u64::MAX);
        assert_eq!(delays.percentile(100), 2_000.1);
    }
}
