//! The state that must survive a kill of the manager: one file for each slot that has a session at the broker, and one
//! for each stream with the number of instances that it should have.
//!
//! A slot's file is written and synced before its process is started. So after a crash the next manager knows each
//! session that an instance has used, and the messages that the broker keeps for it are not lost. Files change only
//! when a session is created or ends, an instance starts or ends, or the number of a stream or its manual override
//! changes.

use std::path::PathBuf;

use jiff::Timestamp;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::process::ProcessId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::key::{SlotKey, StreamKey};

const SLOT_SUFFIX: &str = ".slot.json";
const DESIRED_SUFFIX: &str = ".wanted.json";

/// A slot that has a session at the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub key: SlotKey,
    /// `None` if no process was started, or if it is known to have ended.
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
pub struct DesiredInstances {
    #[serde(flatten)]
    pub key: StreamKey,
    #[serde(rename = "wanted")]
    pub desired: u32,
    /// Manual override: a person has set the number. Otherwise the policy decides.
    #[serde(rename = "pinned")]
    pub is_manual: bool,
}

/// The files in `state/instances/`.
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

    /// Reads the records of all slots. If a file is damaged, its name identifies the slot; the slot's process, if any, is
    /// found by its process tag.
    pub fn records(&self) -> Result<Vec<Record>, FileError> {
        let without_process = |name: &str| SlotKey::from_name(name).map(|key| Record { key, process: None });
        self.read(SLOT_SUFFIX, without_process)
    }

    /// Reads the numbers of all streams. If a file is damaged, the stream's policy decides until a person sets a number
    /// again.
    pub fn desired(&self) -> Result<Vec<DesiredInstances>, FileError> {
        self.read(DESIRED_SUFFIX, |_| None)
    }

    pub fn write(&self, record: &Record) -> Result<(), FileError> {
        self.put(format!("{}{SLOT_SUFFIX}", record.key), record)
    }

    /// Removes the record of a slot that no longer has a session.
    pub fn remove(&self, key: &SlotKey) -> Result<(), FileError> {
        files::remove_file_if_exists(&self.directory.join(format!("{key}{SLOT_SUFFIX}")))
    }

    pub fn write_desired(&self, desired: &DesiredInstances) -> Result<(), FileError> {
        self.put(format!("{}{DESIRED_SUFFIX}", desired.key), desired)
    }

    fn put(&self, name: String, content: &impl Serialize) -> Result<(), FileError> {
        let path = self.directory.join(name);
        // These types have no map keys or numbers that JSON cannot represent.
        let text = serde_json::to_vec(content).unwrap_or_default();
        files::write_durable(&path, &text)?;
        files::sync_dir(&self.directory)
    }

    /// Reads the files with this suffix; `damaged` returns what the name of a damaged file tells.
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
    fn records_are_read_back_and_a_torn_record_still_gives_its_slot() {
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
        let desired = DesiredInstances { key: key.clone(), desired: 2, is_manual: true };
        registry.write_desired(&desired).expect("write");
        for torn in ["client1.stream.2.slot.json", "client1.stream.wanted.json", "nobody.slot.json"] {
            files::write_atomic(&layout.instances().join(torn), b"{\"client\":").expect("torn");
        }
        let [first, second] = records.clone();
        let third = Record { key: key.slot(2), process: None };
        assert_eq!(registry.records().expect("records"), [first, second, third]);
        assert_eq!(registry.desired().expect("desired numbers"), []);
        registry.write_desired(&desired).expect("write again");
        assert_eq!(registry.desired().expect("desired numbers"), [desired]);

        registry.remove(&key.slot(0)).expect("remove");
        registry.remove(&key.slot(0)).expect("removed twice");
        let left: Vec<u32> =
            registry.records().expect("records").iter().map(|record| record.key.slot).collect();
        assert_eq!(left, [1, 2]);
    }
}
