//! Announces the documents that are stored, for those who want to know them at once.
//!
//! One announcement is on its way at a time; what is stored meanwhile goes into the next ones. Nothing waits for them: if more
//! is stored than the broker takes, or it is unavailable, announcements are left out, and the numbers of the others show it.

use std::sync::Arc;
use std::time::Instant;

use bson::RawDocumentBuf;
use mysimbdp_broker::Publish;
use mysimbdp_broker::consumer::Consumer;
use mysimbdp_model::error_chain;
use mysimbdp_platform::random;
use mysimbdp_store::announcement::{ANNOUNCE_EVERY, ANNOUNCED_BYTES_MAX, Announcement};
use tokio::task::JoinSet;

/// Documents of more bytes do not wait.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Announces what this process stores.
pub(crate) struct Announcer {
    topic: String,
    process: String,
    /// How many announcements there were, sent or not.
    count: i64,
    waiting: Vec<RawDocumentBuf>,
    waiting_bytes: usize,
    /// When the last one was begun, and on which connection.
    last: Option<(Instant, u64)>,
    /// At most one.
    sending: JoinSet<()>,
}

impl Announcer {
    pub(crate) fn new(topic: String) -> Self {
        Self {
            topic,
            process: format!("{:016x}", random::number()),
            count: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            last: None,
            sending: JoinSet::new(),
        }
    }

    /// Adds documents that are durable.
    pub(crate) fn add(&mut self, documents: Vec<RawDocumentBuf>) {
        for document in documents {
            let bytes = Announcement::bytes(&document);
            self.waiting_bytes += bytes;
            if bytes > ANNOUNCED_BYTES_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
                self.leave_out();
            } else {
                self.waiting.push(document);
            }
        }
    }

    /// Sends an announcement, unless one is on its way, if documents wait, or it is time to be heard again.
    pub(crate) fn send(&mut self, consumer: &Arc<Consumer>) {
        let stats = consumer.stats();
        if !stats.connected || !self.sending.is_empty() {
            return;
        }
        let is_due = self
            .last
            .is_none_or(|(at, connection)| at.elapsed() >= ANNOUNCE_EVERY || connection != stats.generation);
        if self.waiting.is_empty() && !is_due {
            return;
        }
        self.last = Some((Instant::now(), stats.generation));
        self.count += 1;
        let documents = self.take();
        let announcement = Announcement::new(&self.process, self.count, documents);
        let payload = match announcement.to_bytes() {
            Ok(payload) => payload,
            Err(error) => return tracing::debug!(%error, "not announced"),
        };
        let (publish, consumer) = (Publish::new(&self.topic, payload), Arc::clone(consumer));
        self.sending.spawn(async move {
            if let Err(error) = consumer.publish(publish).await {
                tracing::debug!(error = %error_chain(&error), "not announced");
            }
        });
    }

    /// Waits until the announcement that is on its way has arrived, or not; for ever if there is none.
    pub(crate) async fn sent(&mut self) {
        if self.sending.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Sends all that waits.
    pub(crate) async fn finish(&mut self, consumer: &Arc<Consumer>) {
        loop {
            self.send(consumer);
            if self.sending.join_next().await.is_none() {
                return;
            }
        }
    }

    /// Forgets what waits. Its number will be missing.
    fn leave_out(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.count += 1;
    }

    /// The first documents, as many as an announcement may have.
    fn take(&mut self) -> Vec<RawDocumentBuf> {
        let mut bytes = 0;
        let fits = |document: &&RawDocumentBuf| {
            bytes += Announcement::bytes(document);
            bytes <= ANNOUNCED_BYTES_MAX
        };
        let count = self.waiting.iter().take_while(fits).count();
        let taken: Vec<RawDocumentBuf> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= taken.iter().map(|document| Announcement::bytes(document)).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn documents_are_announced_in_parts_and_what_is_left_out_leaves_a_gap() {
        let mut announcer = Announcer::new("t".to_owned());
        let small = rawdoc! { "text": "x".repeat(1000) };
        announcer.add(vec![small.clone(); 100]);
        let parts: Vec<usize> = std::iter::repeat_with(|| announcer.take().len()).take(3).collect();
        assert_eq!(parts, [60, 40, 0]);
        assert_eq!((announcer.waiting_bytes, announcer.count), (0, 0));

        let large = rawdoc! { "text": "x".repeat(ANNOUNCED_BYTES_MAX) };
        announcer.add(vec![small.clone(), large, small.clone()]);
        assert_eq!((announcer.take(), announcer.count), (vec![small.clone()], 1));

        announcer.add(vec![small; WAITING_BYTES_MAX / 1000]);
        assert_eq!(announcer.count, 2, "too many wait");
        assert!(announcer.waiting_bytes < WAITING_BYTES_MAX);
    }
}
