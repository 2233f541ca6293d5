use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mysimbdp_testbed::{Disk, FileSystem, until_async};
use tempfile::TempDir;

use super::*;
use crate::error::EdgeError;
use crate::message::SourceMessage;

const CAPACITY: u64 = 64 << 10;
const SOON: Duration = Duration::from_secs(20);

fn open(directory: &Path) -> Outbox {
    let (client, source) = names("s");
    Outbox::open(directory, CAPACITY, &client, &source).expect("an outbox")
}

fn names(source: &str) -> (ClientId, SourceName) {
    ("a".parse().expect("client id"), source.parse().expect("source name"))
}

fn message(number: u64) -> SourceMessage {
    let payload = format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(number as usize % 200));
    SourceMessage {
        payload: payload.into(),
        position: Position::new(number.to_le_bytes().to_vec()).expect("short"),
    }
}

/// Appends messages `first` to `last`, several at a time.
async fn append(outbox: &Arc<Outbox>, first: u64, last: u64) {
    let writer = Writer::start(Arc::clone(outbox));
    for chunk in (first..=last).collect::<Vec<_>>().chunks(7) {
        let numbers = writer.append(chunk.iter().copied().map(message).collect()).await.expect("accepted");
        assert_eq!(numbers, chunk[0]..=chunk[chunk.len() - 1]);
    }
    writer.end().await;
}

/// Returns the numbers from `first` to `last` that the outbox has; asserts the content of each.
fn read(outbox: &Outbox, first: u64, last: u64) -> Vec<u64> {
    let (mut numbers, mut next) = (Vec::new(), first);
    while next <= last {
        match outbox.read(next, last, 1_000).expect("readable") {
            ReadResult::Entries(entries) => {
                for entry in entries {
                    let SourceMessage { payload, position } = message(entry.number);
                    assert_eq!((entry.payload, entry.position), (payload, position));
                    numbers.push(entry.number);
                    next = entry.number + 1;
                }
            }
            ReadResult::Lost { last } => next = last + 1,
        }
    }
    numbers
}

fn segments(directory: &TempDir) -> Vec<PathBuf> {
    let files = files::list(directory.path()).expect("outbox directory");
    files.into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "log")).collect()
}

#[tokio::test]
async fn accepted_messages_are_kept_across_a_restart_with_epoch_and_position() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let outbox = Arc::new(open(directory.path()));
    let epoch = outbox.epoch;
    append(&outbox, 1, 300).await;
    assert!(segments(&directory).len() > 3, "several files");
    drop(outbox);
    let outbox = Arc::new(open(directory.path()));
    assert_eq!((outbox.epoch, outbox.accepted(), outbox.oldest()), (epoch, 300, 1));
    assert_eq!(outbox.position(), message(300).position);
    append(&outbox, 301, 310).await;
    assert_eq!(read(&outbox, 1, 310), (1..=310).collect::<Vec<_>>());
    assert_eq!(read(&outbox, 123, 124), [123, 124]);
}

#[tokio::test]
async fn received_messages_are_removed_and_the_last_number_is_kept() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let outbox = Arc::new(open(directory.path()));
    append(&outbox, 1, 300).await;
    let before = segments(&directory).len();
    outbox.release(150).expect("removed");
    assert!((2..=151).contains(&outbox.oldest()), "{}", outbox.oldest());
    assert_eq!(read(&outbox, 151, 300), (151..=300).collect::<Vec<_>>());
    outbox.release(300).expect("removed");
    assert_eq!((before > 3, segments(&directory).len()), (true, 1));
    drop(outbox);
    let outbox = Arc::new(open(directory.path()));
    assert_eq!((outbox.accepted(), outbox.position()), (300, message(300).position));
    append(&outbox, 301, 301).await;
}

#[tokio::test]
async fn a_torn_tail_is_truncated_and_its_number_is_assigned_again() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let outbox = Arc::new(open(directory.path()));
    append(&outbox, 1, 300).await;
    drop(outbox);
    let last = segments(&directory).pop().expect("a segment");
    let torn = files::metadata(&last).expect("a segment").len() - 3;
    files::append(&last).expect("a segment").set_len(torn).expect("cut");
    // A crash may also leave the next file without an entry.
    files::create_new(&directory.path().join(format!("{:020}.log", 301))).expect("a file");
    let outbox = Arc::new(open(directory.path()));
    assert_eq!((outbox.accepted(), outbox.position()), (299, message(299).position));
    append(&outbox, 300, 302).await;
    assert_eq!(read(&outbox, 1, 302), (1..=302).collect::<Vec<_>>());
}

