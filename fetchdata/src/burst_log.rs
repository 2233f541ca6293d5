//! Logs what becomes of files: the first of each kind of trouble of a client at once, further ones as a count,
//! however many files are affected.

use std::ffi::OsStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_spool::drop_directory::DropPath;
use mysimbdp_telemetry::logging::{Bursts, Unreported};

use crate::names::plain;
use crate::scan::ScanFault;

/// How often an ongoing burst is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// In one log line.
const FOLDERS_NAMED_MAX: usize = 20;

/// Shared by all files: the bursts of trouble that are logged.
#[derive(Debug)]
pub(crate) struct BurstLog {
    bursts: Mutex<Bursts<Kind, Event>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    client: Option<ClientId>,
    trouble: Trouble,
}

/// Kinds of trouble that are counted separately. Each has few values, whatever the drop directory contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    NotScanned,
    UnknownFolder,
    Discarded,
    NoReceipt,
    NotProcessed(Cause),
}

/// What failed, and the system's error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cause {
    pub(crate) action: &'static str,
    pub(crate) code: Option<i32>,
}

/// What is logged of a discarded file.
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

impl BurstLog {
    pub(crate) fn new() -> Self {
        Self { bursts: Mutex::new(Bursts::new(LOG_EVERY)) }
    }

    /// Part of the drop directory cannot be scanned.
    pub(crate) fn not_scanned(&self, client: Option<&ClientId>, fault: &ScanFault) {
        let event = Event { file: String::new(), why: mysimbdp_model::error_chain(fault) };
        if let Some(Event { why: error, .. }) = self.count(client, Trouble::NotScanned, event) {
            tracing::warn!(
                client = client_name(client),
                error,
                "part of the drop directory cannot be scanned"
            );
        }
    }

    /// Folders in the drop directory belong to no client.
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
            tracing::warn!(folders, "not the folder of a configured client, its files are not taken");
        }
    }

    /// A file could not be processed, and will be tried again.
    pub(crate) fn not_processed(
        &self,
        client: Option<&ClientId>,
        path: &DropPath,
        cause: Cause,
        error: String,
    ) {
        let event = Event { file: path.to_string(), why: error };
        if let Some(Event { file, why: error }) = self.count(client, Trouble::NotProcessed(cause), event) {
            tracing::warn!(
                client = client_name(client),
                file,
                error,
                "file could not be processed, it is tried again later"
            );
        }
    }

    /// Each discarded file gets a line, a burst of them one WARN.
    pub(crate) fn discarded(&self, discarded: &Discarded) {
        let Discarded { client, file, bytes, reasons, directory } = discarded;
        let event = Event { file: file.clone(), why: reasons.clone() };
        let (begins, client) =
            (self.count(*client, Trouble::Discarded, event).is_some(), client_name(*client));
        if begins {
            tracing::warn!(client, file, bytes, reasons, %directory, "discarded");
        } else {
            tracing::info!(client, file, bytes, reasons, %directory, "discarded");
        }
    }

    /// Something that the client has created is in the way of a receipt.
    pub(crate) fn no_receipt(&self, client: &ClientId, path: &DropPath, error: String) {
        let event = Event { file: path.to_string(), why: error };
        if let Some(Event { file, why: error }) = self.count(Some(client), Trouble::NoReceipt, event) {
            tracing::warn!(%client, file, error, "receipt is not written, something is in its way");
        }
    }

    /// Logs the bursts that still continue.
    pub(crate) fn log_due(&self) {
        let due = self.bursts().due(Instant::now());
        for (Kind { client, trouble }, Unreported { count, last: Event { file, why } }) in due {
            let client = client_name(client.as_ref());
            match trouble {
                Trouble::NotScanned => {
                    tracing::warn!(client, count, last = why, "more of the drop directory cannot be scanned");
                }
                Trouble::UnknownFolder => {
                    tracing::warn!(
                        count,
                        folders = file,
                        "more folders are not those of configured clients, their files are not taken"
                    );
                }
                Trouble::Discarded => {
                    tracing::warn!(client, count, last = file, reasons = why, "discarded more files");
                }
                Trouble::NoReceipt => {
                    tracing::warn!(client, count, last = file, error = why, "more receipts are not written");
                }
                Trouble::NotProcessed(_) => {
                    tracing::warn!(
                        client,
                        count,
                        last = file,
                        error = why,
                        "more files could not be processed"
                    );
                }
            }
        }
    }

    fn count(&self, client: Option<&ClientId>, trouble: Trouble, event: Event) -> Option<Event> {
        self.bursts().count(Kind { client: client.cloned(), trouble }, event, Instant::now())
    }

    /// The guarded values are whole even if a panic has poisoned the lock.
    fn bursts(&self) -> MutexGuard<'_, Bursts<Kind, Event>> {
        self.bursts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client_name(client: Option<&ClientId>) -> &str {
    client.map_or(Layout::UNROUTED, ClientId::as_str)
}
