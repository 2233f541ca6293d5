//! Receipts: files in the sender's own folder that tell how a file ended, named after the file plus `.receipt.json`.
//!
//! fetchdata writes them for files that it discards, batch-manager for all others. `mysimbdp drop --wait` reads them: its
//! user may have no access to anything else of the platform.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::{Hasher, IngestionId};
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::message::{Finished, VERSION};
use mysimbdp_model::outcome::{Counts, FinalState};
use mysimbdp_model::reason::{self, Objection, ReasonCode};
use mysimbdp_platform::files::Result;
use serde::{Deserialize, Serialize};

use super::{DropDirectory, DropPath, FileStatus, plain};

const SUFFIX: &str = ".receipt.json";
/// The maximum of common file systems.
const NAME_BYTES_MAX: usize = 255;
/// Length of the hash that replaces the end of a name that is too long for the suffix.
const HASH_DIGITS: usize = 32;
/// Many times the size of a receipt; a longer file was put there by the client.
const RECEIPT_BYTES_MAX: u64 = 64 << 10;

/// How a dropped file ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileReceipt {
    pub version: u32,
    pub client_id: ClientId,
    /// Absent if the file was refused before it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingestion: Option<IngestionId>,
    pub file: String,
    pub bytes: u64,
    #[serde(default)]
    pub micro_batches: u32,
    #[serde(flatten)]
    pub counts: Counts,
    pub seconds: f64,
    pub state: FinalState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The codes of its reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<ReasonCode>,
}

impl FileReceipt {
    /// The receipt of a file that was refused, `seconds` after its arrival.
    pub fn of_discarded(
        client_id: ClientId,
        ingestion: Option<IngestionId>,
        (file, bytes): (String, u64),
        seconds: f64,
        reasons: &[Objection],
    ) -> Self {
        Self {
            version: VERSION,
            client_id,
            ingestion,
            file,
            bytes,
            micro_batches: 0,
            counts: Counts::default(),
            seconds,
            state: FinalState::Discarded,
            reason: Some(reason::joined(reasons)),
            codes: reason::codes(reasons),
        }
    }
}

impl From<&Finished> for FileReceipt {
    fn from(finished: &Finished) -> Self {
        Self {
            version: finished.version,
            client_id: finished.client_id.clone(),
            ingestion: Some(finished.ingestion),
            file: finished.file.clone(),
            bytes: finished.bytes,
            micro_batches: finished.micro_batches,
            counts: finished.counts,
            seconds: finished.seconds,
            state: finished.state,
            reason: finished.reason.clone(),
            codes: finished.codes.clone(),
        }
    }
}

impl DropDirectory {
    /// Writes a receipt into the folder of its client, however the file was routed, in place of an earlier one of that name. It
    /// is durable when this returns. Two writers must not use the same `key` at the same time.
    ///
    /// # Errors
    ///
    /// Among others [`is_obstructed`](mysimbdp_platform::files::FileError::is_obstructed): the client's folder contains something
    /// else at that path.
    pub fn write_receipt(&self, lane: Lane, key: &str, receipt: &FileReceipt) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(receipt).expect("a receipt has no map");
        json.push(b'\n');
        let path = DropPath::of_client(&receipt.client_id, lane).join(&name_of(OsStr::new(&receipt.file)));
        self.write(&path, OsStr::new(&format!("receipt-{key}")), &json)
    }

    /// Reads the receipt of a file that was dropped at this path; `None` if there is none that can be read.
    pub fn receipt(&self, dropped: &DropPath) -> Option<FileReceipt> {
        let file = self.open_file(&path_of(dropped)).ok()?;
        serde_json::from_reader(file.take(RECEIPT_BYTES_MAX)).ok()
    }

    /// The status of that receipt, which distinguishes it from a later one: each receipt is a new file.
    pub fn receipt_status(&self, dropped: &DropPath) -> Option<FileStatus> {
        self.status(&path_of(dropped)).ok()
    }
}

/// Whether a file of this name counts as a receipt, and is never ingested.
pub fn is_receipt(name: &OsStr) -> bool {
    name.as_bytes().ends_with(SUFFIX.as_bytes())
}

fn path_of(dropped: &DropPath) -> DropPath {
    dropped.parent().join(&name_of(dropped.name()))
}

/// The file's name and the suffix. A name that is too long for the suffix is cut, and gets a hash of all of it.
fn name_of(file: &OsStr) -> OsString {
    let mut name = plain(file);
    if name.len() + SUFFIX.len() > NAME_BYTES_MAX {
        let hash = Hasher::new().update(name.as_bytes()).finalize().to_hex();
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX - SUFFIX.len() - HASH_DIGITS - 1));
        name = format!("{name}-{}", &hash[..HASH_DIGITS]);
    }
    name.push_str(SUFFIX);
    name.into()
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::layout::Layout;

    use super::*;

    #[test]
    fn the_receipt_of_the_longest_name_has_a_valid_name() {
        assert_eq!(name_of(OsStr::new("data.csv")), "data.csv.receipt.json");
        assert_eq!(name_of(OsStr::new("a\nb")), "a%0Ab.receipt.json");
        let longest = ["n", "ä", "😀"].map(|letter| letter.repeat(255 / letter.len()));
        for file in &longest {
            let name = name_of(OsStr::new(file));
            assert!(name.len() <= 255 && is_receipt(&name), "{name:?} has {} bytes", name.len());
            let other = format!("{}x", &file[..file.floor_char_boundary(file.len() - 1)]);
            assert_ne!(name, name_of(OsStr::new(&other)), "names that begin alike");
        }
    }

    #[test]
    fn a_receipt_is_read_by_the_path_of_the_file_and_distinguished_from_a_later_one() {
        let root = tempfile::tempdir().expect("temporary directory");
        let drop_directory = DropDirectory::prepare(&Layout::new(root.path())).expect("drop directory");
        let client: ClientId = "alpha".parse().expect("a client id");
        let dropped = DropPath::of_client(&client, Lane::Backfill).join(OsStr::new("a\u{7}.csv"));
        assert_eq!(drop_directory.receipt(&dropped), None);
        let file = (plain(dropped.name()), 3);
        let receipt = FileReceipt::of_discarded(client, None, file, 0.5, &[ReasonCode::Empty.because("no")]);
        let write = || drop_directory.write_receipt(Lane::Backfill, "key", &receipt).expect("writable");
        write();
        assert_eq!(drop_directory.receipt(&dropped), Some(receipt.clone()));
        let first = drop_directory.receipt_status(&dropped);
        assert!(first.is_some());
        write();
        assert_ne!(drop_directory.receipt_status(&dropped), first);
    }
}
