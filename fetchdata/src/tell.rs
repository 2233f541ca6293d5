//! Tells what becomes of files: each kind of trouble of a client once, and then how often, however many files it befalls.

use std::ffi::OsStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_spool::drop_directory::DropPath;
use mysimbdp_telemetry::logging::{Bursts, Untold};

use crate::names::plain;
use crate::scan::ScanFault;

/// How often a burst that goes on is told.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// In one line.
const FOLDERS_NAMED_MAX: usize = 20;

/// What all files share for telling what became of them.
#[derive(Debug)]
pub(crate) struct Tell {
    bursts: Mutex<Bursts<Kind, Event>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    client: Option<ClientId>,
    trouble: Trouble,
}

/// What is told apart. Each has few values, whatever lies at the drop point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Unseen,
    UnknownFolder,
    Discarded,
    NoReceipt,
    NotTaken(Cause),
}

/// What did not work, and the system's code for why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cause {
    pub(crate) action: &'static str,
    pub(crate) code: Option<i32>,
}

/// What is told of a file that was discarded.
#[derive(Debug)]
pub(crate) struct Discarded<'a> {
    pub(crate) client: Option<&'a ClientId>,
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) reasons: String,
    pub(crate) directory: std::path::Display<'a>,
}

#[derive(Debug)]
struct Event {
    file: String,
    why: String,
}

impl Tell {
    pub(crate) fn new() -> Self {
        Self { bursts: Mutex::new(Bursts::new(TELL_EVERY)) }
    }

    /// Something at the drop point cannot be looked at.
    pub(crate) fn unseen(&self, client: Option<&ClientId>, fault: &ScanFault) {
        let event = Event { file: String::new(), why: mysimbdp_model::error_chain(fault) };
        if let Some(Event { why: error, .. }) = self.count(client, Trouble::Unseen, event) {
            tracing::warn!(client = of(client), error, "part of the drop point cannot be looked at");
        }
    }

    /// There are folders in the drop directory that are no client's.
    pub(crate) fn unknown_folders(&self, names: &[&OsStr]) {
        if names.is_empty() {
            return;
        }
        let mut named: Vec<String> = names.iter().take(FOLDERS_NAMED_MAX).map(|name| plain(name)).collect();
        if names.len() > FOLDERS_NAMED_MAX {
            named.push(format!("{} more", names.len() - FOLDERS_NAMED_MAX));
        }
        let event = Event { file: named.join(", "), why: String::new() };
        if let Some(Event { file: folders, .. }) = self.count(None, Trouble::UnknownFolder, event) {
            tracing::warn!(folders, "not the folder of a configured client, what is in it waits there");
        }
    }

    /// A file could not be taken, and will be tried again.
    pub(crate) fn not_taken(&self, client: Option<&ClientId>, path: &DropPath, cause: Cause, error: String) {
        let event = Event { file: path.to_string(), why: error };
        if let Some(Event { file, why: error }) = self.count(client, Trouble::NotTaken(cause), event) {
            tracing::warn!(
                client = of(client),
                file,
                error,
                "file could not be taken, it is tried again later"
            );
        }
    }

    /// Each discarded file has a line, and a burst of them one WARN.
    pub(crate) fn discarded(&self, discarded: &Discarded) {
        let Discarded { client, file, bytes, reasons, directory } = discarded;
        let event = Event { file: file.clone(), why: reasons.clone() };
        let (begins, client) = (self.count(*client, Trouble::Discarded, event).is_some(), of(*client));
        if begins {
            tracing::warn!(client, file, bytes, reasons, %directory, "discarded");
        } else {
            tracing::info!(client, file, bytes, reasons, %directory, "discarded");
        }
    }

    /// The client has put something in the way of a receipt.
    pub(crate) fn no_receipt(&self, client: &ClientId, path: &DropPath, error: String) {
        let event = Event { file: path.to_string(), why: error };
        if let Some(Event { file, why: error }) = self.count(Some(client), Trouble::NoReceipt, event) {
            tracing::warn!(%client, file, error, "receipt is not written, something lies in its way");
        }
    }

    /// Tells of the bursts that go on.
    pub(crate) fn go_on(&self) {
        let due = self.bursts().due(Instant::now());
        for (Kind { client, trouble }, Untold { count, last: Event { file, why } }) in due {
            let client = of(client.as_ref());
            match trouble {
                Trouble::Unseen => {
                    tracing::warn!(client, count, last = why, "more of the drop point cannot be looked at");
                }
                Trouble::UnknownFolder => {
                    tracing::warn!(count, folders = file, "more folders are not those of configured clients");
                }
                Trouble::Discarded => {
                    tracing::warn!(client, count, last = file, reasons = why, "discarded more files");
                }
                Trouble::NoReceipt => {
                    tracing::warn!(client, count, last = file, error = why, "more receipts are not written");
                }
                Trouble::NotTaken(_) => {
                    tracing::warn!(client, count, last = file, error = why, "more files could not be taken");
                }
            }
        }
    }

    fn count(&self, client: Option<&ClientId>, trouble: Trouble, event: Event) -> Option<Event> {
        self.bursts().count(Kind { client: client.cloned(), trouble }, event, Instant::now())
    }

    /// A lock that a panic has poisoned still guards whole values here.
    fn bursts(&self) -> MutexGuard<'_, Bursts<Kind, Event>> {
        self.bursts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(client: Option<&ClientId>) -> &str {
    client.map_or(Layout::UNROUTED, ClientId::as_str)
}
