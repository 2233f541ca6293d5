//! The load: files for two clients and lines for the edges, at a steady rate, each record with a number of its own.

use std::time::Duration;

use mysimbdp_testbed::Root;

use crate::world::{SPLIT, STREAM, WORKER, World};

/// From one step of the load to the next.
pub const STEP: Duration = Duration::from_millis(100);

/// A file of the client whose files are split comes with every so many steps, and has so many records: three
/// micro-batches.
const SPLIT_EVERY: u64 = 10;
const SPLIT_RECORDS: u64 = 400;
/// The same for the client with many small files.
const WORKER_EVERY: u64 = 3;
const WORKER_RECORDS: u64 = 20;
const PADDING: &str = "fills the micro-batches without many records";
/// Lines of each source with each step.
const LINES: u64 = 5;
/// Lines of each source that gather at once while the stream side is down.
const BACKLOG: u64 = 3_000;

/// What has been handed over so far.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    steps: u64,
    /// Of the files of each client, the number of records.
    split: u64,
    worker: u64,
    /// Of all sources together, the number of lines.
    lines: u64,
}

impl Sent {
    /// Hands over what belongs to the next step.
    pub fn step(&mut self, world: &mut World) {
        if self.steps.is_multiple_of(SPLIT_EVERY) {
            self.split_file(&world.root);
        }
        if self.steps.is_multiple_of(WORKER_EVERY) {
            self.worker_file(&world.root);
        }
        self.source_lines(world, LINES);
        self.steps += 1;
    }

    /// Many lines at once, while nobody stores them.
    pub fn backlog(&mut self, world: &mut World) {
        self.source_lines(world, BACKLOG);
    }

    /// The clients, and how many records of each must be there in the end.
    pub fn records(&self) -> [(&'static str, u64); 3] {
        [(SPLIT, self.split), (WORKER, self.worker), (STREAM, self.lines)]
    }

    /// One more of everything, by which it is seen that the platform is at work again.
    pub fn probe(&mut self, world: &mut World) {
        self.split_file(&world.root);
        self.worker_file(&world.root);
        self.source_lines(world, 1);
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

    fn source_lines(&mut self, world: &mut World, count: u64) {
        // A power cut may have taken some of those that were written before.
        self.lines = world.logs.append(count, record);
    }
}

fn record(station: &str, n: u64) -> String {
    format!("{{\"n\":{n},\"station\":\"{station}\",\"temp\":{}.5}}\n", n % 40)
}
