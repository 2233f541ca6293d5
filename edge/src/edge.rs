//! The handle of a producer.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::EdgeError;
use crate::message::{Message, Position};
use crate::outbox::{Outbox, Writer};
use crate::publisher::{Progress, Publisher};
use crate::settings::Settings;

/// A numbered source that publishes.
///
/// What [`Edge::send`] has accepted is published until the platform confirms that it is stored, or rejected with its
/// reason: across outages of broker and platform, and restarts of this process. It may be published more than once; its
/// number makes sure that it is stored once. [`Edge::close`] ends it; dropped, it ends too, and nobody waits for that.
#[derive(Debug)]
pub struct Edge {
    settings: Arc<Settings>,
    outbox: OpenOutbox,
    writer: Writer,
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
    publisher: JoinHandle<()>,
}

/// Where an edge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The number of the last message that is on disk; 0 before the first.
    pub accepted: u64,
    /// All numbers through this one are stored, rejected, or lost for good.
    pub received_through: u64,
    /// What the outbox takes on disk.
    pub outbox_bytes: u64,
    /// A message waits for room in the outbox.
    pub full: bool,
    /// The broker is there.
    pub connected: bool,
}

/// Lets nobody wait for room for ever.
#[derive(Debug)]
struct OpenOutbox(Arc<Outbox>);

impl Drop for OpenOutbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Edge {
    /// Opens the outbox, or makes one with a new epoch, and starts to publish what it holds. The broker may be away.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// A setting is out of range, the broker's address is none, another process has the outbox, it is another source's,
    /// or it cannot be read.
    pub async fn open(settings: Settings) -> Result<Self, EdgeError> {
        settings.check()?;
        let settings = Arc::new(settings);
        let of = Arc::clone(&settings);
        let opened = tokio::task::spawn_blocking(move || {
            Outbox::open(&of.outbox, of.capacity_bytes, &of.client, &of.source)
        });
        let outbox = Arc::new(opened.await.map_err(|_| EdgeError::Closed)??);
        let publisher = Publisher::new(Arc::clone(&settings), Arc::clone(&outbox))?;
        let progress = publisher.watch_progress();
        let stop = watch::Sender::new(false);
        let publisher = tokio::spawn(publisher.run(stop.subscribe()));
        let writer = Writer::start(Arc::clone(&outbox));
        Ok(Self { settings, outbox: OpenOutbox(outbox), writer, progress, stop, publisher })
    }

    /// Accepts a message and returns its number, once it is on disk. While the outbox is full, it waits.
    ///
    /// Messages are numbered in the order of the calls. A call that is dropped before it returns may have accepted its
    /// message all the same. Many calls at a time share one `fsync`, as do the messages of one [`Edge::send_batch`].
    ///
    /// # Errors
    ///
    /// The message is too large, the outbox cannot be written, or the edge is being closed.
    pub async fn send(&self, payload: impl Into<Bytes>) -> Result<u64, EdgeError> {
        self.send_batch(vec![Message::from(payload.into())]).await.map(|numbers| *numbers.end())
    }

    /// Accepts messages, one after the other, and returns their numbers once all are on disk. They need not fit into the
    /// outbox together: the first may have been received when the last finds room.
    ///
    /// # Errors
    ///
    /// As [`Edge::send`]. If one is too large, none is accepted; after any other error the first of them may have been,
    /// and [`Edge::position`] says which.
    pub async fn send_batch(&self, messages: Vec<Message>) -> Result<RangeInclusive<u64>, EdgeError> {
        let bytes_max = self.settings.message_bytes_max;
        if let Some(bytes) =
            messages.iter().map(|message| message.payload.len()).find(|bytes| *bytes > bytes_max)
        {
            return Err(EdgeError::TooLarge { bytes, bytes_max });
        }
        self.writer.append(messages).await
    }

    /// The position of the last message that was accepted, also by an earlier process: there its producer goes on.
    pub fn position(&self) -> Position {
        self.outbox.0.position()
    }

    /// The number of the last message that was accepted; 0 before the first.
    pub fn accepted(&self) -> u64 {
        self.outbox.0.accepted()
    }

    /// All messages through this number are received: stored, rejected with a reason, or lost for good. After a start it
    /// is a lower bound, until the platform's first receipt.
    pub fn received_through(&self) -> u64 {
        self.progress.borrow().received_through
    }

    /// The epoch of the numbers.
    pub fn epoch(&self) -> u64 {
        self.outbox.0.epoch
    }

    pub fn status(&self) -> Status {
        let Progress { received_through, connected } = *self.progress.borrow();
        Status {
            accepted: self.accepted(),
            received_through,
            outbox_bytes: self.outbox.0.bytes(),
            full: self.outbox.0.is_full(),
            connected,
        }
    }

    /// Waits until everything that has been accepted so far is received.
    ///
    /// # Errors
    ///
    /// It is not within `deadline`; it goes on being published.
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

    /// Ends: writes what has been handed over, as far as there is room, and disconnects. What is not received yet stays
    /// in the outbox and is published after the next start.
    pub async fn close(self) {
        let Self { outbox, writer, stop, publisher, .. } = self;
        outbox.0.close();
        writer.end().await;
        stop.send_replace(true);
        if let Err(error) = publisher.await {
            tracing::error!(error = %error, "the publisher has failed");
        }
    }
}
