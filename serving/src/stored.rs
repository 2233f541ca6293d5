//! Listens to what the platform announces over MQTT: documents that stream instances have stored, and files that are staged or
//! ingested. What is kept in memory is renewed or forgotten by it.
//!
//! Announcements may be lost, and are not authenticated beyond what the broker does. So nothing depends on them but how long
//! an answer is kept: [`StoredDocuments::is_complete`] says whether all that streams store is being announced at this time, and
//! whatever is missed makes the rest be forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysimbdp_broker::{Incoming, LinkEvent};
use mysimbdp_config::{Config, address};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_store::announcement::{ANNOUNCE_EVERY, Announcement};
use tokio::time::{MissedTickBehavior, interval};

use crate::server::Server;

/// A process that has not been heard for this long may have ended before it could announce what it had stored.
const SILENCE_MAX: Duration = ANNOUNCE_EVERY.saturating_mul(3);

/// More processes of a stream are heard only if somebody forges their names.
const PUBLISHERS_MAX: usize = 1_000;

/// Which streams announce what they store.
#[derive(Debug, Default)]
pub(crate) struct StoredDocuments {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_connected: bool,
    streams: HashMap<(ClientId, String), HashMap<String, Publisher>>,
}

/// A process of a stream.
#[derive(Debug)]
struct Publisher {
    /// The number of its last announcement.
    number: i64,
    heard_at: Instant,
}

impl StoredDocuments {
    /// Whether all streams of the client that write to this collection announce what they store, as far as is known.
    pub(crate) fn is_complete(&self, config: &Config, client: &ClientId, collection: &str) -> bool {
        let Some(streams) = config.client(client).map(|client| &client.streams) else { return false };
        let state = self.lock();
        let mut writers = streams.iter().filter(|stream| stream.collection == collection);
        state.is_connected
            && writers.all(|stream| {
                let publishers = state.streams.get(&(client.clone(), stream.name.clone()));
                publishers.is_some_and(|publishers| !publishers.is_empty())
            })
    }

    /// Notes an announcement of a stream; returns whether an earlier one may have been missed.
    fn heard(&self, client: &ClientId, stream: &str, process: &str, number: i64) -> bool {
        let mut state = self.lock();
        let publishers = state.streams.entry((client.clone(), stream.to_owned())).or_default();
        let heard_at = Instant::now();
        match publishers.get_mut(process) {
            None => {
                if publishers.len() == PUBLISHERS_MAX {
                    publishers.clear();
                }
                publishers.insert(process.to_owned(), Publisher { number, heard_at });
                true
            }
            Some(publisher) => {
                let is_next = number <= publisher.number.saturating_add(1);
                publisher.number = publisher.number.max(number);
                publisher.heard_at = heard_at;
                !is_next
            }
        }
    }

    /// Removes the processes that are no longer heard; returns their streams.
    fn remove_silent(&self) -> Vec<(ClientId, String)> {
        let mut silent = Vec::new();
        self.lock().streams.retain(|stream, publishers| {
            let before = publishers.len();
            publishers.retain(|_, publisher| publisher.heard_at.elapsed() < SILENCE_MAX);
            if publishers.len() < before {
                silent.push(stream.clone());
            }
            !publishers.is_empty()
        });
        silent
    }

    fn set_connected(&self, is_connected: bool) {
        *self.lock() = State { is_connected, streams: HashMap::new() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens for as long as the server runs.
pub(crate) async fn run(server: &Server) {
    let config = server.config();
    let topics = &config.topics;
    let subscriptions = vec![topics.all_stored(), topics.all_staged(), topics.all_finished()];
    let mut session = address::session(&config, ProcessKind::Serve.name(), subscriptions);
    let mut checks = interval(ANNOUNCE_EVERY);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = session.next() => match event {
                LinkEvent::Connected => {
                    server.latest.forget_all();
                    server.windows.forget_all();
                    server.stored.set_connected(true);
                }
                LinkEvent::Disconnected { .. } => {
                    server.stored.set_connected(false);
                    server.latest.forget_all();
                    server.windows.forget_all();
                }
                LinkEvent::Message(message) => receive(server, &config, &message),
            },
            _ = checks.tick() => {
                for (client, stream) in server.stored.remove_silent() {
                    forget_stream(server, &client, &stream);
                }
            }
        }
    }
}

fn receive(server: &Server, config: &Config, message: &Incoming) {
    let topics = &config.topics;
    if let Some((client, stream)) = topics.stored_by(&message.topic) {
        receive_stored(server, &client, stream, &message.payload);
        return;
    }
    // Events are found by looking, and not in messages, which may be lost.
    server.events.look_now();
    if let Some(client) = topics.client_of(&topics.all_finished(), &message.topic) {
        server.latest.forget_client(&client);
    }
}

fn receive_stored(server: &Server, client: &ClientId, stream: &str, payload: &[u8]) {
    let Some(announcement) = parsed(payload) else { return forget_stream(server, client, stream) };
    let Announcement { process, number, documents, .. } = announcement;
    if server.stored.heard(client, stream, &process, number) {
        forget_stream(server, client, stream);
    }
    let config = server.config();
    if let Some(collection) = collection(&config, client, stream) {
        server.windows.stored(client, collection, &documents);
        server.latest.stored(&config, client, collection, &documents, &server.sources);
    }
}

fn parsed(payload: &[u8]) -> Option<Announcement> {
    let parsed = Announcement::parse(payload);
    parsed
        .inspect_err(|error| tracing::debug!(%error, "an announcement of stored documents is unreadable"))
        .ok()
}

/// Something that the stream has stored may not have been heard of.
fn forget_stream(server: &Server, client: &ClientId, stream: &str) {
    let config = server.config();
    if let Some(collection) = collection(&config, client, stream) {
        server.latest.forget_client(client);
        server.windows.forget(client, collection);
    }
}

/// Where a stream stores.
fn collection<'c>(config: &'c Config, client: &ClientId, stream: &str) -> Option<&'c str> {
    let streams = &config.client(client)?.streams;
    streams.iter().find(|other| other.name == stream).map(|stream| stream.collection.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_new_or_has_left_out_a_number_may_have_been_missed() {
        let stored = StoredDocuments::default();
        let client: ClientId = "a".parse().expect("client id");
        let heard = |process, number| stored.heard(&client, "s", process, number);
        assert!(heard("p", 1), "new");
        assert!(!heard("p", 2));
        assert!(!heard("p", 2), "repeated by the broker");
        assert!(heard("p", 4), "3 is missing");
        assert!(!heard("p", 5));
        assert!(heard("q", 1), "new");
        assert!(!heard("p", 6));
        stored.set_connected(true);
        assert!(heard("p", 7), "there was another connection");
        assert!(stored.remove_silent().is_empty());
    }
}
