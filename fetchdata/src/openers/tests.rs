use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use mysimbdp_spool::drop_directory::{Directory, Events};

use super::*;

/// A watched directory, with the kernel's events for it.
struct Watched {
    directory: tempfile::TempDir,
    events: Events,
    watch_id: WatchId,
    openers: Openers,
}

impl Watched {
    fn new(share: usize) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let events = Events::new().expect("events");
        let watch_id =
            events.watch(&Directory::open_platform(directory.path()).expect("directory")).expect("watch");
        Self { directory, events, watch_id, openers: Openers::new(share) }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn open_state(&mut self, name: &str, ours: u32) -> OpenState {
        self.events.read(|event| self.openers.record(&event, Some(&Area::Shared))).expect("events");
        self.openers.open_state(self.watch_id, OsStr::new(name), ours)
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "writes as senders do")]
async fn a_file_is_open_until_its_writer_closes_it_whatever_readers_do() {
    let mut watched = Watched::new(100);
    let path = watched.path().join("a.csv");
    let mut writer = File::create(&path).expect("new file");
    assert_eq!(watched.open_state("a.csv", 0), OpenState::Open);
    let ours = File::open(&path).expect("reader");
    assert_eq!(watched.open_state("a.csv", 1), OpenState::Open);
    drop(ours);
    writer.write_all(b"a").expect("write");
    assert_eq!(watched.open_state("a.csv", 0), OpenState::Open);
    drop(writer);
    assert_eq!(watched.open_state("a.csv", 0), OpenState::Closed);
    let ours = File::open(&path).expect("reader");
    assert_eq!(watched.open_state("a.csv", 1), OpenState::Closed);
    assert_eq!(watched.open_state("a.csv", 0), OpenState::Unknown, "a reader has it open");
    let again = OpenOptions::new().append(true).open(&path).expect("writer");
    assert_eq!(watched.open_state("a.csv", 1), OpenState::Unknown);
    drop((again, ours));
    assert_eq!(watched.open_state("a.csv", 0), OpenState::Closed);
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "writes as senders do")]
async fn the_open_state_follows_a_rename_and_not_a_name() {
    let mut watched = Watched::new(100);
    let at = |name: &str| watched.directory.path().join(name);
    let (part, name) = (at("a.part"), at("a.csv"));
    std::fs::write(&part, "whole").expect("file");
    std::fs::rename(&part, &name).expect("rename");
    assert_eq!(watched.open_state("a.csv", 0), OpenState::Closed);
    let writer = File::create(&part).expect("new file");
    std::fs::rename(&part, &name).expect("rename");
    assert_eq!(watched.open_state("a.csv", 0), OpenState::Open, "renamed and still open");
    drop(writer);
    let elsewhere = tempfile::NamedTempFile::new_in(watched.path().parent().expect("parent")).expect("file");
    elsewhere.into_temp_path().persist(&name).expect("moved in");
    assert_eq!(watched.open_state("a.csv", 0), OpenState::Unknown, "its writer was not observed");
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "writes as senders do")]
async fn files_that_predate_the_watch_or_exceed_the_share_are_unknown() {
    let mut watched = Watched::new(2);
    for name in ["a", "b", "c"] {
        std::fs::write(watched.path().join(name), "whole").expect("file");
    }
    assert_eq!(watched.open_state("b", 0), OpenState::Closed);
    assert_eq!(watched.open_state("c", 0), OpenState::Unknown);
    std::fs::remove_file(watched.path().join("a")).expect("remove");
    assert_eq!(watched.open_state("a", 0), OpenState::Closed, "the state is queried once more after a move");
    watched.openers.forget_removed(watched.watch_id);
    std::fs::write(watched.path().join("d"), "whole").expect("file");
    assert_eq!(
        (watched.open_state("a", 0), watched.open_state("d", 0)),
        (OpenState::Unknown, OpenState::Closed)
    );
    let before = Watched::new(1);
    std::fs::write(before.path().join("e"), "whole").expect("file");
    assert_eq!(before.openers.open_state(before.watch_id, OsStr::new("e"), 0), OpenState::Unknown);
}
