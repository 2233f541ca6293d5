//! The load: files for two clients and lines for the edges, at a steady rate, each record with a number of its own.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use mysimbdp_testbed::Root;

use crate::world::{SOURCES, SPLIT, STREAM, WORKER, lines};

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

/// What has been handed over so far.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    steps: u64,
    /// Of the files of each client, the number of records.
    split: u64,
    worker: u64,
    /// Of each source, the number of lines.
    lines: u64,
}

impl Sent {
    /// Hands over what belongs to the next step.
    pub fn step(&mut self, root: &Root) {
        if self.steps.is_multiple_of(SPLIT_EVERY) {
            self.split_file(root);
        }
        if self.steps.is_multiple_of(WORKER_EVERY) {
            self.worker_file(root);
        }
        self.source_lines(root, LINES);
        self.steps += 1;
    }

    /// The clients, and how many records of each must be there in the end.
    pub fn records(&self) -> [(&'static str, u64); 3] {
        [(SPLIT, self.split), (WORKER, self.worker), (STREAM, self.lines * SOURCES.len() as u64)]
    }

    /// One more of everything, by which it is seen that the platform is at work again.
    pub fn probe(&mut self, root: &Root) {
        self.split_file(root);
        self.worker_file(root);
        self.source_lines(root, 1);
    }

    fn split_file(&mut self, root: &Root) {
        let rows =
            (self.split..self.split + SPLIT_RECORDS).map(|n| format!("{n},file,{}.5,{PADDING}\n", n % 40));
        let content = format!("n,station,temp,remark\n{}", rows.collect::<String>());
        root.drop_file(SPLIT, &format!("split-{}.csv", self.split), content.as_bytes());
        self.split += SPLIT_RECORDS;
    }

    fn worker_file(&mut self, root: &Root) {
        let content = records("file", self.worker, WORKER_RECORDS);
        root.drop_file(WORKER, &format!("worker-{}.ndjson", self.worker), content.as_bytes());
        self.worker += WORKER_RECORDS;
    }

    fn source_lines(&mut self, root: &Root, count: u64) {
        for source in SOURCES {
            append(&lines(root, source), &records(source, self.lines, count));
        }
        self.lines += count;
    }
}

fn records(station: &str, first: u64, count: u64) -> String {
    let record = |n| format!("{{\"n\":{n},\"station\":\"{station}\",\"temp\":{}.5}}\n", n % 40);
    (first..first + count).map(record).collect()
}

fn append(path: &Path, text: &str) {
    let mut file = File::options().append(true).open(path).expect("the file that is followed");
    file.write_all(text.as_bytes()).expect("append lines");
}
