use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use mysimbdp_spool::drop_directory::{Directory, Events};

use super::*;

/// A directory that is watched, with what the kernel tells of it.
struct Watched {
    directory: tempfile::TempDir,
    events: Events,
    watch: WatchId,
    openers: Openers,
}

impl Watched {
    fn new(share: usize) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let events = Events::new().expect("events");
        let watch =
            events.watch(&Directory::of_platform(directory.path()).expect("directory")).expect("watch");
        Self { directory, events, watch, openers: Openers::new(share) }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn seen(&mut self, name: &str, ours: u32) -> Seen {
        self.events.read(|event| self.openers.happened(&event, Some(&Area::Shared))).expect("events");
        self.openers.seen(self.watch, OsStr::new(name), ours)
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "writes as senders do")]
async fn a_file_is_open_until_its_writer_closes_it_whatever_readers_do() {
    let mut watched = Watched::new(100);
    let path = watched.path().join("a.csv");
    let mut writer = File::create(&path).expect("new file");
    assert_eq!(watched.seen("a.csv", 0), Seen::Open);
    let ours = File::open(&path).expect("reader");
    assert_eq!(watched.seen("a.csv", 1), Seen::Open);
    drop(ours);
    writer.write_all(b"a").expect("write");
    assert_eq!(watched.seen("a.csv", 0), Seen::Open);
    drop(writer);
    assert_eq!(watched.seen("a.csv", 0), Seen::Closed);
    let ours = File::open(&path).expect("reader");
    assert_eq!(watched.seen("a.csv", 1), Seen::Closed);
    assert_eq!(watched.seen("a.csv", 0), Seen::Unknown, "somebody has it open");
    let again = OpenOptions::new().append(true).open(&path).expect("writer");
    assert_eq!(watched.seen("a.csv", 1), Seen::Unknown);
    drop((again, ours));
    assert_eq!(watched.seen("a.csv", 0), Seen::Closed);
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "writes as senders do")]
async fn what_is_known_goes_along_with_a_rename_and_not_with_a_name() {
    let mut watched = Watched::new(100);
    let at = |name: &str| watched.directory.path().join(name);
    let (part, name) = (at("a.part"), at("a.csv"));
    std::fs::write(&part, "whole").expect("file");
    std::fs::rename(&part, &name).expect("rename");
    assert_eq!(watched.seen("a.csv", 0), Seen::Closed);
    let writer = File::create(&part).expect("new file");
    std::fs::rename(&part, &name).expect("rename");
    assert_eq!(watched.seen("a.csv", 0), Seen::Open, "renamed and still open");
    drop(writer);
    let elsewhere = tempfile::NamedTempFile::new_in(watched.path().parent().expect("parent")).expect("file");
    elsewhere.into_temp_path().persist(&name).expect("moved in");
    assert_eq!(watched.seen("a.csv", 0), Seen::Unknown, "nobody has seen who wrote that");
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "writes as senders do")]
async fn what_was_there_before_and_what_is_beyond_the_share_is_unknown() {
    let mut watched = Watched::new(2);
    for name in ["a", "b", "c"] {
        std::fs::write(watched.path().join(name), "whole").expect("file");
    }
    assert_eq!(watched.seen("b", 0), Seen::Closed);
    assert_eq!(watched.seen("c", 0), Seen::Unknown);
    std::fs::remove_file(watched.path().join("a")).expect("remove");
    assert_eq!(watched.seen("a", 0), Seen::Closed, "it is asked once more when it has been moved");
    watched.openers.forget_gone(watched.watch);
    std::fs::write(watched.path().join("d"), "whole").expect("file");
    assert_eq!((watched.seen("a", 0), watched.seen("d", 0)), (Seen::Unknown, Seen::Closed));
    let before = Watched::new(1);
    std::fs::write(before.path().join("e"), "whole").expect("file");
    assert_eq!(before.openers.seen(before.watch, OsStr::new("e"), 0), Seen::Unknown);
}
