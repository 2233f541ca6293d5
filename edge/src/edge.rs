//! The producer's handle.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mysimbdp_platform::clock;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::EdgeError;
use crate::message::{Position, SourceMessage};
use crate::outbox::{Outbox, Writer};
use crate::publisher::{PublishProgress, Publisher};
use crate::settings::EdgeSettings;
use crate::statistics::{PublishCounts, Statistics};

/// A numbered source that publishes.
///
/// A message that [`Edge::send`] has accepted is published until the platform confirms that it is stored, or rejected
/// with a reason: across outages of broker and platform, and restarts of this process. It may be published more than
/// once; its number ensures that it is stored once. [`Edge::close`] ends the edge and waits for its tasks; dropping it ends
/// it without waiting.
#[derive(Debug)]
pub struct Edge {
    settings: Arc<EdgeSettings>,
    outbox: OpenOutbox,
    writer: Writer,
    progress: watch::Receiver<PublishProgress>,
    counts: Arc<PublishCounts>,
    /// What was accepted and received when it was opened.
    opened_with: (u64, u64),
    stop: watch::Sender<bool>,
    publisher: JoinHandle<()>,
}

/// The state of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The number of the last message that is on disk; 0 if there is none yet.
    pub accepted: u64,
    /// All numbers through this one are stored, rejected, or lost for good.
    pub received_through: u64,
    /// The size of the outbox on disk.
    pub outbox_bytes: u64,
    /// A message is waiting for space in the outbox.
    pub full: bool,
    /// The broker is connected.
    pub connected: bool,
}

/// Closes the outbox when dropped, so that no call waits forever for space.
#[derive(Debug)]
struct OpenOutbox(Arc<Outbox>);

impl Drop for OpenOutbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Edge {
    /// Opens the outbox, or creates one with a new epoch, and starts to publish its messages. The broker may be
    /// unavailable. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// A setting is out of range, the broker's address is invalid, another process has locked the outbox, the outbox
    /// belongs to another source, or it cannot be read.
    pub async fn open(settings: EdgeSettings) -> Result<Self, EdgeError> {
        settings.check()?;
        let settings = Arc::new(settings);
        let shared = Arc::clone(&settings);
        let opened = tokio::task::spawn_blocking(move || {
            Outbox::open(&shared.outbox, shared.capacity_bytes, &shared.client, &shared.source)
        });
        let outbox = Arc::new(opened.await.map_err(|_| EdgeError::Closed)??);
        let publisher = Publisher::new(Arc::clone(&settings), Arc::clone(&outbox))?;
        let (progress, counts) = (publisher.watch_progress(), publisher.counts());
        let opened_with = (outbox.accepted(), progress.borrow().received_through);
        let stop = watch::Sender::new(false);
        let publisher = tokio::spawn(publisher.run(stop.subscribe()));
        let writer = Writer::start(Arc::clone(&outbox));
        Ok(Self {
            settings,
            outbox: OpenOutbox(outbox),
            writer,
            progress,
            counts,
            opened_with,
            stop,
            publisher,
        })
    }

    /// Accepts a message and returns its number once it is on disk. Waits while the outbox is full.
    ///
    /// Messages are numbered in the order of the calls. A call that is dropped before it returns may still have
    /// accepted its message. Concurrent calls share one `fsync`, as do the messages of one [`Edge::send_batch`].
    ///
    /// # Errors
    ///
    /// The message is too large, the outbox cannot be written, or the edge is being closed.
    pub async fn send(&self, payload: impl Into<Bytes>) -> Result<u64, EdgeError> {
        self.send_batch(vec![SourceMessage::from(payload.into())]).await.map(|numbers| *numbers.end())
    }

    /// Accepts messages in order and returns their numbers once all are on disk. They need not fit into the outbox
    /// together: the first may have been received and removed before the last is written.
    ///
    /// # Errors
    ///
    /// As for [`Edge::send`]. If one is too large, none is accepted; after any other error the first of them may have been
    /// accepted, and [`Edge::position`] tells which.
    pub async fn send_batch(&self, messages: Vec<SourceMessage>) -> Result<RangeInclusive<u64>, EdgeError> {
        let bytes_max = self.settings.message_bytes_max;
        if let Some(bytes) =
            messages.iter().map(|message| message.payload.len()).find(|bytes| *bytes > bytes_max)
        {
            return Err(EdgeError::TooLarge { bytes, bytes_max });
        }
        self.writer.append(messages).await
    }

    /// The position of the last accepted message, also if an earlier process accepted it: the producer continues there.
    pub fn position(&self) -> Position {
        self.outbox.0.position()
    }

    /// The number of the last accepted message; 0 if there is none yet.
    pub fn accepted(&self) -> u64 {
        self.outbox.0.accepted()
    }

    /// All messages through this number are received: stored, rejected with a reason, or lost for good. After a start, this
    /// is a lower bound until the platform's first receipt.
    pub fn received_through(&self) -> u64 {
        self.progress.borrow().received_through
    }

    /// The epoch of the numbers.
    pub fn epoch(&self) -> u64 {
        self.outbox.0.epoch
    }

    pub fn status(&self) -> Status {
        let PublishProgress { received_through, connected } = *self.progress.borrow();
        Status {
            accepted: self.accepted(),
            received_through,
            outbox_bytes: self.outbox.0.bytes(),
            full: self.outbox.0.is_full(),
            connected,
        }
    }

    /// What the edge has done since it was opened, and what waits.
    pub fn statistics(&self) -> Statistics {
        let PublishProgress { received_through, connected } = *self.progress.borrow();
        let (outbox, accepted) = (&self.outbox.0, self.accepted());
        let now = SystemTime::from(clock::now());
        let oldest_waiting = outbox.oldest_accepted_at().and_then(|at| now.duration_since(at).ok());
        Statistics {
            accepted: accepted - self.opened_with.0,
            published: self.counts.published.get(),
            acknowledged: self.counts.acknowledged.get(),
            refused: self.counts.refused.get(),
            confirmed: received_through.saturating_sub(self.opened_with.1),
            connections: self.counts.connections.get(),
            connected,
            waiting: accepted.saturating_sub(received_through),
            oldest_waiting: oldest_waiting.unwrap_or_default(),
            outbox_bytes: outbox.bytes(),
            capacity_bytes: outbox.capacity_bytes,
        }
    }

    /// Waits until all messages accepted so far are received.
    ///
    /// # Errors
    ///
    /// Some are not received within `deadline`. They are still published.
    pub async fn flush(&self, deadline: Duration) -> Result<(), EdgeError> {
        let accepted = self.accepted();
        let mut progress = self.progress.clone();
        let received = progress.wait_for(|progress| progress.received_through >= accepted);
        match timeout(deadline, received).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(EdgeError::Closed),
            Err(_) => {
                let through = self.received_through();
                let count = accepted.saturating_sub(through);
                Err(EdgeError::NotReceived { count, through, seconds: deadline.as_secs_f64() })
            }
        }
    }

    /// Writes the messages of pending calls as far as the outbox has space, then disconnects. Messages that are not received
    /// yet stay in the outbox and are published after the next start.
    pub async fn close(self) {
        let Self { outbox, writer, stop, publisher, .. } = self;
        outbox.0.close();
        writer.end().await;
        stop.send_replace(true);
        if let Err(error) = publisher.await {
            tracing::error!(error = %error, "publisher task failed");
        }
    }
}
