//! The load: files for two clients and lines for the edges, at a steady rate, each record with a unique number.

use std::time::Duration;

use mysimbdp_testbed::Root;

use crate::platform::{SPLIT, STREAM, TestPlatform, WORKER};

/// The time between two steps of the load.
pub const STEP: Duration = Duration::from_millis(100);

/// The client whose files are split gets a file every this many steps, with this many records: three micro-batches.
const SPLIT_EVERY: u64 = 10;
const SPLIT_RECORDS: u64 = 400;
/// The same for the client with many small files.
const WORKER_EVERY: u64 = 3;
const WORKER_RECORDS: u64 = 20;
const PADDING: &str = "fills the micro-batches without many records";
/// Lines per source and step.
const LINES: u64 = 5;
/// Lines per source that are written at once while the stream-manager is down.
const BACKLOG: u64 = 3_000;

/// What has been sent so far.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    steps: u64,
    /// The number of records in the files of each client.
    split: u64,
    worker: u64,
    /// The number of lines of all sources together.
    lines: u64,
}

impl Sent {
    /// Sends what the next step is due to send.
    pub fn step(&mut self, platform: &mut TestPlatform) {
        if self.steps.is_multiple_of(SPLIT_EVERY) {
            self.split_file(&platform.root);
        }
        if self.steps.is_multiple_of(WORKER_EVERY) {
            self.worker_file(&platform.root);
        }
        self.source_lines(platform, LINES);
        self.steps += 1;
    }

    /// Writes many lines at once, while nothing stores them.
    pub fn backlog(&mut self, platform: &mut TestPlatform) {
        self.source_lines(platform, BACKLOG);
    }

    /// The clients, and how many records of each must be stored at the end.
    pub fn records(&self) -> [(&'static str, u64); 3] {
        [(SPLIT, self.split), (WORKER, self.worker), (STREAM, self.lines)]
    }

    /// Sends one more of everything, to detect when the platform works again.
    pub fn probe(&mut self, platform: &mut TestPlatform) {
        self.split_file(&platform.root);
        self.worker_file(&platform.root);
        self.source_lines(platform, 1);
    }

    fn split_file(&mut self, root: &Root) {
        let rows =
            (self.split..self.split + SPLIT_RECORDS).map(|n| format!("{n},file,{}.5,{PADDING}\n", n % 40));
        let content = format!("n,station,temp,remark\n{}", rows.collect::<String>());
        root.drop_file(SPLIT, &format!("split-{}.csv", self.split), content.as_bytes());
        self.split += SPLIT_RECORDS;
    }

    fn worker_file(&mut self, root: &Root) {
        let numbers = self.worker..self.worker + WORKER_RECORDS;
        let content: String = numbers.map(|number| record("file", number)).collect();
        root.drop_file(WORKER, &format!("worker-{}.ndjson", self.worker), content.as_bytes());
        self.worker += WORKER_RECORDS;
    }

    fn source_lines(&mut self, platform: &mut TestPlatform, count: u64) {
        // The total and not `+= count`: a power cut may have lost lines that were written before.
        self.lines = platform.logs.append(count, record);
    }
}

fn record(station: &str, n: u64) -> String {
    format!("{{\"n\":{n},\"station\":\"{station}\",\"temp\":{}.5}}\n", n % 40)
}
