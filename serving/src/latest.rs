//! The latest record of each source, kept in memory.
//!
//! A record is kept when it is read from the store, and replaced by later ones as streams announce them. It is forgotten if
//! something may have changed that is not announced: a file was ingested, an announcement is missing, the connection to the
//! broker was lost. Nothing is kept for longer than [`KEPT_FOR`] without being read again, so a document that was written past
//! the platform is seen too.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use bytes::Bytes;
use lru::LruCache;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_query::records::{self, Concerns, LatestRecord, SourceKey, SourceNames, Stored};

/// How long a record is kept after it was read from the store.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// What all records together may take. The least recently used ones are forgotten.
const BYTES_MAX: usize = 64 << 20;

/// What a record takes besides its content.
const ENTRY_BYTES: usize = 256;

/// Client, view and source.
pub(crate) type Key = (ClientId, String, SourceKey);

/// A record, and since when it is known to be the latest one.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) json: Bytes,
    pub(crate) since: Instant,
}

/// The latest records.
#[derive(Debug)]
pub(crate) struct LatestRecords {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: LruCache<Key, Entry>,
    bytes: usize,
    /// The records that are being read from the store, how many times, and whether something has changed meanwhile.
    reading: HashMap<Key, (usize, bool)>,
}

#[derive(Debug)]
struct Entry {
    /// Without its content, which is `json`.
    record: LatestRecord,
    json: Bytes,
    since: Instant,
    read_at: Instant,
}

/// A read from the store that has begun.
#[derive(Debug)]
pub(crate) struct Reading<'l> {
    latest: &'l LatestRecords,
    key: Key,
}

impl Default for LatestRecords {
    fn default() -> Self {
        let state = State { entries: LruCache::unbounded(), bytes: 0, reading: HashMap::new() };
        Self { state: Mutex::new(state) }
    }
}

impl LatestRecords {
    /// The record, if it is kept.
    pub(crate) fn get(&self, key: &Key) -> Option<Known> {
        let mut state = self.lock();
        let entry = state.entries.get(key)?;
        if entry.read_at.elapsed() < KEPT_FOR {
            return Some(Known { json: entry.json.clone(), since: entry.since });
        }
        state.remove(key);
        None
    }

