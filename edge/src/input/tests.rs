use std::io::{Seek, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use mysimbdp_testbed::{Disk, FileSystem};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// A log that is written and rotated, and the lines that a follower has read from it.
struct Log {
    directory: TempDir,
    read: Vec<String>,
    position: Position,
}

impl Log {
    fn new() -> Self {
        Self::at(tempfile::tempdir().expect("temporary directory"))
    }

    fn at(directory: TempDir) -> Self {
        Self { directory, read: Vec::new(), position: Position::default() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("app.log")
    }

    #[allow(clippy::disallowed_methods, reason = "as the followed program does")]
    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the log");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[allow(clippy::disallowed_methods, reason = "as a person does")]
    fn content(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).expect("the log")
    }

    #[allow(clippy::disallowed_methods, reason = "as a log rotation does")]
    fn rotate(&self) {
        std::fs::rename(self.path(), self.directory.path().join("app.log.1")).expect("renamed");
    }

    #[allow(clippy::disallowed_methods, reason = "as a log rotation does")]
    fn truncate(&self) {
        std::fs::OpenOptions::new().write(true).truncate(true).open(self.path()).expect("emptied");
    }

    fn follow(&self) -> LineInput {
        LineInput::follow(&self.path(), &self.position, 100).expect("a position in a file")
    }

    /// Reads until `lines` lines have been read in all.
    async fn read(&mut self, input: &mut LineInput, lines: usize) {
        while self.read.len() < lines {
            let messages = timeout(SOON, input.next()).await.expect("more lines").expect("readable");
            for message in messages.expect("no end") {
                self.read.push(String::from_utf8(message.payload.to_vec()).expect("text"));
                self.position = message.position;
            }
        }
    }

    fn assert_read(&self, expected: &str) {
        assert_eq!(self.read.join(" "), expected);
    }
}

#[tokio::test]
async fn lines_are_read_as_they_arrive_and_a_partial_line_is_read_when_it_is_complete() {
    let mut log = Log::new();
    let mut input = log.follow();
    let waiting = timeout(Duration::from_millis(300), input.next()).await;
    assert!(waiting.is_err(), "the file does not exist: {waiting:?}");
    log.write("app.log", "1\n\n  2 \r\n3");
    log.read(&mut input, 2).await;
    log.write("app.log", "3\n4\n");
    log.read(&mut input, 4).await;
    log.assert_read("1 2 33 4");
}

#[tokio::test]
async fn a_rotated_file_is_read_to_its_end_before_the_new_one() {
    let mut log = Log::new();
    log.write("app.log", "1\n2\n");
    let mut input = log.follow();
    log.read(&mut input, 2).await;
    log.rotate();
    log.write("app.log", "5\n");
    // The program has not opened the new one yet.
    log.write("app.log.1", "3\n4");
    log.read(&mut input, 5).await;
    log.assert_read("1 2 3 4 5");
}

#[tokio::test]
async fn a_truncated_file_is_read_from_its_beginning() {
    let mut log = Log::new();
    log.write("app.log", "one\ntwo\n");
    let mut input = log.follow();
    log.read(&mut input, 2).await;
    let waiting = timeout(Duration::from_millis(300), input.next()).await;
    assert!(waiting.is_err(), "nothing has been added: {waiting:?}");
    log.truncate();
    // Longer than before, so the length does not show that it was truncated.
    log.write("app.log", "three\nfour\nfive\n");
    log.read(&mut input, 5).await;
    log.assert_read("one two three four five");
}

#[tokio::test]
async fn a_restart_continues_after_the_last_line_whatever_name_the_file_has_now() {
    let mut log = Log::new();
    log.write("app.log", "1\n2\n3\n");
    let mut input = log.follow();
    log.read(&mut input, 3).await;
    log.write("app.log", "4\n");
    log.read(&mut log.follow(), 4).await;
    log.assert_read("1 2 3 4");

    log.write("app.log", "5\n");
    log.rotate();
    log.write("app.log", "6\n");
    log.read(&mut log.follow(), 6).await;
    log.assert_read("1 2 3 4 5 6");

    // The same file, or a new file with its inode, with other content.
    log.truncate();
    log.write("app.log", "seven\n8\n");
    log.read(&mut log.follow(), 8).await;
    log.assert_read("1 2 3 4 5 6 seven 8");
}

#[tokio::test]
async fn a_line_that_is_too_long_is_reported_after_the_lines_before_it() {
    let mut log = Log::new();
    log.write("app.log", &format!("1\n{}\n", "x".repeat(101)));
    let mut input = log.follow();
    log.read(&mut input, 1).await;
    let error = timeout(SOON, input.next()).await.expect("an answer").expect_err("too long").to_string();
    assert!(error.contains("line 2 of") && error.contains("app.log") && error.contains("byte 2"), "{error}");
}

#[tokio::test]
async fn only_a_regular_file_is_followed() {
    let log = Log::new();
    let mut input = LineInput::follow(log.directory.path(), &Position::default(), 100).expect("no position");
    let error = input.next().await.expect_err("a directory");
    assert!(matches!(error, InputError::NotARegularFile { .. }), "{error}");
    let position = Position::new(&b"hour 7"[..]).expect("short");
    let error = LineInput::follow(&log.path(), &position, 100).expect_err("another producer's");
    assert!(matches!(error, InputError::Position { .. }), "{error}");
}

/// A call that is dropped while a sync runs loses no line.
#[tokio::test]
async fn a_read_that_is_cancelled_repeatedly_loses_no_line() {
    let mut log = Log::new();
    log.write("app.log", "1\n2\n");
    let mut input = log.follow();
    for lines in [2, 3] {
        let mut read = Vec::new();
        timeout(SOON, async {
            while read.len() < lines {
                if let Poll::Ready(messages) = poll!(pin!(input.next())) {
                    read.extend(messages.expect("readable").expect("no end"));
                }
                yield_now().await;
            }
        })
        .await
        .expect("all lines");
        log.read
            .extend(read.into_iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()));
        log.write("app.log", "3\n4\n5\n");
    }
    log.assert_read("1 2 3 4 5");
}

