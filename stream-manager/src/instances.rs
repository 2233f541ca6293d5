//! What must be known after the manager was killed: one file for each slot that has a session at the broker, and one for
//! each stream with the number of instances that it should have.
//!
//! A slot's file is written and synced before its process is started, so there is no moment at which a session, with the
//! messages that the broker keeps for it, could be forgotten. It is written only when an instance starts or ends.

use std::path::PathBuf;

use jiff::Timestamp;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::process::ProcessId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::key::{SlotKey, StreamKey};

const SLOT_SUFFIX: &str = ".slot.json";
const WANTED_SUFFIX: &str = ".wanted.json";

/// A slot that has a session at the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub key: SlotKey,
    /// `None` where none was started, or where it is known to have ended.
    pub process: Option<Started>,
}

/// A process that was started in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    #[serde(flatten)]
    pub id: ProcessId,
    pub at: Timestamp,
    pub fingerprint: u64,
}

/// The number of instances that a stream should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    #[serde(flatten)]
    pub key: StreamKey,
    pub wanted: u32,
    /// By a person; else the policy decides.
    pub pinned: bool,
}

/// The files below `state/instances/`.
#[derive(Clone, Debug)]
pub struct Registry {
    directory: PathBuf,
}

impl Registry {
    pub fn open(layout: &Layout) -> Result<Self, FileError> {
        let directory = layout.instances();
        files::create_dir_all_durable(&directory)?;
        Ok(Self { directory })
    }

    /// All slots. A slot whose file is damaged is known by the file's name; its process, if any, is found by its process tag.
    pub fn records(&self) -> Result<Vec<Record>, FileError> {
        let without_process = |name: &str| SlotKey::of_name(name).map(|key| Record { key, process: None });
        self.read(SLOT_SUFFIX, without_process)
    }

    /// All that can be read. If a file is damaged, the policy of its stream decides until a person does again.
    pub fn wanted(&self) -> Result<Vec<Wanted>, FileError> {
        self.read(WANTED_SUFFIX, |_| None)
    }

    pub fn write(&self, record: &Record) -> Result<(), FileError> {
        self.put(format!("{}{SLOT_SUFFIX}", record.key), record)
    }

    /// The slot has no session any more.
    pub fn remove(&self, key: &SlotKey) -> Result<(), FileError> {
        files::remove_file_if_there(&self.directory.join(format!("{key}{SLOT_SUFFIX}")))
    }

    pub fn want(&self, wanted: &Wanted) -> Result<(), FileError> {
        self.put(format!("{}{WANTED_SUFFIX}", wanted.key), wanted)
    }

    fn put(&self, name: String, content: &impl Serialize) -> Result<(), FileError> {
        let path = self.directory.join(name);
        // These types have no map keys and no numbers that JSON could refuse.
        let text = serde_json::to_vec(content).unwrap_or_default();
        files::write_durable(&path, &text)?;
        files::sync_dir(&self.directory)
    }

    /// Reads the files with this suffix; `damaged` gives what can be told from the name of one that cannot be read.
    fn read<T: DeserializeOwned>(
        &self,
        suffix: &str,
        damaged: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, FileError> {
        let mut found = Vec::new();
        for path in files::list(&self.directory)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(stem) = name.strip_suffix(suffix).filter(|name| !name.starts_with('.')) else {
                continue;
            };
            match serde_json::from_slice(&files::read(&path)?) {
                Ok(content) => found.push(content),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a state file is damaged");
                    found.extend(damaged(stem));
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_and_the_slot_of_a_torn_one_too() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let registry = Registry::open(&layout).expect("open");
        let key = StreamKey { client: "client1".parse().expect("valid"), stream: "stream".to_owned() };
        let started = Started {
            id: ProcessId { pid: 7, start_time: 9 },
            at: Timestamp::UNIX_EPOCH,
            fingerprint: u64::MAX,
        };
        let records =
            [Record { key: key.slot(0), process: Some(started) }, Record { key: key.slot(1), process: None }];
        for record in &records {
            registry.write(record).expect("write");
        }
        let wanted = Wanted { key: key.clone(), wanted: 2, pinned: true };
        registry.want(&wanted).expect("want");
        for torn in ["client1.stream.2.slot.json", "client1.stream.wanted.json", "nobody.slot.json"] {
            files::write_atomic(&layout.instances().join(torn), b"{\"client\":").expect("torn");
        }
        let [first, second] = records.clone();
        let third = Record { key: key.slot(2), process: None };
        assert_eq!(registry.records().expect("records"), [first, second, third]);
        assert_eq!(registry.wanted().expect("wanted"), []);
        registry.want(&wanted).expect("want again");
        assert_eq!(registry.wanted().expect("wanted"), [wanted]);

        registry.remove(&key.slot(0)).expect("remove");
        registry.remove(&key.slot(0)).expect("removed twice");
        let left: Vec<u32> =
            registry.records().expect("records").iter().map(|record| record.key.slot).collect();
        assert_eq!(left, [1, 2]);
    }
}
