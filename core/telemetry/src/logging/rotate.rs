//! Log files that are rotated at the beginning of each day, UTC, and whenever they are full.
//!
//! `fetchdata.log` is always the current one. At the first line of a new day it becomes `fetchdata.2026-11-20.log`,
//! named after the day that it holds, and files older than the retention are removed. A log that is full before the day
//! is over becomes `fetchdata.2026-11-20.1.log` and so on, and the oldest files are removed until all together fit again:
//! the output of clients' apps must not fill the disk for everybody.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use mysimbdp_platform::files::{self, FileError, Result};

use super::settings::Logs;

/// The current file is full at an eighth of the log's limit.
const LIMIT_SHARES: u64 = 8;

/// The current file of a log that only this process writes.
#[derive(Debug)]
pub(super) struct RotatingFile {
    days: Days,
    file: File,
    bytes: u64,
    /// Whether only the beginning of the last line could be written.
    is_torn: bool,
}

impl RotatingFile {
    /// Opens the log; before that, rotates a file of an earlier day.
    pub(super) fn open(path: &Path, keep: Keep, now: Timestamp) -> Result<Self> {
        if let Some(directory) = path.parent() {
            files::create_dir_all(directory)?;
        }
        let mut days = Days::new(path, keep, now)?;
        let bytes = files::metadata(path).map_or(0, |metadata| metadata.len());
        days.begin(now, bytes, files::rename)?;
        let mut log = Self { file: files::append(path)?, days, bytes: 0, is_torn: false };
        log.bytes = log.length();
        Ok(log)
    }

    /// Appends a line; `line` must not contain the line ending.
    ///
    /// Each line is one `write`, so lines do not mix; only a failed write, as on a full disk, cuts one off.
    ///
    /// # Errors
    ///
    /// The line could not be written, or was written but the log could not be rotated.
    pub(super) fn write_line(&mut self, now: Timestamp, line: String) -> Result<()> {
        let rotated = self.rotate(now);
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.is_torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.write(&bytes).map_err(|source| FileError {
            action: "write",
            path: self.days.path.clone(),
            source,
        })?;
        // The line is written even if the log could not be rotated; the error is returned all the same. The next day
        // tries again, or the next line while the file is full.
        rotated
    }

    /// Notes in `is_torn` if a full disk cuts off the line, so that the next line begins with a line ending.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    self.bytes += count as u64;
                    self.is_torn = written < bytes.len();
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> Result<()> {
        if self.days.begin(now, self.bytes, files::rename)? {
            self.file = files::append(&self.days.path)?;
            self.bytes = self.length();
            self.is_torn = false;
        }
        Ok(())
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }
}

/// Rotates a log that running children hold open for appending, such as that of a stream. The log is copied and then emptied,
/// because a renamed file would continue to grow under the name of its old day.
///
/// What a child writes between the copy and the emptying is lost: a window of microseconds at each rotation. The
/// children must append (`O_APPEND`), or they would leave a hole as long as the old content. If children have written
/// more than the limit since the last rotation, only the end is kept.
#[derive(Debug)]
pub struct RotateByCopy {
    days: Days,
}

impl RotateByCopy {
    /// For the log at `path`, which need not exist yet.
    ///
    /// # Errors
    ///
    /// The metadata of `path` cannot be read.
    pub fn new(path: &Path, settings: &Logs) -> Result<Self> {
        Ok(Self { days: Days::new(path, settings.into(), mysimbdp_platform::clock::now())? })
    }

    /// Rotates if a new day has begun since the last time, or the file is full; returns whether it has. Call it regularly.
    ///
    /// # Errors
    ///
    /// The file system refuses. The next day tries again, or each call while the file is full.
    pub fn rotate(&mut self) -> Result<bool> {
        self.rotate_at(mysimbdp_platform::clock::now())
    }

    fn rotate_at(&mut self, now: Timestamp) -> Result<bool> {
        let bytes = files::metadata(&self.days.path).map_or(0, |metadata| metadata.len());
        let bytes_max = self.days.keep.file_bytes_max();
        self.days.begin(now, bytes, |from, to| files::copy_end_and_empty(from, to, bytes_max))
    }
}

/// How much of a log is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    retention: Duration,
    bytes_max: u64,
}

impl Keep {
    fn file_bytes_max(self) -> u64 {
        self.bytes_max / LIMIT_SHARES
    }
}

impl From<&Logs> for Keep {
    fn from(settings: &Logs) -> Self {
        Self { retention: settings.retention.duration(), bytes_max: settings.bytes_max.as_u64() }
    }
}

/// Decides when to rotate the current file, and which older files to remove.
#[derive(Debug)]
struct Days {
    path: PathBuf,
    keep: Keep,
    /// The day of the current file as `2026-11-20`, which sorts by time.
    day: String,
}