/// Such a file does not survive a power cut in any case, so there is nothing to wait for.
#[tokio::test]
async fn a_file_that_cannot_be_synced_is_read_without_a_sync() {
    let mut input =
        LineInput::follow(Path::new("/proc/version"), &Position::default(), 1_000).expect("no position");
    let lines = timeout(SOON, input.next()).await.expect("a line").expect("readable").expect("no end");
    assert!(lines[0].payload.starts_with(b"Linux"), "{lines:?}");
}

#[test]
fn power_cut_loses_no_line_that_was_returned_on_ext4() {
    power_cut_loses_no_line_that_was_returned(FileSystem::Ext4);
}

#[test]
fn power_cut_loses_no_line_that_was_returned_on_xfs() {
    power_cut_loses_no_line_that_was_returned(FileSystem::Xfs);
}

/// The program that writes the log never syncs it, like most programs, and neither does the one that rotates it.
fn power_cut_loses_no_line_that_was_returned(file_system: FileSystem) {
    let Some(mut disk) = Disk::new_or_skip(file_system) else { return };
    let mut log = Log::at(TempDir::new_in(disk.path()).expect("temporary directory"));
    let cut = |log: &mut Log, disk: &mut Disk, lines: usize| {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async { log.read(&mut log.follow(), lines).await });
        disk.cut();
        drop(runtime);
        disk.restore();
    };
    log.write("app.log", "1\n2\n");
    disk.sync();
    log.write("app.log", "3\n4\n");
    cut(&mut log, &mut disk, 4);
    assert_eq!(log.content("app.log"), "1\n2\n3\n4\n");

    log.write("app.log", "5\n");
    log.rotate();
    log.write("app.log", "6\n");
    cut(&mut log, &mut disk, 6);
    assert_eq!((log.content("app.log.1"), log.content("app.log")), ("1\n2\n3\n4\n5\n".into(), "6\n".into()));

    // Truncated: the old content does not return in front of the lines that have been read since.
    log.truncate();
    log.write("app.log", "7\n");
    cut(&mut log, &mut disk, 7);
    assert_eq!(log.content("app.log"), "7\n");
    log.write("app.log", "8\n");
    cut(&mut log, &mut disk, 8);
    log.assert_read("1 2 3 4 5 6 7 8");
}

/// A program that does not append continues at its old offset after a truncation: the file then begins with any number of NUL
/// bytes.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "as the followed program does")]
async fn a_file_truncated_under_its_writer_continues_after_the_hole() {
    for hole in [0, 4096, 3 << 20] {
        let mut log = Log::new();
        let mut writer = std::fs::File::create(log.path()).expect("the log");
        let mut input = log.follow();
        writer.write_all(b"{\"n\":1}\n").expect("written");
        log.read(&mut input, 1).await;
        // As if the writer had also written bytes that were lost before they were read.
        writer.seek(std::io::SeekFrom::Current(hole)).expect("seek");
        log.truncate();
        writer.write_all(b"{\"n\":2}\n").expect("written");
        log.read(&mut input, 2).await;
        writer.write_all(b"{\"n\":3}\n").expect("written");
        log.read(&mut input, 3).await;
        log.assert_read(r#"{"n":1} {"n":2} {"n":3}"#);
        // The position of the last line is found again.
        let mut input = log.follow();
        writer.write_all(b"{\"n\":4}\n").expect("written");
        log.read(&mut input, 4).await;
        log.assert_read(r#"{"n":1} {"n":2} {"n":3} {"n":4}"#);
    }
}