    /// Begins to read a record from the store.
    pub(crate) fn read(&self, key: Key) -> Reading<'_> {
        self.lock().reading.entry(key.clone()).or_insert((0, false)).0 += 1;
        Reading { latest: self, key }
    }

    /// Considers documents that a stream has stored.
    pub(crate) fn stored(
        &self,
        config: &Config,
        client: &ClientId,
        collection: &str,
        documents: &[RawDocumentBuf],
        sources: &SourceNames,
    ) {
        let Some(settings) = config.client(client) else { return };
        let mut state = self.lock();
        for view in settings.views.values().filter(|view| view.reads(collection)) {
            for document in documents {
                match records::concerns(document, view) {
                    Concerns::Nobody => {}
                    Concerns::Source(source) => {
                        state.consider((client.clone(), view.name.clone(), source), |before| {
                            records::compare_stored(document, collection, client, view, before, sources)
                        });
                    }
                    Concerns::Anybody => {
                        state.forget(|(other, name, _)| other == client && *name == view.name);
                    }
                }
            }
        }
    }

    pub(crate) fn forget_client(&self, client: &ClientId) {
        self.lock().forget(|(other, ..)| other == client);
    }

    pub(crate) fn forget_all(&self) {
        self.lock().forget(|_| true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(json: &Bytes) -> usize {
    json.len() + ENTRY_BYTES
}

impl State {
    fn consider(&mut self, key: Key, compare: impl FnOnce(&LatestRecord) -> Stored) {
        if let Some((_, has_changed)) = self.reading.get_mut(&key) {
            *has_changed = true;
        }
        let Some(entry) = self.entries.peek_mut(&key) else { return };
        match compare(&entry.record) {
            Stored::Earlier => {}
            Stored::Unknown => self.remove(&key),
            Stored::Later(mut record) => {
                let (json, read_at) = (Bytes::from(std::mem::take(&mut record.json)), entry.read_at);
                self.insert(key, record, json, read_at);
            }
        }
    }

    fn insert(&mut self, key: Key, record: LatestRecord, json: Bytes, read_at: Instant) {
        self.remove(&key);
        self.bytes += bytes(&json);
        self.entries.put(key, Entry { record, json, since: Instant::now(), read_at });
        while self.bytes > BYTES_MAX
            && let Some((_, entry)) = self.entries.pop_lru()
        {
            self.bytes -= bytes(&entry.json);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.pop(key) {
            self.bytes -= bytes(&entry.json);
        }
    }

    fn forget(&mut self, concerns: impl Fn(&Key) -> bool) {
        let keys: Vec<Key> = self.entries.iter().map(|(key, _)| key.clone()).filter(&concerns).collect();
        keys.iter().for_each(|key| self.remove(key));
        for (key, (_, has_changed)) in &mut self.reading {
            *has_changed |= concerns(key);
        }
    }
}

impl Reading<'_> {
    /// Keeps what the store has returned, unless something may have changed since the read began.
    pub(crate) fn finish(self, mut record: LatestRecord) -> Bytes {
        let json = Bytes::from(std::mem::take(&mut record.json));
        let mut state = self.latest.lock();
        if state.reading.get(&self.key).is_some_and(|(_, has_changed)| !has_changed) {
            state.insert(self.key.clone(), record, json.clone(), Instant::now());
        }
        json
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = self.latest.lock();
        if let Some((readers, _)) = state.reading.get_mut(&self.key) {
            *readers -= 1;
            if *readers == 0 {
                state.reading.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("a".parse().expect("client id"), "v".to_owned(), SourceKey::Text(name.to_owned()))
    }

    fn record(second: i64, json: &str) -> LatestRecord {
        LatestRecord::at(second, json.as_bytes().to_vec())
    }

    fn json(latest: &LatestRecords, name: &str) -> Option<String> {
        let known = latest.get(&key(name))?;
        Some(String::from_utf8(known.json.to_vec()).expect("text"))
    }

    #[test]
    fn what_is_stored_later_replaces_what_was_read() {
        let latest = LatestRecords::default();
        latest.read(key("s")).finish(record(5, "five"));
        let consider = |stored: Stored| latest.lock().consider(key("s"), |_| stored);
        consider(Stored::Earlier);
        assert_eq!(json(&latest, "s").as_deref(), Some("five"));
        consider(Stored::Later(record(6, "six")));
        assert_eq!(json(&latest, "s").as_deref(), Some("six"));
        consider(Stored::Unknown);
        assert_eq!(json(&latest, "s"), None);
        consider(Stored::Later(record(7, "seven")));
        assert_eq!(json(&latest, "s"), None, "the store may have a later one");
        assert_eq!(latest.lock().bytes, 0);
    }

    #[test]
    fn what_was_read_while_something_changed_is_not_kept() {
        let latest = LatestRecords::default();
        let changes: [fn(&LatestRecords); 3] = [
            |latest| latest.lock().consider(key("s"), |_| unreachable!("nothing is kept")),
            |latest| latest.forget_client(&"a".parse().expect("client id")),
            LatestRecords::forget_all,
        ];
        for change in changes {
            let (first, second) = (latest.read(key("s")), latest.read(key("s")));
            change(&latest);
            assert_eq!(first.finish(record(5, "old")), "old");
            drop(second);
            assert_eq!(json(&latest, "s"), None);
        }
        let reading = latest.read(key("s"));
        latest.forget_client(&"b".parse().expect("client id"));
        reading.finish(record(5, "new"));
        assert_eq!(json(&latest, "s").as_deref(), Some("new"));
        assert!(latest.lock().reading.is_empty());
    }

    #[test]
    fn the_least_recently_used_records_are_forgotten_first() {
        let latest = LatestRecords::default();
        let large = "x".repeat(BYTES_MAX / 4);
        for name in ["a", "b", "c"] {
            latest.read(key(name)).finish(record(1, &large));
        }
        assert!(json(&latest, "a").is_some());
        latest.read(key("d")).finish(record(1, &large));
        let kept = ["a", "b", "c", "d"].map(|name| json(&latest, name).is_some());
        assert_eq!(kept, [true, false, true, true]);
    }
}
