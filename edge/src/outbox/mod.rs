//! The messages that are accepted and not yet received, on disk, first in, first out.
//!
//! - [`frame`]: the encoding of an entry; [`segment`]: one file; [`catalog`]: the durable content of all files;
//! - [`writer`]: the thread that appends, with one `fsync` for all requests that have arrived meanwhile;
//! - [`metadata`]: the owner of the outbox, and the epoch of its numbers; [`times`]: since when messages wait.
//!
//! Reading uses memory only for the entries that it returns. A file is removed as a whole, once all its messages are received.

mod catalog;
mod frame;
mod metadata;
mod segment;
#[cfg(test)]
mod tests;
mod times;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::source::SourceName;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::lock::{Lock, LockError};
use mysimbdp_platform::{failpoint, modes};
use tokio::sync::watch;

use crate::message::Position;
use catalog::Catalog;
use times::AcceptTimes;

pub use frame::{Entry, OVERHEAD_BYTES_MAX, PAYLOAD_BYTES_MAX};
pub use writer::Writer;

/// The capacity is divided into this many segments. A segment is removed as a whole, so messages that were received in
/// order occupy at most about one segment.
pub const SEGMENTS: u64 = 16;

/// Why an outbox cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutboxError {
    #[error(transparent)]
    File(Arc<FileError>),
    #[error(transparent)]
    Lock(Arc<LockError>),
    #[error(
        "invalid or missing outbox metadata {}: restore this file, or move the directory away to begin a new epoch",
        path.display()
    )]
    InvalidMetadata { path: PathBuf },
    #[error("{} is the outbox of source {source_name} of client {client}", directory.display())]
    OtherSource { directory: PathBuf, client: ClientId, source_name: SourceName },
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
    pub capacity_bytes: u64,
    directory: PathBuf,
    state: Mutex<State>,
    /// Notified when something was released, or the outbox is closing.
    changed: Condvar,
    accepted: watch::Sender<u64>,
    _lock: Lock,
}

#[derive(Debug)]
struct State {
    catalog: Catalog,
    times: AcceptTimes,
    /// The writer is waiting for space.
    full: bool,
    closing: bool,
}

/// The result of reading a run of numbers.
#[derive(Debug)]
pub enum ReadResult {
    /// The first entries of the run, at least one.
    Entries(Vec<Entry>),
    /// The outbox does not have the first numbers of the run, through this one.
    Lost { last: u64 },
}

impl Outbox {
    /// Opens the outbox in `directory`, or creates one.
    pub fn open(
        directory: &Path,
        capacity_bytes: u64,
        client: &ClientId,
        source: &SourceName,
    ) -> Result<Self, OutboxError> {
        modes::create_private_directory(directory)?;
        let lock = Lock::take(directory, "edge").map_err(|error| OutboxError::Lock(Arc::new(error)))?;
        let epoch = metadata::epoch(directory, client, source)?;
        failpoint::hit("edge.epoch-created");
        // The names must be durable before there is an entry with this epoch. This includes those of an existing outbox, because
        // its last process may have been killed before it synced them.
        files::sync_names(directory)?;
        let catalog = Catalog::open(directory)?;
        let mut times = AcceptTimes::default();
        catalog.written().for_each(|(last, at)| times.accepted(last, at));
        let accepted = watch::Sender::new(catalog.accepted());
        Ok(Self {
            epoch,
            directory: directory.to_owned(),
            capacity_bytes,
            state: Mutex::new(State { catalog, times, full: false, closing: false }),
            changed: Condvar::new(),
            accepted,
            _lock: lock,
        })
    }

    /// The number of the last accepted message; 0 if there is none yet.
    pub fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }

    pub fn watch_accepted(&self) -> watch::Receiver<u64> {
        self.accepted.subscribe()
    }

    /// The oldest number that the outbox may still have.
    pub fn oldest(&self) -> u64 {
        self.state().catalog.oldest()
    }

    pub fn position(&self) -> Position {
        self.state().catalog.position()
    }

    pub fn bytes(&self) -> u64 {
        self.state().catalog.bytes()
    }

    /// When the oldest message was accepted that is not released; `None` if there is none.
    pub fn oldest_accepted_at(&self) -> Option<SystemTime> {
        self.state().times.oldest()
    }

    /// Whether a message is waiting for space.
    pub fn is_full(&self) -> bool {
        self.state().full
    }

    /// Reads entries from number `first` through `last`, about `bytes_max` bytes at most.
    pub fn read(&self, first: u64, last: u64, bytes_max: usize) -> Result<ReadResult, FileError> {
        let found = self.state().catalog.find(first);
        let next = match found {
            Ok(view) => {
                let entries = view.read(first, last, bytes_max)?;
                if !entries.is_empty() {
                    return Ok(ReadResult::Entries(entries));
                }
                first + 1
            }
            Err(next) => next.unwrap_or(u64::MAX),
        };
        Ok(ReadResult::Lost { last: last.min(next - 1) })
    }

    /// All messages up to number `through` are received: removes the files that contain no others.
    ///
    /// # Errors
    ///
    /// A file cannot be removed. Its messages are sent again after the next start, which is harmless.
    pub fn release(&self, through: u64) -> Result<(), FileError> {
        let released = {
            let mut state = self.state();
            state.times.release(through);
            state.catalog.release(through)
        };
        let removed = released.iter().map(|segment| files::remove_file(segment.path()));
        let result = removed.fold(Ok(()), Result::and);
        if !released.is_empty() {
            failpoint::hit("edge.trimmed");
            self.changed.notify_all();
        }
        result
    }

    /// Accepts no further messages, and ends every wait for space.
    pub fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
