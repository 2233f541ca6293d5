//! Power cuts while an edge follows a log that its writer does not sync.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mysimbdp_edge::Edge;
use mysimbdp_edge::input::LineInput;
use mysimbdp_testbed::{Disk, FileSystem, Mosquitto, until_async};
use tokio::runtime::Runtime;

use crate::platform::{FakePlatform, settings};

const CUTS: usize = 20;
/// How many lines are written at most until a cut.
const LINES_MAX: u64 = 400;
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn heavy_power_cuts_under_a_followed_log_lose_and_duplicate_nothing_on_ext4() {
    power_cuts_lose_and_duplicate_nothing(FileSystem::Ext4);
}

#[test]
fn heavy_power_cuts_under_a_followed_log_lose_and_duplicate_nothing_on_xfs() {
    power_cuts_lose_and_duplicate_nothing(FileSystem::Xfs);
}

/// In the end each line of the log is stored exactly once, and nothing else is stored, such as lines that the writer has lost.
fn power_cuts_lose_and_duplicate_nothing(file_system: FileSystem) {
    let Some(mut disk) = Disk::new_or_skip(file_system) else { return };
    // Started after the disk is mounted, so that its threads and their children see the mount.
    let runtime = Runtime::new().expect("a runtime");
    let broker = Mosquitto::start();
    let platform = runtime.block_on(FakePlatform::start(&broker.url()));
    let settings = settings(&broker.url(), &disk.path().join("outbox"));
    let mut log = Log::new(disk.path().join("logs"));
    let mut taken = 0;
    for cut in 0..CUTS {
        runtime.block_on(async {
            let edge = Edge::open(settings.clone()).await.expect("an edge");
            let mut following = pin!(follow(&edge, log.path()));
            tokio::select! {
                () = &mut following => unreachable!("it has no end"),
                () = load(&platform, &mut log, cut) => {}
            }
            // The log's writer, the follower's syncs and the outbox each run on a thread of their own.
            let writing = log.append_until_cut(cut);
            let more = platform.state().stored.len() + cut * 13 % 60;
            tokio::select! {
                () = following => unreachable!("it has no end"),
                () = stored(&platform, more) => disk.cut(),
            }
            log.next += writing.join().expect("the writer has not panicked");
        });
        disk.restore();
        taken += log.recover();
    }
    runtime.block_on(async {
        let edge = Edge::open(settings).await.expect("an edge");
        tokio::select! {
            () = follow(&edge, log.path()) => unreachable!("it has no end"),
            () = caught_up(&platform, &log) => {}
        }
        edge.flush(CAUGHT_UP_WITHIN).await.expect("all is received");
        edge.close().await;
    });

    let mut stored: BTreeMap<String, u32> = BTreeMap::new();
    for content in platform.state().stored.values() {
        *stored.entry(String::from_utf8_lossy(content).into_owned()).or_default() += 1;
    }
    let once: BTreeMap<String, u32> = log.lines().into_iter().map(|line| (line, 1)).collect();
    let differs = |(line, times): &(&String, &u32)| once.get(*line) != Some(*times);
    let residue: Vec<_> = stored.iter().filter(differs).take(10).collect();
    assert!(stored == once, "{} lines, {} stored, of which are wrong: {residue:?}", once.len(), stored.len());
    let lines: BTreeSet<String> = once.into_keys().collect();
    assert!(log.synced.is_subset(&lines), "the file system has lost what was synced");
    println!(
        "{CUTS} cuts of {file_system:?}: {} lines are stored, {taken} were lost in the cuts",
        lines.len()
    );
}

async fn follow(edge: &Edge, path: PathBuf) {
    let mut input = LineInput::follow(&path, &edge.position(), 4_096).expect("a position in a file");
    loop {
        let lines = input.next().await.expect("readable").expect("no end");
        edge.send_batch(lines).await.expect("accepted");
    }
}

