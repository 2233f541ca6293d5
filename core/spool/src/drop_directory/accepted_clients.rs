//! The clients whose files the running fetchdata takes: written by fetchdata, read before a file is dropped.
//!
//! The file is in the drop directory itself, since a sender may not be allowed to read `state/`. It is only a hint for
//! people: fetchdata decides what happens to a file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;

use mysimbdp_model::client::ClientId;
use mysimbdp_platform::files::{FileError, Result};
use mysimbdp_platform::process::ProcessId;
use serde::{Deserialize, Serialize};

use super::DropDirectory;

const NAME: &str = ".fetchdata.json";
/// The name under which it is written. Only one fetchdata at a time works there.
const TEMPORARY: &str = "fetchdata.json.tmp";
/// Enough for some 100,000 clients.
const BYTES_MAX: u64 = 4 << 20;

/// A running fetchdata, and its clients that have a batch app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcceptedClients {
    #[serde(flatten)]
    pub process: ProcessId,
    pub clients: BTreeSet<ClientId>,
}

impl DropDirectory {
    /// Announces the clients whose files this process takes from now on, in place of an earlier announcement.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn announce(&self, clients: BTreeSet<ClientId>) -> Result<()> {
        let accepted_clients = AcceptedClients { process: ProcessId::current(), clients };
        let content = serde_json::to_vec(&accepted_clients).expect("serializable");
        self.platform_directory()?.write(OsStr::new(TEMPORARY), &content, self.root(), OsStr::new(NAME))
    }

    /// Withdraws the announcement.
    ///
    /// # Errors
    ///
    /// The file cannot be removed, which does no harm: the announcement of a process that has ended is ignored.
    pub fn withdraw(&self) -> Result<()> {
        self.root().remove_file(OsStr::new(NAME))
    }

    /// Reads what the running fetchdata has announced; `None` if none runs, or if it has announced nothing.
    ///
    /// # Errors
    ///
    /// The file exists and cannot be read.
    pub fn accepted_clients(&self) -> Result<Option<AcceptedClients>> {
        let file = match self.root().open(OsStr::new(NAME)) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        let read = file.take(BYTES_MAX).read_to_end(&mut text);
        read.map_err(|source| FileError { action: "read", path: NAME.into(), source })?;
        let accepted_clients = serde_json::from_slice::<AcceptedClients>(&text).ok();
        Ok(accepted_clients.filter(|accepted_clients| accepted_clients.process.alive()))
    }
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::layout::Layout;

    use super::*;

    #[test]
    fn an_announcement_is_valid_while_its_process_runs() {
        let root = tempfile::tempdir().expect("temporary directory");
        let drop_directory = DropDirectory::prepare(&Layout::new(root.path())).expect("drop directory");
        let accepted_clients = || drop_directory.accepted_clients().expect("readable");
        assert_eq!(accepted_clients(), None);
        let clients = BTreeSet::from(["alpha".parse().expect("client")]);
        drop_directory.announce(clients.clone()).expect("announced");
        assert_eq!(
            accepted_clients().map(|accepted_clients| accepted_clients.clients),
            Some(clients.clone())
        );
        // No process can have this pid.
        let process = ProcessId { pid: u32::MAX, start_time: 1 };
        let content = serde_json::to_vec(&AcceptedClients { process, clients }).expect("JSON");
        let platform_directory = drop_directory.platform_directory().expect("directory");
        platform_directory
            .write(OsStr::new(TEMPORARY), &content, drop_directory.root(), OsStr::new(NAME))
            .expect("written");
        assert_eq!(accepted_clients(), None, "its process has ended");
        drop_directory.withdraw().expect("withdrawn");
    }
}
