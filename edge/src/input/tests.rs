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

/// A log that is written and put aside, and what a follower has read of it.
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

    #[allow(clippy::disallowed_methods, reason = "as the program does that is followed")]
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
    fn put_aside(&self) {
        std::fs::rename(self.path(), self.directory.path().join("app.log.1")).expect("renamed");
    }

    #[allow(clippy::disallowed_methods, reason = "as a log rotation does")]
    fn empty(&self) {
        std::fs::OpenOptions::new().write(true).truncate(true).open(self.path()).expect("emptied");
    }

    fn follow(&self) -> Input {
        Input::follow(&self.path(), &self.position, 100).expect("a place in a file")
    }

    /// Reads until so many lines have been read in all.
    async fn read(&mut self, input: &mut Input, lines: usize) {
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
async fn lines_are_read_as_they_come_and_half_a_line_is_waited_for() {
    let mut log = Log::new();
    let mut input = log.follow();
    let waiting = timeout(Duration::from_millis(300), input.next()).await;
    assert!(waiting.is_err(), "the file is not there: {waiting:?}");
    log.write("app.log", "1\n\n  2 \r\n3");
    log.read(&mut input, 2).await;
    log.write("app.log", "3\n4\n");
    log.read(&mut input, 4).await;
    log.assert_read("1 2 33 4");
}

#[tokio::test]
async fn a_file_that_is_put_aside_is_read_to_its_end_before_the_new_one() {
    let mut log = Log::new();
    log.write("app.log", "1\n2\n");
    let mut input = log.follow();
    log.read(&mut input, 2).await;
    log.put_aside();
    log.write("app.log", "5\n");
    // The program has not opened the new one yet.
    log.write("app.log.1", "3\n4");
    log.read(&mut input, 5).await;
    log.assert_read("1 2 3 4 5");
}

#[tokio::test]
async fn an_emptied_file_is_read_from_its_beginning() {
    let mut log = Log::new();
    log.write("app.log", "one\ntwo\n");
    let mut input = log.follow();
    log.read(&mut input, 2).await;
    let waiting = timeout(Duration::from_millis(300), input.next()).await;
    assert!(waiting.is_err(), "nothing has come: {waiting:?}");
    log.empty();
    // More than there was before: the length does not tell.
    log.write("app.log", "three\nfour\nfive\n");
    log.read(&mut input, 5).await;
    log.assert_read("one two three four five");
}

#[tokio::test]
async fn a_restart_goes_on_after_the_last_line_wherever_the_file_is_now() {
    let mut log = Log::new();
    log.write("app.log", "1\n2\n3\n");
    let mut input = log.follow();
    log.read(&mut input, 3).await;
    log.write("app.log", "4\n");
    log.read(&mut log.follow(), 4).await;
    log.assert_read("1 2 3 4");

    log.write("app.log", "5\n");
    log.put_aside();
    log.write("app.log", "6\n");
    log.read(&mut log.follow(), 6).await;
    log.assert_read("1 2 3 4 5 6");

    // The same file, or one that has got its inode, with other content.
    log.empty();
    log.write("app.log", "seven\n8\n");
    log.read(&mut log.follow(), 8).await;
    log.assert_read("1 2 3 4 5 6 seven 8");
}

#[tokio::test]
async fn a_line_that_is_too_long_is_named_after_those_before_it() {
    let mut log = Log::new();
    log.write("app.log", &format!("1\n{}\n", "x".repeat(101)));
    let mut input = log.follow();
    log.read(&mut input, 1).await;
    let error = timeout(SOON, input.next()).await.expect("an answer").expect_err("too long").to_string();
    assert!(error.contains("line 2 of") && error.contains("app.log") && error.contains("byte 2"), "{error}");
}

#[tokio::test]
async fn what_is_no_file_is_not_followed() {
    let log = Log::new();
    let mut input = Input::follow(log.directory.path(), &Position::default(), 100).expect("no position");
    let error = input.next().await.expect_err("a directory");
    assert!(matches!(error, InputError::NoFile { .. }), "{error}");
    let position = Position::new(&b"hour 7"[..]).expect("short");
    let error = Input::follow(&log.path(), &position, 100).expect_err("another producer's");
    assert!(matches!(error, InputError::Position { .. }), "{error}");
}

/// What is dropped while a sync is under way has taken no line with it.
#[tokio::test]
async fn a_reader_that_is_called_off_again_and_again_gets_every_line() {
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

/// It outlives no power cut in any case, so there is nothing to wait for.
#[tokio::test]
async fn what_cannot_be_synced_is_read_all_the_same() {
    let mut input =
        Input::follow(Path::new("/proc/version"), &Position::default(), 1_000).expect("no position");
    let lines = timeout(SOON, input.next()).await.expect("a line").expect("readable").expect("no end");
    assert!(lines[0].payload.starts_with(b"Linux"), "{lines:?}");
}

#[test]
fn power_cut_takes_back_no_line_that_was_given_out_on_ext4() {
    power_cut_takes_back_no_line_that_was_given_out(FileSystem::Ext4);
}

#[test]
fn power_cut_takes_back_no_line_that_was_given_out_on_xfs() {
    power_cut_takes_back_no_line_that_was_given_out(FileSystem::Xfs);
}

/// Whoever writes the log never syncs it, as most do. Nor does the program that puts it aside.
fn power_cut_takes_back_no_line_that_was_given_out(file_system: FileSystem) {
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
    log.put_aside();
    log.write("app.log", "6\n");
    cut(&mut log, &mut disk, 6);
    assert_eq!((log.content("app.log.1"), log.content("app.log")), ("1\n2\n3\n4\n5\n".into(), "6\n".into()));

    // Emptied: what stood in it does not come back in front of what has been read since.
    log.empty();
    log.write("app.log", "7\n");
    cut(&mut log, &mut disk, 7);
    assert_eq!(log.content("app.log"), "7\n");
    log.write("app.log", "8\n");
    cut(&mut log, &mut disk, 8);
    log.assert_read("1 2 3 4 5 6 7 8");
}

/// A program that does not append goes on where it was: what was emptied is NUL bytes then, of any number.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "as the program does that is followed")]
async fn a_file_that_is_emptied_under_its_writer_gives_the_next_line_without_the_hole() {
    for hole in [0, 4096, 3 << 20] {
        let mut log = Log::new();
        let mut writer = std::fs::File::create(log.path()).expect("the log");
        let mut input = log.follow();
        writer.write_all(b"{\"n\":1}\n").expect("written");
        log.read(&mut input, 1).await;
        // All that the writer has written and nobody read is gone, too.
        writer.seek(std::io::SeekFrom::Current(hole)).expect("seek");
        log.empty();
        writer.write_all(b"{\"n\":2}\n").expect("written");
        log.read(&mut input, 2).await;
        writer.write_all(b"{\"n\":3}\n").expect("written");
        log.read(&mut input, 3).await;
        log.assert_read(r#"{"n":1} {"n":2} {"n":3}"#);
        // The place of the last line is found again.
        let mut input = log.follow();
        writer.write_all(b"{\"n\":4}\n").expect("written");
        log.read(&mut input, 4).await;
        log.assert_read(r#"{"n":1} {"n":2} {"n":3} {"n":4}"#);
    }
}