/// Writes a different number of lines each time; rotates the log, syncs it, and waits for the platform to catch up, or not.
async fn load(platform: &FakePlatform, log: &mut Log, cut: usize) {
    caught_up(platform, log).await;
    for burst in 0..=cut % 3 {
        log.append(cut, 1 + (cut as u64 * 37 + burst as u64 * 11) % 150);
        if (cut + burst).is_multiple_of(4) {
            log.sync();
        }
        match burst {
            0 if cut.is_multiple_of(3) => {}
            // Only once per load: if the log is rotated again before the previous file is read, the follower misses that file.
            1 => log.rotate(cut),
            _ => caught_up(platform, log).await,
        }
    }
}

async fn stored(platform: &FakePlatform, lines: usize) {
    until_async(CAUGHT_UP_WITHIN, "more is stored", async || platform.state().stored.len() >= lines).await;
}

async fn caught_up(platform: &FakePlatform, log: &Log) {
    let lines = log.lines();
    let all_are_stored = async || {
        let state = platform.state();
        let stored: BTreeSet<&[u8]> = state.stored.values().map(Vec::as_slice).collect();
        lines.iter().all(|line| stored.contains(line.as_bytes()))
    };
    until_async(CAUGHT_UP_WITHIN, "every line of the log is stored", all_are_stored).await;
}

/// A log as programs write it: appended to, rotated now and then, and hardly ever synced.
struct Log {
    directory: PathBuf,
    /// The number of the next line.
    next: u64,
    /// The lines that its writer knows to be on disk.
    synced: BTreeSet<String>,
}

impl Log {
    fn new(directory: PathBuf) -> Self {
        fs::create_dir(&directory).expect("a directory");
        Self { directory, next: 1, synced: BTreeSet::new() }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("app.log")
    }

    fn append(&mut self, cut: usize, lines: u64) {
        let text: String = (self.next..self.next + lines).map(|number| line(number, cut)).collect();
        self.open().write_all(text.as_bytes()).expect("written");
        self.next += lines;
    }

    /// Appends line by line on a thread of its own until that fails; the thread returns how many lines it has written.
    fn append_until_cut(&self, cut: usize) -> JoinHandle<u64> {
        let (mut file, next) = (self.open(), self.next);
        thread::spawn(move || {
            let lines = (next..next + LINES_MAX).map(|number| line(number, cut));
            lines.take_while(|line| file.write_all(line.as_bytes()).is_ok()).count() as u64
        })
    }

    fn open(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.path()).expect("the log")
    }

    fn rotate(&self, cut: usize) {
        fs::rename(self.path(), self.directory.join(format!("app.log.{cut:02}"))).expect("renamed");
    }

    fn sync(&mut self) {
        for file in self.files().into_iter().chain([self.directory.clone()]) {
            File::open(file).and_then(|file| file.sync_all()).expect("synced");
        }
        self.synced = self.lines();
    }

    /// Restarts the writer: it removes the partial line at the end, and continues after the last whole one. Returns how many lines
    /// were lost.
    fn recover(&mut self) -> u64 {
        for path in self.files() {
            let content = fs::read(&path).expect("the log");
            let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if whole < content.len() {
                let file = OpenOptions::new().write(true).open(&path).expect("the log");
                file.set_len(whole as u64).expect("cut");
            }
        }
        let next = self.lines().iter().map(|line| number(line)).max().unwrap_or(0) + 1;
        std::mem::replace(&mut self.next, next) - next
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.directory).expect("the logs").map(|entry| entry.expect("a file").path()).collect()
    }

    fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for path in self.files() {
            let content = fs::read_to_string(path).expect("the log");
            let whole = content.rfind('\n').map_or("", |at| &content[..at]);
            for line in whole.lines() {
                assert!(lines.insert(line.to_owned()), "the writer has written {line} twice");
            }
        }
        lines
    }
}

fn line(number: u64, cut: usize) -> String {
    let padding = "x".repeat((number * 31 % 200) as usize);
    format!("{{\"line\":{number},\"before_cut\":{cut},\"text\":\"{padding}\"}}\n")
}

/// The number of a written line.
fn number(line: &str) -> u64 {
    let digits = line.strip_prefix("{\"line\":").and_then(|rest| rest.split(',').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{line:?} was never written"))
}
