//! Runs batch apps as the platform does: environment, stdin and answer.

#![allow(clippy::disallowed_methods, reason = "tests start processes themselves")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;

use mysimbdp_model::app::{Line, Phase, UnitHeader};
use mysimbdp_model::column::ColumnValues;
use mysimbdp_model::manifest::Format;
use mysimbdp_store::Coredms;
use mysimbdp_testbed as testbed;
use tempfile::TempDir;

pub const INGESTION: &str = "000102030405060708090a0b0c0d0e0f";

/// A separate database for a test, in one of the two stores.
pub struct TestStore {
    pub url: String,
    pub database: String,
    pub coredms: Arc<dyn Coredms>,
    _directory: Option<TempDir>,
}

impl TestStore {
    pub async fn embedded() -> Self {
        let directory = TempDir::with_prefix("mysimbdp-app-").expect("temporary directory");
        Self::at(format!("sqlite:{}", directory.path().display()), Some(directory)).await
    }

    pub async fn mongodb() -> Self {
        Self::at(testbed::mongodb().url().to_owned(), None).await
    }

    async fn at(url: String, directory: Option<TempDir>) -> Self {
        let database = testbed::unique("app");
        let coredms = mysimbdp_store::open(&url, &database).await.expect("the store opens");
        Self { url, database, coredms, _directory: directory }
    }
}

/// Returns the header of a unit that is a whole file.
pub fn whole(file: &str, bytes: &[u8], records: u64) -> UnitHeader {
    UnitHeader {
        client_id: "client1".to_owned(),
        ingestion: INGESTION.to_owned(),
        file: file.to_owned(),
        format: Format::of_file_name(file),
        encoding: "utf-8".to_owned(),
        batch_index: 0,
        batch_count: 1,
        first_record: 0,
        records,
        offset: 0,
        length: bytes.len() as u64,
        file_bytes: bytes.len() as u64,
        received_at: "2026-11-21T03:22:11Z".parse().expect("a time"),
        attempt: 1,
        phase: Phase::Ingest,
        columns: Vec::new(),
        replace: None,
    }
}

/// Returns the unit with the types of its columns, each with the values that are exceptions.
pub fn typed(unit: UnitHeader, columns: &[(&str, &[&str])]) -> UnitHeader {
    let values = |&(kind, except): &(&str, &[&str])| ColumnValues {
        kind: kind.parse().expect("a type"),
        except: except.iter().map(ToString::to_string).collect(),
    };
    UnitHeader { columns: columns.iter().map(values).collect(), ..unit }
}

/// A program, and how it is run for a client.
pub struct App<'a> {
    pub program: &'a Path,
    pub arguments: &'a [&'a str],
    /// Variables in addition to those for store and unit, such as `MYSIMBDP_IDS`.
    pub env: Vec<(&'a str, String)>,
}

/// The answer of an app.
#[derive(Debug)]
pub struct AppOutput {
    pub code: Option<i32>,
    pub lines: Vec<Line>,
    pub stderr: String,
}

impl AppOutput {
    /// Returns stored, duplicates and rejected of the `done` line, which must be the last one.
    #[track_caller]
    pub fn done(&self) -> (u64, u64, u64) {
        assert_eq!(self.code, Some(0), "{self:?}");
        match self.lines.last() {
            Some(Line::Done { stored, duplicates, rejected }) => (*stored, *duplicates, *rejected),
            _ => panic!("the last line is not done: {self:?}"),
        }
    }

    pub fn rejects(&self) -> Vec<(u64, &str)> {
        let mut rejects: Vec<(u64, &str)> = self
            .lines
            .iter()
            .filter_map(|line| match line {
                Line::Reject { record, reason } => Some((*record, reason.as_str())),
                _ => None,
            })
            .collect();
        rejects.sort_unstable();
        rejects
    }
}

impl App<'_> {
    /// Runs the app for one unit, with `protocol: "stdin"`.
    pub fn stdin(&self, store: &TestStore, header: &UnitHeader, bytes: &[u8]) -> AppOutput {
        let mut command = self.command(store);
        command.envs(header.to_env());
        let mut child = command.spawn().expect("the app starts");
        let mut stdin = child.stdin.take().expect("piped");
        let output: Output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // The write may fail: an app that refuses its input does not read all of it.
                let _ = stdin.write_all(bytes);
            });
            child.wait_with_output().expect("the app ends")
        });
        let lines = output.stdout.lines().map(|line| parse(&line.expect("UTF-8"))).collect();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        AppOutput { code: output.status.code(), lines, stderr }
    }

    /// Starts the app with `protocol: "worker"`.
    pub fn worker(&self, store: &TestStore) -> Worker {
        let mut child =
            self.command(store).env("MYSIMBDP_PROTOCOL", "worker").spawn().expect("the app starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Worker { child, stdin, stdout }
    }

    pub fn command(&self, store: &TestStore) -> Command {
        let mut command = Command::new(self.program);
        command.args(self.arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("MYSIMBDP_COREDMS", &store.url).env("MYSIMBDP_DATABASE", &store.database);
        command
            .env("MYSIMBDP_COLLECTION", "records")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A running worker process; it is killed when dropped.
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    /// Sends a unit and returns the answer up to `done` or `failed`. Progress lines are left out, because their number depends
    /// on the load of the machine.
    pub fn unit(&mut self, header: &UnitHeader, bytes: &[u8]) -> Vec<Line> {
        self.unit_in_pieces(header, [bytes.to_vec()].into_iter())
    }

    /// Does the same with bytes that do not fit in memory at once.
    pub fn unit_in_pieces(
        &mut self,
        header: &UnitHeader,
        pieces: impl Iterator<Item = Vec<u8>>,
    ) -> Vec<Line> {
        let stdin = self.stdin.as_mut().expect("open until the end");
        let mut head = serde_json::to_vec(header).expect("JSON");
        head.push(b'\n');
        for piece in std::iter::once(head).chain(pieces) {
            stdin.write_all(&piece).expect("the worker reads");
        }
        stdin.flush().expect("the worker reads");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.stdout.read_line(&mut line).expect("the worker answers");
            assert!(!line.is_empty(), "the worker has ended: {}", self.stderr());
            match parse(&line) {
                Line::Progress { .. } => continue,
                answer => lines.push(answer),
            }
            if matches!(lines.last(), Some(Line::Done { .. } | Line::Failed { .. })) {
                return lines;
            }
        }
    }

    /// Returns the most memory that the worker has used so far.
    pub fn memory_peak_kib(&self) -> u64 {
        testbed::memory_peak_kib(self.child.id())
    }

    /// Closes the worker's stdin and returns its exit code.
    pub fn end(mut self) -> Option<i32> {
        self.stdin = None;
        self.child.wait().expect("the worker ends").code()
    }

    fn stderr(&mut self) -> String {
        self.stdin = None;
        let mut text = String::new();
        self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        text
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(line: &str) -> Line {
    serde_json::from_str(line)
        .unwrap_or_else(|error| panic!("{line:?} is not a line of the contract: {error}"))
}
