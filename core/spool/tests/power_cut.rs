//! What remains of staged work after a power cut, on file systems whose power is really cut.

#![allow(clippy::disallowed_methods, reason = "tests write files themselves")]

use std::fs::{self, File};
use std::path::Path;

use jiff::Timestamp;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::{Format, Lane, Manifest, Prefix, VERSION};
use mysimbdp_model::reason::ReasonFile;
use mysimbdp_platform::files;
use mysimbdp_spool::staging::{self, Attempt};
use mysimbdp_testbed::{Disk, FileSystem};

const ALL: [FileSystem; 3] = [FileSystem::Ext4, FileSystem::Ext4NoAutoDaAlloc, FileSystem::Xfs];

#[test]
fn power_cut_after_a_hold_leaves_its_reason_whole() {
    for mut staged in Staged::on_all() {
        staged.hold();
        staged.cut();
        let held = staging::held_reason(&staged.layout, &staged.client, staged.ingestion);
        assert_eq!(held.expect("a reason").reasons, ["the app said no"], "{:?}", staged.disk);
    }
}

#[test]
fn power_cut_after_a_retry_leaves_its_manifest_whole() {
    for mut staged in Staged::on_all() {
        staged.hold();
        staging::retry_held(&staged.layout, &staged.client, staged.ingestion).expect("retry");
        staged.cut();
        let again = staging::read(&staged.layout, &staged.client, staged.ingestion);
        assert_eq!(again.expect("staged again").manifest.lane, Lane::Retry, "{:?}", staged.disk);
    }
}

#[test]
fn power_cut_leaves_a_baseline_that_could_not_be_counted_again() {
    for mut staged in Staged::on_all() {
        let attempt = Attempt { attempt: 1, failures: 0, baseline: Some(2403), reason: None };
        let directory = staged.layout.staged(&staged.client, staged.ingestion);
        staging::write_attempt(&directory, 0, &attempt).expect("write");
        staged.cut();
        let again = staging::read(&staged.layout, &staged.client, staged.ingestion).expect("staged");
        assert_eq!(again.attempts.get(&0), Some(&attempt), "{:?}", staged.disk);
    }
}

#[test]
fn power_cut_leaves_directories_that_were_created_durably() {
    for mut staged in Staged::on_all() {
        let [own, of_killed_process] = ["one/two/three", "begun"].map(|name| staged.layout.root().join(name));
        files::create_dir_all_durable(&own).expect("create");
        // The process was killed before the name was synced: the next one finds an existing directory.
        fs::create_dir(&of_killed_process).expect("create");
        files::create_dir_all_durable(&of_killed_process).expect("existing directory");
        // No other sync makes these names durable.
        staged.disk.cut();
        staged.disk.restore();
        for directory in [own, of_killed_process] {
            assert!(directory.is_dir(), "{} on {:?}", directory.display(), staged.disk);
        }
    }
}

/// A staged file that is completely on disk.
struct Staged {
    layout: Layout,
    client: ClientId,
    ingestion: IngestionId,
    disk: Disk,
}

impl Staged {
    /// One fixture per file system, one at a time: machines have few loop devices.
    fn on_all() -> impl Iterator<Item = Self> {
        ALL.into_iter().filter_map(Disk::new_or_skip).map(Self::on)
    }

    fn on(disk: Disk) -> Self {
        let layout = Layout::new(disk.path().join("root"));
        let client: ClientId = "client1".parse().expect("client id");
        let ingestion = IngestionId::new(&client, &blake3::hash(b""));
        let manifest = Manifest {
            version: VERSION,
            ingestion,
            client: client.clone(),
            lane: Lane::Live,
            file: "a.ndjson".to_owned(),
            bytes: 0,
            records: 0,
            blake3: String::new(),
            format: Format::Ndjson,
            prefix: Prefix::default(),
            app: "app".to_owned(),
            received_at: Timestamp::UNIX_EPOCH,
            taken_at: None,
            staged_at: Timestamp::UNIX_EPOCH,
            micro_batches: Vec::new(),
            columns: Vec::new(),
            replace: false,
        };
        let directory = layout.staged(&client, ingestion);
        fs::create_dir_all(&directory).expect("staged directory");
        fs::create_dir_all(layout.held_root().join(client.as_str())).expect("held directory");
        fs::write(directory.join(Layout::MANIFEST), manifest.to_json()).expect("manifest");
        disk.sync();
        Self { layout, client, ingestion, disk }
    }

    fn hold(&self) {
        let reason = ReasonFile {
            file: "a.ndjson".to_owned(),
            client: Some(self.client.to_string()),
            ingestion: Some(self.ingestion.to_string()),
            dropped_at: "client-input-directory/client1/a.ndjson".to_owned(),
            bytes: 0,
            received_at: Timestamp::UNIX_EPOCH,
            decided_at: Timestamp::UNIX_EPOCH,
            reasons: vec!["the app said no".to_owned()],
            codes: Vec::new(),
        };
        staging::hold(&self.layout, &self.client, self.ingestion, &reason).expect("hold");
    }

    /// Cuts the power at the worst moment: names are on disk, as another file and with it the journal has just been synced,
    /// but only those contents that were synced themselves.
    fn cut(&mut self) {
        let other = File::create(self.disk.path().join("other")).expect("another file");
        other.sync_all().expect("sync");
        drop(other);
        self.disk.cut();
        self.disk.restore();
        assert!(Path::new(self.layout.root()).is_dir());
    }
}