impl Days {
    /// If the file exists already, it holds the day on which it was last written.
    fn new(path: &Path, keep: Keep, now: Timestamp) -> Result<Self> {
        let written = match files::metadata(path) {
            Ok(metadata) => metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok()),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), keep, day: day(written.unwrap_or(now)) })
    }

    /// If `now` is on a later day, or the current file is full with `bytes`, moves it aside with `set_aside` and removes files
    /// that are too old or too large together; returns true if the current file was moved.
    ///
    /// A clock that steps back changes nothing: the file simply holds more than a day.
    fn begin(
        &mut self,
        now: Timestamp,
        bytes: u64,
        set_aside: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<bool> {
        let today = day(now);
        let is_full = bytes >= self.keep.file_bytes_max();
        if today <= self.day && !is_full {
            return Ok(false);
        }
        let ended = if today > self.day { std::mem::replace(&mut self.day, today) } else { self.day.clone() };
        let has_content = files::metadata(&self.path).is_ok_and(|metadata| metadata.len() > 0);
        if has_content {
            set_aside(&self.path, &self.next_name(&ended)?)?;
        }
        self.remove_old(now)?;
        Ok(has_content)
    }

    /// The name for the next file of a day; the first one has no number.
    fn next_name(&self, day: &str) -> Result<PathBuf> {
        let last = self.older()?.into_iter().filter(|older| older.day == day).map(|older| older.number).max();
        let stem = self.stem();
        Ok(self.path.with_file_name(match last {
            None => format!("{stem}.{day}.log"),
            Some(number) => format!("{stem}.{day}.{}.log", number + 1),
        }))
    }

    /// Removes files of days that ended longer ago than the retention, and then the oldest files until the others and a full
    /// current file fit in the limit.
    fn remove_old(&self, now: Timestamp) -> Result<()> {
        let oldest = now.checked_sub(self.keep.retention).map(day).unwrap_or_default();
        let mut remaining = self.keep.bytes_max.saturating_sub(self.keep.file_bytes_max());
        let mut older = self.older()?;
        older.sort_unstable_by(|a, b| (&b.day, b.number).cmp(&(&a.day, a.number)));
        for older in older {
            let bytes = files::metadata(&older.path).map_or(0, |metadata| metadata.len());
            let fits = bytes <= remaining;
            // Files older than one that does not fit are removed too, so that there are no gaps.
            remaining = if fits { remaining - bytes } else { 0 };
            if !fits || older.day < oldest {
                files::remove_file_if_exists(&older.path)?;
            }
        }
        Ok(())
    }

    /// The older files of this log.
    fn older(&self) -> Result<Vec<Older>> {
        let Some(directory) = self.path.parent() else { return Ok(Vec::new()) };
        Ok(files::list(directory)?.into_iter().filter_map(|path| self.older_at(path)).collect())
    }

    /// `path` as an older file of this log; `None` if it is not one.
    fn older_at(&self, path: PathBuf) -> Option<Older> {
        let name = path.file_name()?.to_str()?;
        let middle = name.strip_prefix(self.stem())?.strip_prefix('.')?.strip_suffix(".log")?;
        let (day, number) = middle.split_once('.').unwrap_or((middle, "0"));
        let is_day = day.len() == 10 && day.parse::<jiff::civil::Date>().is_ok();
        let (day, number) = (day.to_owned(), number.parse().ok()?);
        is_day.then_some(Older { path, day, number })
    }

    fn stem(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }
}

