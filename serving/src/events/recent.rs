//! The latest events, each formatted once for all listeners, and numbered.
//!
//! Events are published into a batch that nobody sees yet. Sealing it makes it visible: listeners share its bytes, and each
//! of them only knows the number of the next event that it wants.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

/// A batch of this size is sealed at once: so much a listener gets at a time.
const BATCH_BYTES: usize = 32 << 10;

/// How much is kept for listeners that reconnect or read slowly: about 16,000 events of files, which have 500 bytes each.
pub(super) const KEPT_BYTES: usize = 8 << 20;

/// Consecutive events as one text.
#[derive(Debug)]
pub(super) struct Batch {
    first: u64,
    text: Bytes,
    events: Box<[Entry]>,
}

/// Where an event ends in its batch, and the client that it concerns.
#[derive(Debug)]
struct Entry {
    end: usize,
    client: Option<Box<str>>,
}

impl Batch {
    /// The number after the last event.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The events from this number on, those of one client if one is given. Empty if there are none.
    pub(super) fn text(&self, from: u64, client: Option<&str>) -> Bytes {
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let skipped = skipped.min(self.events.len());
        let mut start = self.start(skipped);
        let wanted = &self.events[skipped..];
        let concerns = |entry: &Entry| client.is_none() || entry.client.as_deref() == client;
        if wanted.iter().all(concerns) {
            return self.text.slice(start..);
        }
        let mut text = Vec::new();
        for entry in wanted {
            if concerns(entry) {
                text.extend_from_slice(&self.text[start..entry.end]);
            }
            start = entry.end;
        }
        text.into()
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.events[before].end)
    }
}

/// What there is at a position.
#[derive(Debug)]
pub(super) enum Found {
    /// The batch that contains it.
    Batch(Arc<Batch>),
    /// Nothing yet.
    Nothing,
    /// It is not kept any more.
    Lost,
}

/// The latest events.
#[derive(Debug)]
pub(super) struct RecentEvents {
    /// In front of the numbers, it distinguishes them from those of other processes.
    process: String,
    sealed: VecDeque<Arc<Batch>>,
    sealed_bytes: usize,
    text: Vec<u8>,
    events: Vec<Entry>,
    /// The number of the next event.
    next: u64,
}

impl RecentEvents {
    pub(super) fn new(process: String) -> Self {
        Self {
            process,
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            text: Vec::new(),
            events: Vec::new(),
            next: 1,
        }
    }

    /// Adds an event, which becomes visible when the batch is sealed.
    pub(super) fn publish(&mut self, name: &str, client: Option<&str>, data: &impl Serialize) {
        let start = self.text.len();
        let head = write!(self.text, "id: {}-{}\nevent: {name}\ndata: ", self.process, self.next);
        // JSON on one line, as the format requires.
        if head.is_err() || serde_json::to_writer(&mut self.text, data).is_err() {
            self.text.truncate(start);
            return;
        }
        self.text.extend_from_slice(b"\n\n");
        self.events.push(Entry { end: self.text.len(), client: client.map(Into::into) });
        self.next += 1;
        if self.text.len() >= BATCH_BYTES {
            self.seal();
        }
    }

    /// Makes all published events visible, and forgets the oldest ones if there are too many.
    pub(super) fn seal(&mut self) {
        if self.events.is_empty() {
            return;
        }
        let batch = Batch {
            first: self.sealed_end(),
            text: std::mem::take(&mut self.text).into_boxed_slice().into(),
            events: std::mem::take(&mut self.events).into(),
        };
        self.sealed_bytes += batch.text.len();
        self.sealed.push_back(Arc::new(batch));
        while self.sealed_bytes > KEPT_BYTES
            && let Some(oldest) = self.sealed.pop_front()
        {
            self.sealed_bytes -= oldest.text.len();
        }
    }

