//! The thread that appends to an outbox.
//!
//! All requests that have come while the last `fsync` ran share the next one. An entry becomes visible, gets its number
//! and is answered for only after that.

use std::fs::File;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_platform::failpoint;
use mysimbdp_platform::files::{self, FileError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::segment::Segment;
use super::{Outbox, OutboxError, SEGMENTS, frame};
use crate::error::EdgeError;
use crate::message::{Message, Position};

/// Requests that may wait for the writer.
const REQUESTS_MAX: usize = 1024;
/// Bytes that may wait for it; a larger request waits alone.
const WAITING_BYTES_MAX: u32 = 8 << 20;
/// Written at once.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// How often a full disk is tried again.
const DISK_FULL_RETRY: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<RangeInclusive<u64>, EdgeError>>;

/// The callers' side of the writer.
#[derive(Debug)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
    bytes: Arc<Semaphore>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Request {
    messages: Vec<Message>,
    answer: Answer,
    _bytes: OwnedSemaphorePermit,
}

impl Writer {
    pub fn start(outbox: Arc<Outbox>) -> Self {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let thread = tokio::task::spawn_blocking(move || Appender::new(&outbox).run(queue));
        Self { requests, bytes: Arc::new(Semaphore::new(WAITING_BYTES_MAX as usize)), thread }
    }

    /// Appends messages, in order and without others between them; returns their numbers when they are durable.
    pub async fn append(&self, messages: Vec<Message>) -> Result<RangeInclusive<u64>, EdgeError> {
        let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        let bytes = u32::try_from(bytes).unwrap_or(WAITING_BYTES_MAX).min(WAITING_BYTES_MAX);
        let permit =
            Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(|_| EdgeError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { messages, answer, _bytes: permit };
        self.requests.send(request).await.map_err(|_| EdgeError::Closed)?;
        answered.await.map_err(|_| EdgeError::Closed)?
    }

    /// Waits until what has been handed over is written. The outbox is closed already, so it waits for no room.
    pub async fn end(self) {
        drop(self.requests);
        if let Err(error) = self.thread.await {
            tracing::error!(error = %error, "the writer of the outbox has failed");
        }
    }
}

/// The thread's side.
struct Appender<'a> {
    outbox: &'a Outbox,
    /// The last segment, opened for appending.
    file: Option<File>,
    /// Entries that are encoded and not yet written; they all go to the last segment.
    buffer: Vec<u8>,
    encoded: Vec<(Position, u64)>,
    /// Requests whose entries are all encoded.
    complete: Vec<(Answer, RangeInclusive<u64>)>,
    /// After this the file is in a state that nobody knows; only a new start reads what there is.
    failed: Option<EdgeError>,
}

impl<'a> Appender<'a> {
    fn new(outbox: &'a Outbox) -> Self {
        Self {
            outbox,
            file: None,
            buffer: Vec::new(),
            encoded: Vec::new(),
            complete: Vec::new(),
            failed: None,
        }
    }

    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::new();
        while queue.blocking_recv_many(&mut requests, REQUESTS_MAX) > 0 {
            for Request { messages, answer, _bytes } in requests.drain(..) {
                match self.encode(&messages) {
                    Ok(numbers) => self.complete.push((answer, numbers)),
                    // Nobody waits for the answer any more, or reads it.
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            // Each request has had its answer.
            let _ = self.commit();
        }
    }

    fn encode(&mut self, messages: &[Message]) -> Result<RangeInclusive<u64>, EdgeError> {
        let mut first = None;
        for Message { payload, position } in messages {
            let bytes = frame::encoded_bytes(position, payload) as u64;
            self.make_room(bytes)?;
            let number = self.outbox.accepted() + self.encoded.len() as u64 + 1;
            first.get_or_insert(number);
            frame::encode(&mut self.buffer, number, position, payload);
            self.encoded.push((position.clone(), bytes));
        }
        let last = self.outbox.accepted() + self.encoded.len() as u64;
        Ok(first.unwrap_or(last + 1)..=last)
    }

    /// Returns when an entry of so many bytes fits into the capacity and into the last segment.
    fn make_room(&mut self, bytes: u64) -> Result<(), EdgeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.buffer.len() as u64 + bytes > WRITE_BYTES_MAX as u64 {
            self.commit()?;
        }
        let capacity = self.outbox.capacity_bytes;
        if self.outbox.bytes() + self.buffer.len() as u64 + bytes > capacity {
            // What comes first is sent meanwhile, and what it leaves is the room.
            self.commit()?;
            self.wait_for_room(capacity.saturating_sub(bytes))?;
        }
        let used = self.outbox.state().catalog.last().bytes + self.buffer.len() as u64;
        if used > 0 && used + bytes > capacity / SEGMENTS {
            self.commit()?;
            self.begin_segment()?;
        }
        Ok(())
    }

    fn wait_for_room(&self, bytes_max: u64) -> Result<(), EdgeError> {
        let mut state = self.outbox.state();
        while state.catalog.bytes() > bytes_max {
            if state.closing {
                return Err(EdgeError::Closed);
            }
            if !state.full {
                tracing::warn!(
                    outbox = %self.outbox.directory.display(),
                    bytes = state.catalog.bytes(),
                    "outbox is full, waiting until the platform has received something"
                );
                state.full = true;
            }
            state = self.outbox.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        if std::mem::take(&mut state.full) {
            tracing::info!(outbox = %self.outbox.directory.display(), "outbox has room again");
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), EdgeError> {
        let directory = &self.outbox.directory;
        let next = self.outbox.state().catalog.last().next();
        let segment = retry_while_full(self.outbox, || {
            // One that was left by an attempt that failed, perhaps before its name was durable.
            match Segment::create(directory, next) {
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                    files::sync_dir(directory)?;
                    Segment::open(directory, next)
                }
                other => other,
            }
        });
        let segment = segment.map_err(|error| self.fail(error))?;
        failpoint::hit("edge.segment-begun");
        self.outbox.state().catalog.push(segment);
        self.file = None;
        Ok(())
    }

    /// Makes what is encoded durable, then visible, then answers.
    fn commit(&mut self) -> Result<(), EdgeError> {
        let result = if self.buffer.is_empty() { Ok(()) } else { self.write() };
        if result.is_ok() {
            self.publish();
        }
        self.buffer.clear();
        self.encoded.clear();
        for (answer, numbers) in self.complete.drain(..) {
            // Whoever has gone does not want to know.
            let _ = answer.send(result.clone().map(|()| numbers));
        }
        result
    }

    fn write(&mut self) -> Result<(), EdgeError> {
        let (path, bytes) = {
            let state = self.outbox.state();
            (state.catalog.last().path().to_owned(), state.catalog.last().bytes)
        };
        let Self { outbox, file, buffer, .. } = self;
        let error = |action| {
            let path = path.clone();
            move |source| FileError { action, path, source }
        };
        let mut torn = false;
        let written = retry_while_full(outbox, || {
            let file = match file {
                Some(file) => file,
                None => file.insert(files::append(&path)?),
            };
            if torn {
                file.set_len(bytes).map_err(error("cut"))?;
            }
            let written = file.write_all(buffer).and_then(|()| {
                failpoint::hit("edge.appended");
                file.sync_data()
            });
            written.map_err(error("write")).inspect_err(|_| {
                // Half an entry would hide all that is written after it. If this fails too, it is done before the next
                // attempt, or by the next start.
                torn = file.set_len(bytes).is_err();
            })
        });
        written.map_err(|error| self.fail(error))
    }

    fn publish(&mut self) {
        failpoint::hit("edge.synced");
        let mut state = self.outbox.state();
        for (position, bytes) in self.encoded.drain(..) {
            state.catalog.note(&position, bytes);
        }
        let accepted = state.catalog.accepted();
        drop(state);
        self.outbox.accepted.send_replace(accepted);
        failpoint::hit("edge.accepted");
    }

    fn fail(&mut self, error: FileError) -> EdgeError {
        if self.outbox.state().closing && is_full(&error) {
            return EdgeError::Closed;
        }
        let error = EdgeError::Outbox(OutboxError::from(error));
        tracing::error!(error = %mysimbdp_model::error_chain(&error), "outbox cannot be written, nothing more is accepted");
        self.failed.insert(error).clone()
    }
}

fn is_full(error: &FileError) -> bool {
    matches!(error.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A full disk is no error but a reason to wait, as a full outbox is; unless it is closing.
fn retry_while_full<T>(
    outbox: &Outbox,
    mut attempt: impl FnMut() -> Result<T, FileError>,
) -> Result<T, FileError> {
    let mut told = false;
    loop {
        match attempt() {
            Err(error) if is_full(&error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(error = %mysimbdp_model::error_chain(&error), "no room for the outbox on its disk, waiting");
                }
                let state = outbox.state();
                if state.closing {
                    return Err(error);
                }
                drop(outbox.changed.wait_timeout(state, DISK_FULL_RETRY));
            }
            other => return other,
        }
    }
}