/// A rotated file.
#[derive(Debug)]
struct Older {
    path: PathBuf,
    day: String,
    /// Its number among the files of its day.
    number: u64,
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Keep = Keep { retention: Duration::from_secs(7 * 86_400), bytes_max: 1 << 30 };

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn names(directory: &Path) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
        files::list(directory).expect("the directory is there").into_iter().map(name).collect()
    }

    fn read(directory: &Path, name: &str) -> String {
        files::read_to_string(&directory.join(name)).expect(name)
    }

    #[test]
    fn each_day_has_its_own_file_and_old_files_are_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let directory = directory.path();
        for other in ["a.2025-01-01.log", "a.2025-01-01.1.log", "ab.2025-01-01.log", "a.notes.log"] {
            files::write_atomic(&directory.join(other), b"x").expect("an older file");
        }
        let path = directory.join("a.log");
        let mut log = RotatingFile::open(&path, WEEK, at("2099-01-01T12:00:00Z")).expect("a log");
        let mut write = |time: &str, line: &str| log.write_line(at(time), line.to_owned()).expect("written");
        write("2099-01-01T23:59:59Z", "one");
        write("2099-01-02T00:00:00Z", "two");
        // A clock that steps back starts no new file.
        write("2099-01-01T23:59:59Z", "three");
        write("2099-01-03T00:00:00Z", "four");
        assert_eq!(
            names(directory),
            ["a.2099-01-01.log", "a.2099-01-02.log", "a.log", "a.notes.log", "ab.2025-01-01.log"]
        );
        assert_eq!(read(directory, "a.2099-01-01.log"), "one\n");
        assert_eq!(read(directory, "a.2099-01-02.log"), "two\nthree\n");
        assert_eq!(read(directory, "a.log"), "four\n");
    }

    #[test]
    fn a_log_is_continued_on_the_same_day_and_rotated_on_the_next() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("a.log");
        let now = mysimbdp_platform::clock::now();
        for line in ["one", "two"] {
            let mut log = RotatingFile::open(&path, WEEK, now).expect("a log");
            log.write_line(now, line.to_owned()).expect("written");
        }
        assert_eq!(read(directory.path(), "a.log"), "one\ntwo\n");
        // The file's modification time says which day it holds.
        let tomorrow = now + Duration::from_secs(2 * 86_400);
        RotatingFile::open(&path, WEEK, tomorrow).expect("a log");
        assert_eq!(names(directory.path()).len(), 2, "{:?}", names(directory.path()));
        assert_eq!(read(directory.path(), "a.log"), "");
    }

    #[test]
    fn a_rotated_file_of_the_same_day_is_not_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("a.log");
        files::write_atomic(&directory.path().join("a.2099-01-01.log"), b"first\n").expect("an older file");
        let mut log = RotatingFile::open(&path, WEEK, at("2099-01-01T12:00:00Z")).expect("a log");
        log.write_line(at("2099-01-01T12:00:00Z"), "second".to_owned()).expect("written");
        log.write_line(at("2099-01-02T12:00:00Z"), "third".to_owned()).expect("written");
        assert_eq!(read(directory.path(), "a.2099-01-01.log"), "first\n");
        assert_eq!(read(directory.path(), "a.2099-01-01.1.log"), "second\n");
    }

    #[test]
    fn an_endless_log_keeps_its_newest_files_within_its_limit() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("a.log");
        let keep = Keep { bytes_max: 8 * 1024, ..WEEK };
        let noon = at("2099-01-01T12:00:00Z");
        let mut log = RotatingFile::open(&path, keep, noon).expect("a log");
        for number in 0..10_000 {
            log.write_line(noon, format!("line {number:05}")).expect("written");
        }
        let files = files::list(directory.path()).expect("the directory is there");
        let bytes: u64 = files.iter().map(|file| files::metadata(file).expect("a file").len()).sum();
        assert!((4 * 1024..=8 * 1024).contains(&bytes), "{bytes} bytes in {files:?}");
        // Only the oldest lines are missing, and none between the others.
        let lines: u64 = bytes / "line 00000\n".len() as u64;
        let mut numbers: Vec<u64> = files
            .iter()
            .flat_map(|file| {
                files::read_to_string(file).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .map(|line| line["line ".len()..].parse().expect("a whole line"))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (10_000 - lines..10_000).collect::<Vec<_>>());

        // A process that starts with a full log rotates it too.
        drop(log);
        files::write_atomic(&path, &[b'x'; 4096]).expect("a full log");
        RotatingFile::open(&path, keep, mysimbdp_platform::clock::now()).expect("a log");
        assert_eq!(read(directory.path(), "a.log"), "");
    }

    #[test]
    fn a_log_that_children_flood_is_emptied_and_only_its_end_is_kept() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("stream.log");
        let mut child = files::append(&path).expect("a log");
        let now = mysimbdp_platform::clock::now();
        let keep = Keep { bytes_max: 8 * 1024, ..WEEK };
        let mut log = RotateByCopy { days: Days::new(&path, keep, now).expect("a log") };
        for burst in 0..20 {
            child.write_all(format!("{burst:02}").repeat(50_000).as_bytes()).expect("written");
            assert!(log.rotate_at(now).expect("rotated"));
            let files = files::list(directory.path()).expect("the directory is there");
            let bytes: u64 = files.iter().map(|file| files::metadata(file).expect("a file").len()).sum();
            assert!(bytes <= 8 * 1024, "{bytes} bytes in {files:?}");
            assert_eq!(read(directory.path(), "stream.log"), "");
        }
        let newest = read(directory.path(), &format!("stream.{}.19.log", day(now)));
        assert_eq!(newest, "19".repeat(512));
    }

    #[test]
    fn a_log_that_a_child_holds_open_is_copied_and_emptied() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("stream.log");
        let mut child = files::append(&path).expect("a log");
        child.write_all(b"one\n").expect("written");
        let mut log =
            RotateByCopy { days: Days::new(&path, WEEK, mysimbdp_platform::clock::now()).expect("a log") };
        let now = mysimbdp_platform::clock::now();
        assert!(!log.rotate_at(now).expect("nothing to do"));
        let tomorrow = now + Duration::from_secs(86_400);
        assert!(log.rotate_at(tomorrow).expect("rotated"));
        assert!(!log.rotate_at(tomorrow).expect("nothing to do"));
        child.write_all(b"two\n").expect("written");
        assert_eq!(read(directory.path(), "stream.log"), "two\n");
        assert_eq!(read(directory.path(), &format!("stream.{}.log", day(now))), "one\n");
    }
}
