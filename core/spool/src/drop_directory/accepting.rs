//! Whose files the running fetchdata takes: written by fetchdata, read by whoever is about to drop a file.
//!
//! It lies in the drop directory itself, since who drops files may not look into `state/`. Only a hint for people: what a
//! file's fate is decides fetchdata.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;

use mysimbdp_model::client::ClientId;
use mysimbdp_platform::files::{FileError, Result};
use mysimbdp_platform::process::ProcessId;
use serde::{Deserialize, Serialize};

use super::DropDirectory;

const NAME: &str = ".fetchdata.json";
/// Under which it is put together. One fetchdata at a time works there.
const TEMPORARY: &str = "fetchdata.json.tmp";
/// Some 100,000 clients.
const BYTES_MAX: u64 = 4 << 20;

/// The clients with a batch app of a fetchdata that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepting {
    #[serde(flatten)]
    pub process: ProcessId,
    pub clients: BTreeSet<ClientId>,
}

impl DropDirectory {
    /// Writes whose files this process takes from now on, in the place of what was written before.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn announce(&self, clients: BTreeSet<ClientId>) -> Result<()> {
        let accepting = Accepting { process: ProcessId::current(), clients };
        let content = serde_json::to_vec(&accepting).expect("it has no map");
        self.own()?.write(OsStr::new(TEMPORARY), &content, self.root(), OsStr::new(NAME))
    }

    /// Takes back what this process has announced.
    ///
    /// # Errors
    ///
    /// It cannot be removed, which harms nobody: a process that has ended is not believed.
    pub fn withdraw(&self) -> Result<()> {
        self.root().remove_file(OsStr::new(NAME))
    }

    /// What the running fetchdata has announced; `None` if none runs, or it has not said.
    ///
    /// # Errors
    ///
    /// It is there and cannot be read.
    pub fn accepting(&self) -> Result<Option<Accepting>> {
        let file = match self.root().open(OsStr::new(NAME)) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        let read = file.take(BYTES_MAX).read_to_end(&mut text);
        read.map_err(|source| FileError { action: "read", path: NAME.into(), source })?;
        let accepting = serde_json::from_slice::<Accepting>(&text).ok();
        Ok(accepting.filter(|accepting| accepting.process.alive()))
    }
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::layout::Layout;

    use super::*;

    #[test]
    fn what_a_process_accepts_is_known_as_long_as_it_runs() {
        let root = tempfile::tempdir().expect("temporary directory");
        let drop_directory = DropDirectory::prepare(&Layout::new(root.path())).expect("drop directory");
        let accepting = || drop_directory.accepting().expect("readable");
        assert_eq!(accepting(), None);
        let clients = BTreeSet::from(["alpha".parse().expect("client")]);
        drop_directory.announce(clients.clone()).expect("announced");
        assert_eq!(accepting().map(|accepting| accepting.clients), Some(clients.clone()));
        // No pid is as large as that.
        let process = ProcessId { pid: u32::MAX, start_time: 1 };
        let content = serde_json::to_vec(&Accepting { process, clients }).expect("JSON");
        let own = drop_directory.own().expect("directory");
        own.write(OsStr::new(TEMPORARY), &content, drop_directory.root(), OsStr::new(NAME)).expect("written");
        assert_eq!(accepting(), None, "it has ended");
        drop_directory.withdraw().expect("withdrawn");
    }
}
