//! The messages that are accepted and not yet received, on disk, first in, first out.
//!
//! - [`frame`]: how an entry lies in a file; [`segment`]: one file; [`catalog`]: all of them, as far as they are durable;
//! - [`writer`]: the thread that appends, with one `fsync` for all that has come meanwhile;
//! - [`label`]: whose it is, and the epoch of its numbers.
//!
//! Reading needs no memory beyond what is asked for. Whole files are removed, once all that they hold is received.

mod catalog;
mod frame;
mod label;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::source::SourceName;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::lock::{Lock, LockError};
use mysimbdp_platform::{failpoint, modes};
use tokio::sync::watch;

use crate::message::Position;
use catalog::Catalog;

pub use frame::{Entry, OVERHEAD_BYTES_MAX, PAYLOAD_BYTES_MAX};
pub use writer::Writer;

/// So many segments fit into the capacity: what one holds beyond what is received is a small part of the whole.
pub const SEGMENTS: u64 = 16;

/// What is wrong with an outbox.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutboxError {
    #[error(transparent)]
    File(Arc<FileError>),
    #[error(transparent)]
    Lock(Arc<LockError>),
    #[error(
        "{} does not say whose outbox this is and which epoch it has: bring that file back, or take the directory away to \
         begin a new epoch",
        path.display()
    )]
    Label { path: PathBuf },
    #[error("{} is the outbox of source {source_name} of client {client}", directory.display())]
    OfAnother { directory: PathBuf, client: ClientId, source_name: SourceName },
}

impl From<FileError> for OutboxError {
    fn from(error: FileError) -> Self {
        Self::File(Arc::new(error))
    }
}

/// An outbox that this process has locked.
#[derive(Debug)]
pub struct Outbox {
    pub epoch: u64,
    directory: PathBuf,
    capacity_bytes: u64,
    state: Mutex<State>,
    /// Something was released, or it is closing.
    changed: Condvar,
    accepted: watch::Sender<u64>,
    _lock: Lock,
}

#[derive(Debug)]
struct State {
    catalog: Catalog,
    /// The writer waits for room.
    full: bool,
    closing: bool,
}

/// What is found of a run of numbers.
#[derive(Debug)]
pub enum Found {
    /// The first of them, or more.
    Entries(Vec<Entry>),
    /// The first of them are not there, through this one.
    Gone { last: u64 },
}

impl Outbox {
    /// Opens the outbox in `directory`, or makes one.
    pub fn open(
        directory: &Path,
        capacity_bytes: u64,
        client: &ClientId,
        source: &SourceName,
    ) -> Result<Self, OutboxError> {
        modes::make_directory(directory)?;
        let lock = Lock::take(directory, "edge").map_err(|error| OutboxError::Lock(Arc::new(error)))?;
        let epoch = label::epoch(directory, client, source)?;
        failpoint::hit("edge.epoch-made");
        // Before there is an entry with this epoch. Also of an outbox that is found, as its last process may have been
        // killed before it had synced them.
        files::sync_names(directory)?;
        let catalog = Catalog::open(directory)?;
        let accepted = watch::Sender::new(catalog.accepted());
        Ok(Self {
            epoch,
            directory: directory.to_owned(),
            capacity_bytes,
            state: Mutex::new(State { catalog, full: false, closing: false }),
            changed: Condvar::new(),
            accepted,
            _lock: lock,
        })
    }

    /// The number of the last message that is accepted; 0 before the first.
    pub fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }

    pub fn watch_accepted(&self) -> watch::Receiver<u64> {
        self.accepted.subscribe()
    }

    /// The oldest number that may still be there.
    pub fn oldest(&self) -> u64 {
        self.state().catalog.oldest()
    }

    pub fn position(&self) -> Position {
        self.state().catalog.position()
    }

    pub fn bytes(&self) -> u64 {
        self.state().catalog.bytes()
    }

    /// A message waits until there is room.
    pub fn is_full(&self) -> bool {
        self.state().full
    }

    /// Reads entries from number `first` on, up to `last` and about `bytes_max`.
    pub fn read(&self, first: u64, last: u64, bytes_max: usize) -> Result<Found, FileError> {
        let found = self.state().catalog.find(first);
        let next = match found {
            Ok(view) => {
                let entries = view.read(first, last, bytes_max)?;
                if !entries.is_empty() {
                    return Ok(Found::Entries(entries));
                }
                first + 1
            }
            Err(next) => next.unwrap_or(u64::MAX),
        };
        Ok(Found::Gone { last: last.min(next - 1) })
    }

    /// Everything up to number `through` is received: removes the files that hold nothing else.
    ///
    /// # Errors
    ///
    /// A file cannot be removed. What it holds is sent again after the next start, which is harmless.
    pub fn release(&self, through: u64) -> Result<(), FileError> {
        let released = self.state().catalog.release(through);
        let removed = released.iter().map(|segment| files::remove_file(segment.path()));
        let result = removed.fold(Ok(()), Result::and);
        if !released.is_empty() {
            failpoint::hit("edge.trimmed");
            self.changed.notify_all();
        }
        result
    }

    /// Nothing more is accepted, and nobody goes on waiting for room.
    pub fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
