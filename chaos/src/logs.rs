//! The logs that the edges follow, and their outboxes, on a disk whose power can be cut.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use mysimbdp_testbed::{Disk, FileSystem, Root};

/// The numbered sources, each with a log that an edge follows.
pub const SOURCES: [&str; 2] = ["north", "south"];

/// The logs, one for each source, and what their writer knows of them. It never syncs them.
#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    /// Their own, if this process may mount one.
    disk: Option<Disk>,
    is_power_off: bool,
    /// How many lines each log has.
    lines: [u64; SOURCES.len()],
}

impl Logs {
    /// Empty ones. The seed chooses the file system.
    pub fn new(root: &Root, seed: u64) -> Self {
        let file_system = if seed.is_multiple_of(2) { FileSystem::Xfs } else { FileSystem::Ext4 };
        let disk = Disk::new_or_skip(file_system);
        let directory = disk.as_ref().map_or(root.path(), Disk::path).to_owned();
        let logs = Self { directory, disk, is_power_off: false, lines: [0; SOURCES.len()] };
        for source in SOURCES {
            fs::write(logs.path(source), "").expect("a log to follow");
        }
        // The logs themselves are to be there after the first cut.
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

    /// Appends `count` lines to each log; nothing while the power is off. Returns how many lines all logs have.
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

    /// Cuts the power; false if that is not possible here.
    pub fn cut(&mut self) -> bool {
        let Some(disk) = self.disk.as_ref().filter(|_| !self.is_power_off) else { return false };
        disk.cut();
        self.is_power_off = true;
        true
    }

    /// The power is back. Each writer finds out what is left of its log, and goes on behind the last whole line.
    pub fn restore(&mut self) {
        let Some(disk) = self.disk.as_mut().filter(|_| self.is_power_off) else { return };
        disk.restore();
        self.is_power_off = false;
        for (position, source) in SOURCES.into_iter().enumerate() {
            let path = self.path(source);
            let content = fs::read(&path).expect("the log that is followed");
            let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let log = File::options().write(true).open(&path);
            log.and_then(|log| log.set_len(whole as u64)).expect("drop half a line");
            self.lines[position] = content[..whole].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }
}
