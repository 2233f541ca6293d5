//! The logs that the edges follow, and their outboxes, on a disk whose power can be cut.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use mysimbdp_testbed::{Disk, FileSystem, Root};

use crate::world::SOURCES;

/// The logs, one for each source, and what their writer knows of them. It never syncs them.
#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    power: Power,
    /// How many lines each log has.
    lines: [u64; SOURCES.len()],
}

#[derive(Debug)]
enum Power {
    On(Disk),
    Off(Disk),
    /// This process may not mount a disk of its own.
    CannotBeCut,
}

impl Logs {
    /// Empty ones. The seed chooses the file system.
    pub fn new(root: &Root, seed: u64) -> Self {
        let file_system = if seed.is_multiple_of(2) { FileSystem::Xfs } else { FileSystem::Ext4 };
        let power = Disk::new_or_skip(file_system).map_or(Power::CannotBeCut, Power::On);
        let directory = match &power {
            Power::On(disk) | Power::Off(disk) => disk.path().to_owned(),
            Power::CannotBeCut => root.path().to_owned(),
        };
        let logs = Self { directory, power, lines: [0; SOURCES.len()] };
        for source in SOURCES {
            fs::write(logs.path(source), "").expect("a log to follow");
        }
        // The logs themselves are to be there after the first cut.
        if let Power::On(disk) = &logs.power {
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
        if !matches!(self.power, Power::Off(_)) {
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
        let power = std::mem::replace(&mut self.power, Power::CannotBeCut);
        let Power::On(disk) = power else {
            self.power = power;
            return false;
        };
        disk.cut();
        self.power = Power::Off(disk);
        true
    }

    /// The power is back. Each writer finds out what is left of its log, and goes on behind the last whole line.
    pub fn restore(&mut self) {
        let power = std::mem::replace(&mut self.power, Power::CannotBeCut);
        let Power::Off(mut disk) = power else {
            self.power = power;
            return;
        };
        disk.restore();
        self.power = Power::On(disk);
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
