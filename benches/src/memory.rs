//! The most memory that each process of a tree has had resident.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::failure::{BenchError, Result};

/// The kernel keeps the peak of a process, and forgets it with the process: what a process reaches in its last moments,
/// for at most so long, is not seen.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// Looks at a process and its descendants until it is asked for the result.
#[derive(Debug)]
pub struct MemoryWatch {
    stop: mpsc::Sender<()>,
    sampler: JoinHandle<BTreeMap<String, u64>>,
}

impl MemoryWatch {
    pub fn start(process: u32) -> Self {
        let (stop, stopped) = mpsc::channel();
        let sampler = std::thread::spawn(move || {
            let mut peaks = BTreeMap::new();
            loop {
                record_peaks(process, &mut peaks);
                if stopped.recv_timeout(POLL_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return peaks;
                }
            }
        });
        Self { stop, sampler }
    }

    /// The peaks in KiB; of several processes with one name the greatest.
    pub fn peaks(self) -> BTreeMap<String, u64> {
        drop(self.stop);
        self.sampler.join().unwrap_or_default()
    }
}

/// The process and all its descendants.
pub fn tree(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        // Children are listed by the thread that has started them.
        let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    found
}

/// A process's share of the memory that is resident, in KiB: what it shares with others counts in parts. `None` where it has
/// ended.
pub fn share_kib(process: u32) -> Option<u64> {
    line_kib(process, "smaps_rollup", "Pss")
}

/// How much more a process has resident at most than now, in KiB.
#[derive(Debug)]
pub struct MemoryGrowth {
    process: u32,
    before_kib: u64,
}

impl MemoryGrowth {
    /// From now on.
    ///
    /// # Errors
    ///
    /// The process has ended, or is another user's.
    pub fn begin(process: u32) -> Result<Self> {
        // The kernel then forgets the peak.
        std::fs::write(format!("/proc/{process}/clear_refs"), "5")
            .map_err(BenchError::of(format!("reset the peak of process {process}")))?;
        Ok(Self { process, before_kib: resident(process, "VmRSS")? })
    }

    /// # Errors
    ///
    /// The process has ended.
    pub fn kib(&self) -> Result<u64> {
        Ok(resident(self.process, "VmHWM")?.saturating_sub(self.before_kib))
    }
}

fn resident(process: u32, line: &str) -> Result<u64> {
    let kib = line_kib(process, "status", line);
    kib.ok_or_else(|| BenchError::new(format!("process {process} has ended")))
}

/// A line of a file in `/proc/<pid>` that counts in kB.
fn line_kib(process: u32, file: &str, line: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
    let value = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

fn record_peaks(process: u32, peaks: &mut BTreeMap<String, u64>) {
    for process in tree(process) {
        if let (Some(name), Some(peak)) = (name(process), line_kib(process, "status", "VmHWM")) {
            let known = peaks.entry(name).or_default();
            *known = peak.max(*known);
        }
    }
}

/// What it is: of `mysimbdp` its command.
fn name(process: u32) -> Option<String> {
    let words = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let program = Path::new(&words.next()?).file_name()?.to_string_lossy().into_owned();
    if program != "mysimbdp" {
        return Some(program);
    }
    let processes = ["up", "broker", "fetchdata", "batch-manager", "stream-manager", "serve"];
    words.find(|word| processes.contains(&word.as_str())).or(Some(program))
}
