//! The logs that the edges follow, and their outboxes, on a disk whose power can be cut.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use mysimbdp_testbed::{Disk, FileSystem, Root};

/// The sources of messages, each with a log that an edge follows.
pub const SOURCES: [&str; 2] = ["north", "south"];

/// The logs, one for each source, and their writer's state. The writer never syncs them.
#[derive(Debug)]
pub struct LogFiles {
    directory: PathBuf,
    /// A disk of their own, if this process may mount one.
    disk: Option<Disk>,
    is_power_off: bool,
    /// How many lines each log has.
    lines: [u64; SOURCES.len()],
}

impl LogFiles {
    /// Creates empty logs. The seed selects the file system.
    pub fn new(root: &Root, seed: u64) -> Self {
        let file_system = if seed.is_multiple_of(2) { FileSystem::Xfs } else { FileSystem::Ext4 };
        let disk = Disk::new_or_skip(file_system);
        let directory = disk.as_ref().map_or(root.path(), Disk::path).to_owned();
        let logs = Self { directory, disk, is_power_off: false, lines: [0; SOURCES.len()] };
        for source in SOURCES {
            fs::write(logs.path(source), "").expect("a log to follow");
        }
        // The log files themselves must survive the first power cut.
        if let Some(disk) = &logs.disk {
            disk.sync();
        }
        logs
    }

    pub fn path(&self, source: &str) -> PathBuf {
        self.directory.join(format!("{source}.ndjson"))
    }

    pub fn outbox(&self, source: &str) -> PathBuf {
        self.directory.join(format!("{source}.outbox"))
    }

    /// Appends `count` lines to each log, unless the power is off. Returns the number of lines of all logs together.
    pub fn append(&mut self, count: u64, line: impl Fn(&str, u64) -> String) -> u64 {
        if !self.is_power_off {
            for (source, lines) in SOURCES.into_iter().zip(self.lines) {
                let text: String = (lines..lines + count).map(|number| line(source, number)).collect();
                let file = File::options().append(true).open(self.path(source));
                file.and_then(|mut log| log.write_all(text.as_bytes())).expect("append lines");
            }
            self.lines.iter_mut().for_each(|lines| *lines += count);
        }
        self.lines.iter().sum()
    }

    /// Cuts the power; returns false if that is impossible, or the power is already off.
    pub fn cut(&mut self) -> bool {
        let Some(disk) = self.disk.as_ref().filter(|_| !self.is_power_off) else { return false };
        disk.cut();
        self.is_power_off = true;
        true
    }

    /// Restores the power. Each log is cut back to its last complete line, after which its writer continues.
    pub fn restore(&mut self) {
        let Some(disk) = self.disk.as_mut().filter(|_| self.is_power_off) else { return };
        disk.restore();
        self.is_power_off = false;
        for (position, source) in SOURCES.into_iter().enumerate() {
            let path = self.path(source);
            let content = fs::read(&path).expect("the log that is followed");
            let complete = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let log = File::options().write(true).open(&path);
            log.and_then(|log| log.set_len(complete as u64)).expect("drop half a line");
            self.lines[position] = content[..complete].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }
}
