//! The thread that appends to an outbox.
//!
//! All requests that arrive while an `fsync` runs share the next one. Only after that are their entries accepted, and their
//! numbers returned.

use std::fs::File;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::{clock, failpoint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::segment::OutboxSegment;
use super::{Outbox, OutboxError, SEGMENTS, frame};
use crate::error::EdgeError;
use crate::message::{Position, SourceMessage};

/// How many requests may wait for the writer.
const REQUESTS_MAX: usize = 1024;
/// How many bytes may wait for it; a larger request waits alone.
const WAITING_BYTES_MAX: u32 = 8 << 20;
/// The bytes of one write.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// The interval between attempts to write to a full disk.
const DISK_FULL_RETRY: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<RangeInclusive<u64>, EdgeError>>;

/// The callers' handle of the writer.
#[derive(Debug)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
    bytes: Arc<Semaphore>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Request {
    messages: Vec<SourceMessage>,
    answer: Answer,
    _bytes: OwnedSemaphorePermit,
}

impl Writer {
    pub fn start(outbox: Arc<Outbox>) -> Self {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let thread = tokio::task::spawn_blocking(move || Appender::new(&outbox).run(queue));
        Self { requests, bytes: Arc::new(Semaphore::new(WAITING_BYTES_MAX as usize)), thread }
    }

    /// Appends messages, in order and without others in between, and returns their numbers when they are durable.
    pub async fn append(&self, messages: Vec<SourceMessage>) -> Result<RangeInclusive<u64>, EdgeError> {
        let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        let bytes = u32::try_from(bytes).unwrap_or(WAITING_BYTES_MAX).min(WAITING_BYTES_MAX);
        let permit =
            Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(|_| EdgeError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { messages, answer, _bytes: permit };
        self.requests.send(request).await.map_err(|_| EdgeError::Closed)?;
        answered.await.map_err(|_| EdgeError::Closed)?
    }

    /// Waits until all pending requests are written or refused. The outbox is already closed, so they do not wait for space.
    pub async fn end(self) {
        drop(self.requests);
        if let Err(error) = self.thread.await {
            tracing::error!(error = %error, "outbox writer failed");
        }
    }
}

/// The state of the writer's thread.
struct Appender<'a> {
    outbox: &'a Outbox,
    /// The last segment, opened for appending.
    file: Option<File>,
    /// Entries that are encoded and not yet written, all for the last segment.
    buffer: Vec<u8>,
    /// The position and length of each entry in `buffer`.
    encoded: Vec<(Position, u64)>,
    /// The requests whose entries are all encoded.
    complete: Vec<(Answer, RangeInclusive<u64>)>,
    /// The error after which the content of the file is unknown. Only a restart reads it again.
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
                    // Sending fails only if the caller has stopped waiting.
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            // Each request has received its answer, including an error.
            let _ = self.commit();
        }
    }

    fn encode(&mut self, messages: &[SourceMessage]) -> Result<RangeInclusive<u64>, EdgeError> {
        let mut first = None;
        for SourceMessage { payload, position } in messages {
            let bytes = frame::encoded_bytes(position, payload) as u64;
            self.ensure_fits(bytes)?;
            let number = self.outbox.accepted() + self.encoded.len() as u64 + 1;
            first.get_or_insert(number);
            frame::encode(&mut self.buffer, number, position, payload);
            self.encoded.push((position.clone(), bytes));
        }
        let last = self.outbox.accepted() + self.encoded.len() as u64;
        Ok(first.unwrap_or(last + 1)..=last)
    }

    /// Returns when an entry of `bytes` bytes fits into the capacity and into the last segment.
    fn ensure_fits(&mut self, bytes: u64) -> Result<(), EdgeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.buffer.len() as u64 + bytes > WRITE_BYTES_MAX as u64 {
            self.commit()?;
        }
        let capacity = self.outbox.capacity_bytes;
        if self.outbox.bytes() + self.buffer.len() as u64 + bytes > capacity {
            // The entries encoded so far must be accepted first: they can be sent, and their removal frees space.
            self.commit()?;
            self.wait_for_space(capacity.saturating_sub(bytes))?;
        }
        let used = self.outbox.state().catalog.last().bytes + self.buffer.len() as u64;
        if used > 0 && used + bytes > capacity / SEGMENTS {
            self.commit()?;
            self.begin_segment()?;
        }
        Ok(())
    }

    fn wait_for_space(&self, bytes_max: u64) -> Result<(), EdgeError> {
        let mut state = self.outbox.state();
        while state.catalog.bytes() > bytes_max {
            if state.closing {
                return Err(EdgeError::Closed);
            }
            if !state.full {
                tracing::warn!(
                    outbox = %self.outbox.directory.display(),
                    bytes = state.catalog.bytes(),
                    "outbox is full, waiting until the platform has received messages"
                );
                state.full = true;
            }
            state = self.outbox.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        if std::mem::take(&mut state.full) {
            tracing::info!(outbox = %self.outbox.directory.display(), "outbox has space again");
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), EdgeError> {
        let directory = &self.outbox.directory;
        let next = self.outbox.state().catalog.last().next();
        let segment = retry_while_full(self.outbox, || {
            // A failed attempt may have left the segment, perhaps before its name was durable.
            match OutboxSegment::create(directory, next) {
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                    files::sync_dir(directory)?;
                    OutboxSegment::open(directory, next)
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

    /// Makes the encoded entries durable, marks them as accepted, then answers the requests.
    fn commit(&mut self) -> Result<(), EdgeError> {
        let result = if self.buffer.is_empty() { Ok(()) } else { self.write() };
        if result.is_ok() {
            self.mark_accepted();
        }
        self.buffer.clear();
        self.encoded.clear();
        for (answer, numbers) in self.complete.drain(..) {
            // A caller that has stopped waiting needs no answer.
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
                // A partial entry would make all entries after it unreadable. If this fails too, it is done before the next
                // attempt, or at the next start.
                torn = file.set_len(bytes).is_err();
            })
        });
        written.map_err(|error| self.fail(error))
    }

    fn mark_accepted(&mut self) {
        failpoint::hit("edge.synced");
        let mut state = self.outbox.state();
        for (position, bytes) in self.encoded.drain(..) {
            state.catalog.add_entry(&position, bytes);
        }
        let accepted = state.catalog.accepted();
        state.times.accepted(accepted, clock::now().into());
        drop(state);
        self.outbox.accepted.send_replace(accepted);
        failpoint::hit("edge.accepted");
    }

    fn fail(&mut self, error: FileError) -> EdgeError {
        if self.outbox.state().closing && is_full(&error) {
            return EdgeError::Closed;
        }
        let error = EdgeError::Outbox(OutboxError::from(error));
        tracing::error!(error = %mysimbdp_model::error_chain(&error), "cannot write the outbox, no further messages are accepted");
        self.failed.insert(error).clone()
    }
}

fn is_full(error: &FileError) -> bool {
    matches!(error.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Repeats `attempt` while the disk is full: like a full outbox, that is a reason to wait and not an error, unless the outbox is
/// closing.
fn retry_while_full<T>(
    outbox: &Outbox,
    mut attempt: impl FnMut() -> Result<T, FileError>,
) -> Result<T, FileError> {
    let mut logged = false;
    loop {
        match attempt() {
            Err(error) if is_full(&error) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::warn!(error = %mysimbdp_model::error_chain(&error), "no disk space for the outbox, waiting");
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