#[tokio::test]
async fn damage_in_the_middle_loses_only_the_damaged_entries_and_is_reported() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let outbox = Arc::new(open(directory.path()));
    append(&outbox, 1, 300).await;
    drop(outbox);
    let all = segments(&directory);
    let length = files::metadata(&all[1]).expect("a segment").len();
    files::append(&all[1]).expect("a segment").set_len(length / 2).expect("cut");
    files::append(&all[1]).expect("a segment").write_all(&[7; 900]).expect("garbage");
    let outbox = open(directory.path());
    let found_numbers = read(&outbox, 1, 300);
    let lost: Vec<u64> = (1..=300).filter(|number| !found_numbers.contains(number)).collect();
    assert!(!lost.is_empty() && lost.len() < 100, "{lost:?}");
    assert_eq!(lost[lost.len() - 1] - lost[0] + 1, lost.len() as u64, "one run: {lost:?}");
    match outbox.read(lost[0], 300, 1_000).expect("readable") {
        ReadResult::Lost { last } => assert_eq!(last, lost[lost.len() - 1]),
        found => panic!("{found:?}"),
    }
}

#[tokio::test]
async fn a_full_outbox_waits_until_something_is_received() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let outbox = Arc::new(open(directory.path()));
    let writer = Writer::start(Arc::clone(&outbox));
    let times_full = AtomicU32::new(0);
    let releasing = async {
        loop {
            until_async(SOON, "it is full", async || outbox.is_full()).await;
            assert!(outbox.bytes() <= CAPACITY, "{}", outbox.bytes());
            times_full.fetch_add(1, Ordering::Relaxed);
            outbox.release(outbox.accepted()).expect("removed");
        }
    };
    tokio::select! {
        numbers = writer.append((1..=2_000).map(message).collect()) => assert_eq!(numbers.expect("accepted"), 1..=2_000),
        () = releasing => unreachable!("it has no end"),
    }
    assert!(times_full.into_inner() >= 2);
    let blocked = writer.append((2_001..=4_000).map(message).collect());
    let closing = async {
        until_async(SOON, "it is full", async || outbox.is_full()).await;
        outbox.close();
    };
    let (blocked, ()) = tokio::join!(blocked, closing);
    assert!(matches!(blocked, Err(EdgeError::Closed)), "{blocked:?}");
    writer.end().await;
}

#[test]
fn an_outbox_belongs_to_one_process_and_one_source() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let outbox = open(directory.path());
    let (client, source) = names("s");
    let second = Outbox::open(directory.path(), CAPACITY, &client, &source).expect_err("locked");
    assert!(matches!(second, OutboxError::Lock(_)), "{second}");
    drop(outbox);
    let (client, source) = names("t");
    let other =
        Outbox::open(directory.path(), CAPACITY, &client, &source).expect_err("the outbox of another source");
    assert!(other.to_string().contains("source s of client a"), "{other}");
}

#[tokio::test]
async fn entries_that_have_lost_their_epoch_do_not_get_another_one() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let outbox = Arc::new(open(directory.path()));
    append(&outbox, 1, 1).await;
    drop(outbox);
    let file = directory.path().join("outbox.json");
    let text = files::read(&file).expect("outbox.json");
    let fails = || {
        let (client, source) = names("s");
        let error = Outbox::open(directory.path(), CAPACITY, &client, &source).expect_err("no epoch");
        assert!(error.to_string().contains("outbox.json"), "{error}");
    };
    for torn in [&text[..text.len() / 2], b""] {
        files::write_atomic(&file, torn).expect("written");
        fails();
    }
    files::remove_file(&file).expect("removed");
    fails();
    files::write_atomic(&file, &text).expect("written");
    assert_eq!(open(directory.path()).accepted(), 1, "nothing else was touched");
}

#[test]
fn power_cut_loses_nothing_that_was_found_on_ext4() {
    power_cut_loses_nothing_that_was_found(FileSystem::Ext4);
}

#[test]
fn power_cut_loses_nothing_that_was_found_on_xfs() {
    power_cut_loses_nothing_that_was_found(FileSystem::Xfs);
}

/// A process that was killed between writing and syncing has left entries in the page cache. The next process publishes them.
fn power_cut_loses_nothing_that_was_found(file_system: FileSystem) {
    let Some(mut disk) = Disk::new_or_skip(file_system) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let directory = disk.path().join("state/edge/a/s");
    let outbox = Arc::new(open(&directory));
    let epoch = outbox.epoch;
    runtime.block_on(append(&outbox, 1, 10));
    drop(outbox);
    let segment = directory.join(format!("{:020}.log", 1));
    let append_unsynced = |numbers: &[u64]| {
        let mut bytes = Vec::new();
        for number in numbers {
            let SourceMessage { payload, position } = message(*number);
            frame::encode(&mut bytes, *number, &position, &payload);
        }
        files::append(&segment).expect("a segment").write_all(&bytes).expect("written");
    };
    for first in [11, 21, 31] {
        let unsynced: Vec<u64> = (first..first + 10).collect();
        append_unsynced(&unsynced);
        // And a partial entry, which was never accepted.
        files::append(&segment).expect("a segment").write_all(&[7; 9]).expect("written");
        let outbox = open(&directory);
        let accepted = outbox.accepted();
        assert_eq!(accepted, first + 9, "published from now on");
        disk.cut();
        drop(outbox);
        disk.restore();
        let outbox = open(&directory);
        assert_eq!((outbox.epoch, outbox.accepted()), (epoch, accepted));
        assert_eq!(outbox.position(), message(accepted).position);
        assert_eq!(read(&outbox, 1, accepted), (1..=accepted).collect::<Vec<_>>());
    }
}