    /// The number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The number after the last visible event.
    pub(super) fn sealed_end(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    /// The id of an event.
    pub(super) fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.process)
    }

    /// The number after the event with this id. `None` if the events after it are not known.
    pub(super) fn after(&self, id: &str) -> Option<u64> {
        let (process, number) = id.rsplit_once('-')?;
        let after = number.parse::<u64>().ok()?.checked_add(1)?;
        (process == self.process && (self.first()..=self.next).contains(&after)).then_some(after)
    }

    pub(super) fn at(&self, position: u64) -> Found {
        if position < self.first() {
            return Found::Lost;
        }
        let index = self.sealed.partition_point(|batch| batch.end() <= position);
        self.sealed.get(index).map_or(Found::Nothing, |batch| Found::Batch(Arc::clone(batch)))
    }

    /// Forgets everything. All positions and ids from before are lost.
    pub(super) fn interrupt(&mut self) {
        self.sealed.clear();
        self.sealed_bytes = 0;
        self.text.clear();
        self.events.clear();
        self.next += 1;
    }

    fn first(&self) -> u64 {
        self.sealed.front().map_or_else(|| self.sealed_end(), |batch| batch.first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recent() -> RecentEvents {
        RecentEvents::new("p".to_owned())
    }

    /// Reads everything that is visible; `None` if the position is lost.
    fn read(recent: &RecentEvents, position: &mut u64, client: Option<&str>) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            match recent.at(*position) {
                Found::Batch(batch) => {
                    text.extend_from_slice(&batch.text(*position, client));
                    assert!(batch.end() > *position, "there is progress");
                    *position = batch.end();
                }
                Found::Nothing => return Some(text),
                Found::Lost => return None,
            }
        }
    }

    #[test]
    fn an_event_is_one_message_and_visible_once_it_is_sealed() {
        let (mut recent, mut position) = (recent(), 1);
        recent.publish("staged", Some("a"), &serde_json::json!({"name": "x\r\n\ny"}));
        assert!(read(&recent, &mut position, None).expect("kept").is_empty());
        recent.seal();
        let text = read(&recent, &mut position, None).expect("kept");
        assert_eq!(text, b"id: p-1\nevent: staged\ndata: {\"name\":\"x\\r\\n\\ny\"}\n\n");
        assert_eq!(position, recent.next());
        recent.seal();
        assert_eq!(recent.sealed.len(), 1, "an empty batch is none");
    }

    #[test]
    fn listeners_of_the_same_events_share_their_bytes() {
        let mut recent = recent();
        for number in 0..3 {
            recent.publish("staged", Some("a"), &number);
        }
        recent.seal();
        let Found::Batch(batch) = recent.at(1) else { panic!("a batch") };
        let bytes = [batch.text(1, None), batch.text(1, Some("a"))].map(|text| text.as_ptr());
        assert_eq!(bytes, [batch.text.as_ptr(); 2]);
        assert_eq!(batch.text(3, None), &batch.text[batch.start(2)..]);
        assert!(batch.text(1, Some("b")).is_empty() && batch.text(9, None).is_empty());
    }

    #[test]
    fn a_full_batch_is_sealed_at_once_and_the_oldest_are_forgotten() {
        let mut recent = recent();
        let data = "x".repeat(1000);
        let mut published = 0;
        while published < KEPT_BYTES + BATCH_BYTES {
            recent.publish("staged", None, &data);
            published += data.len();
        }
        assert!(recent.sealed_bytes <= KEPT_BYTES && recent.text.len() < BATCH_BYTES);
        assert!(recent.sealed_bytes > KEPT_BYTES - 2 * BATCH_BYTES, "not more is forgotten than has to be");
        assert!(matches!(recent.at(1), Found::Lost));
        assert_eq!(recent.after("p-0"), None);
        let first = recent.first();
        assert_eq!(recent.after(&format!("p-{}", first - 1)), Some(first));
        assert_eq!(recent.after(&format!("p-{}", first - 2)), None);
        assert!(read(&recent, &mut recent.first(), None).is_some());
    }

    #[test]
    fn what_was_before_an_interruption_is_lost() {
        let mut recent = recent();
        recent.publish("staged", None, &1);
        recent.seal();
        recent.publish("staged", None, &2);
        let position = recent.next();
        assert_eq!(recent.after("p-2"), Some(position), "it is published, if not visible yet");
        recent.interrupt();
        assert!(matches!(recent.at(position), Found::Lost));
        assert_eq!(recent.after("p-2"), None);
        assert!(matches!(recent.at(recent.next()), Found::Nothing));
        for unknown in ["", "7", "p-", "q-3", "p-9", "p-18446744073709551615"] {
            assert_eq!(recent.after(unknown), None, "{unknown}");
        }
    }

    proptest! {
        /// A listener gets each event of its client once, in order, whenever it reads and however events are sealed.
        #[test]
        fn each_event_is_read_once_and_in_order(
            steps in prop::collection::vec(prop_oneof![
                (0..3usize, 0..20_000usize).prop_map(Some),
                Just(None),
            ], 0..60),
            reads in any::<u64>(),
        ) {
            let clients = [None, Some("a"), Some("b")];
            let (mut recent, mut positions, mut texts) = (recent(), [1; 3], [const { Vec::new() }; 3]);
            let mut expected = [const { Vec::new() }; 3];
            for (index, step) in steps.iter().enumerate() {
                match step {
                    Some((client, size)) => {
                        let (number, data) = (recent.next(), "x".repeat(*size));
                        recent.publish("staged", clients[*client], &data);
                        let message = format!("id: p-{number}\nevent: staged\ndata: \"{data}\"\n\n");
                        expected[0].extend_from_slice(message.as_bytes());
                        if *client > 0 {
                            expected[*client].extend_from_slice(message.as_bytes());
                        }
                    }
                    None => recent.seal(),
                }
                if reads >> (index % 64) & 1 == 1 {
                    for listener in 0..3 {
                        let text = read(&recent, &mut positions[listener], clients[listener]);
                        texts[listener].extend(text.expect("kept"));
                    }
                }
            }
            recent.seal();
            for listener in 0..3 {
                texts[listener].extend(read(&recent, &mut positions[listener], clients[listener]).expect("kept"));
            }
            prop_assert!(texts == expected);
        }
    }
}
