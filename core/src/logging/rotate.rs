//! Log files that begin anew with each day, UTC.
//!
//! `fetchdata.log` is always the current one. At the first line of a new day it becomes `fetchdata.2026-11-20.log`,
//! named after the day that it holds, and what is older than the retention is removed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::io::files::{self, FileError, Result};

/// A day holds at most this many files, of processes that could not know of each other; then the last is replaced.
const FILES_PER_DAY_MAX: u32 = 100;

/// The current file of a log that this process writes alone.
#[derive(Debug)]
pub(super) struct RotatingFile {
    days: Days,
    file: File,
    /// The disk has taken only the beginning of the last line.
    is_torn: bool,
}

impl RotatingFile {
    /// Opens the log, and first puts away what an earlier day has left.
    pub(super) fn open(path: &Path, retention: Duration, now: Timestamp) -> Result<Self> {
        if let Some(directory) = path.parent() {
            files::create_dir_all(directory)?;
        }
        let mut days = Days::new(path, retention, now)?;
        days.begin(now, files::rename)?;
        Ok(Self { file: files::append(path)?, days, is_torn: false })
    }

    /// Appends a line; `line` has no end of line itself.
    ///
    /// One `write` each: a line that is there is whole, and what is not there was lost to nothing but the file system.
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
        // A log that could not be rotated is still written, and tried again tomorrow.
        rotated
    }

    /// What is left of a line that a full disk cuts off gets its end before the next.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    self.is_torn = written < bytes.len();
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> Result<()> {
        if self.days.begin(now, files::rename)? {
            self.file = files::append(&self.days.path)?;
            self.is_torn = false;
        }
        Ok(())
    }
}

/// A log that running children hold open for appending, such as a stream's: it is copied and then emptied, as a renamed
/// file would go on growing under its old day's name.
///
/// What a child writes between the end of the copy and the emptying is lost: microseconds, once a day. The children
/// must append (`O_APPEND`), else they would leave a hole as long as the old content.
#[derive(Debug)]
pub struct RotateByCopy {
    days: Days,
}

impl RotateByCopy {
    /// For the log at `path`, which need not be there yet.
    ///
    /// # Errors
    ///
    /// What lies at `path` cannot be looked at.
    pub fn new(path: &Path, retention: Duration) -> Result<Self> {
        Ok(Self { days: Days::new(path, retention, crate::io::clock::now())? })
    }

    /// To be called now and then: rotates when a new day has begun since the last time, and says whether it has.
    ///
    /// # Errors
    ///
    /// The file system refuses. It is tried again with the next day.
    pub fn rotate(&mut self) -> Result<bool> {
        self.rotate_at(crate::io::clock::now())
    }

    fn rotate_at(&mut self, now: Timestamp) -> Result<bool> {
        self.days.begin(now, files::copy_and_empty)
    }
}

/// Which day the current file holds.
#[derive(Debug)]
struct Days {
    path: PathBuf,
    retention: Duration,
    /// As `2026-11-20`; sorts as time does.
    day: String,
}

impl Days {
    /// A file that is there already holds the day on which it was last written.
    fn new(path: &Path, retention: Duration, now: Timestamp) -> Result<Self> {
        let written = match files::metadata(path) {
            Ok(metadata) => metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok()),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), retention, day: day(written.unwrap_or(now)) })
    }

    /// Where `now` is on a later day: puts the current file away and removes what is too old; true if it has.
    ///
    /// A clock that steps back changes nothing: the file simply holds more than a day.
    fn begin(&mut self, now: Timestamp, put_away: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<bool> {
        let today = day(now);
        if today <= self.day {
            return Ok(false);
        }
        let ended = std::mem::replace(&mut self.day, today);
        let holds_something = files::metadata(&self.path).is_ok_and(|metadata| metadata.len() > 0);
        if holds_something {
            put_away(&self.path, &self.free_name(&ended))?;
        }
        self.remove_old(now)?;
        Ok(holds_something)
    }

    fn free_name(&self, day: &str) -> PathBuf {
        let stem = self.stem();
        let numbered = (1..FILES_PER_DAY_MAX).map(|number| format!("{stem}.{day}.{number}.log"));
        let mut names = std::iter::once(format!("{stem}.{day}.log"))
            .chain(numbered)
            .map(|name| self.path.with_file_name(name));
        let last = self.path.with_file_name(format!("{stem}.{day}.{FILES_PER_DAY_MAX}.log"));
        names.find(|path| !files::exists(path)).unwrap_or(last)
    }

    fn remove_old(&self, now: Timestamp) -> Result<()> {
        let Some(directory) = self.path.parent() else { return Ok(()) };
        let Ok(oldest) = now.checked_sub(self.retention) else { return Ok(()) };
        let oldest = day(oldest);
        for path in files::list(directory)? {
            if self.day_of(&path).is_some_and(|day| day < oldest.as_str()) {
                files::remove_file_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// The day that an old file of this log holds; `None` for anything else.
    fn day_of<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let name = path.file_name()?.to_str()?;
        let middle = name.strip_prefix(self.stem())?.strip_prefix('.')?.strip_suffix(".log")?;
        let (day, number) = middle.split_once('.').unwrap_or((middle, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (day.parse::<jiff::civil::Date>().is_ok() && day.len() == 10 && is_number(number)).then_some(day)
    }

    fn stem(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 86_400);

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
    fn each_day_has_its_own_file_and_old_ones_go() {
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
        // A clock that steps back begins no new file.
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
    fn a_log_is_continued_on_the_same_day_and_put_away_on_the_next() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("a.log");
        let now = crate::io::clock::now();
        for line in ["one", "two"] {
            let mut log = RotatingFile::open(&path, WEEK, now).expect("a log");
            log.write_line(now, line.to_owned()).expect("written");
        }
        assert_eq!(read(directory.path(), "a.log"), "one\ntwo\n");
        // The file's own time says which day it holds.
        let tomorrow = now + Duration::from_secs(2 * 86_400);
        RotatingFile::open(&path, WEEK, tomorrow).expect("a log");
        assert_eq!(names(directory.path()).len(), 2, "{:?}", names(directory.path()));
        assert_eq!(read(directory.path(), "a.log"), "");
    }

    #[test]
    fn a_day_that_was_put_away_already_is_not_replaced() {
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
    fn a_log_that_a_child_holds_open_is_copied_and_emptied() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("stream.log");
        let mut child = files::append(&path).expect("a log");
        child.write_all(b"one\n").expect("written");
        let mut log = RotateByCopy::new(&path, WEEK).expect("a log");
        let now = crate::io::clock::now();
        assert!(!log.rotate_at(now).expect("nothing to do"));
        let tomorrow = now + Duration::from_secs(86_400);
        assert!(log.rotate_at(tomorrow).expect("rotated"));
        assert!(!log.rotate_at(tomorrow).expect("nothing to do"));
        child.write_all(b"two\n").expect("written");
        assert_eq!(read(directory.path(), "stream.log"), "two\n");
        assert_eq!(read(directory.path(), &format!("stream.{}.log", day(now))), "one\n");
    }
}
