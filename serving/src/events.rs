//! What happens, for listeners: changes are looked for while somebody listens, and the latest are kept for those who reconnect.
//!
//! Each event has a number. A listener that names the last one it has seen gets those after it, as long as they are kept; if they
//! are not, or the server was restarted, its first event is `resync`: then it reads the lists again, and misses nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysimbdp_model::error_chain;
use mysimbdp_platform::random;
use mysimbdp_query::changes::{Change, Poll, Watch};
use mysimbdp_query::file_list::FileState;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};

use crate::api;
use crate::server::Server;

/// How often changes are looked for.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How long they are looked for after the last listener has left: it may reconnect.
const LINGER: Duration = Duration::from_secs(60);
/// How many events are kept for listeners that reconnect, and may wait for one that reads slowly. One that is further behind is
/// dropped.
const KEPT: usize = 4096;

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    number: u64,
    pub(crate) name: &'static str,
    /// The client that it concerns; `None` if none.
    pub(crate) client: Option<String>,
    /// JSON.
    pub(crate) data: String,
}

/// The events of this process.
#[derive(Debug)]
pub(crate) struct Events {
    /// Distinguishes the numbers of this process from those of earlier ones.
    process: String,
    kept: Mutex<Kept>,
    /// Notified when a listener arrives.
    arrived: Notify,
    /// Whether changes are being looked for: there has been a first look.
    is_looking: watch::Sender<bool>,
    listeners: Arc<Semaphore>,
    listeners_max: usize,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    next: u64,
    /// `None` once the server is shutting down.
    sender: Option<broadcast::Sender<Arc<Event>>>,
}

/// What a listener gets.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Whether it has to read the lists again, because events were missed.
    pub(crate) must_resync: bool,
    /// The events that it has missed.
    pub(crate) missed: Vec<Arc<Event>>,
    pub(crate) events: broadcast::Receiver<Arc<Event>>,
    /// Ends the subscription when dropped.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Events {
    pub(crate) fn new(listeners_max: usize) -> Self {
        let (sender, _) = broadcast::channel(KEPT);
        Self {
            process: format!("{:016x}", random::number()),
            kept: Mutex::new(Kept { events: VecDeque::new(), next: 1, sender: Some(sender) }),
            arrived: Notify::new(),
            is_looking: watch::Sender::new(false),
            listeners: Arc::new(Semaphore::new(listeners_max)),
            listeners_max,
        }
    }

    /// Begins with the event after `last_seen`. `None` if there are too many listeners, or the server is shutting down.
    pub(crate) fn subscribe(&self, last_seen: Option<&str>) -> Option<Subscription> {
        let permit = Arc::clone(&self.listeners).try_acquire_owned().ok()?;
        let kept = self.kept();
        let events = kept.sender.as_ref()?.subscribe();
        let missed = match last_seen {
            None => Some(Vec::new()),
            Some(id) => self.number(id).and_then(|number| kept.after(number)),
        };
        drop(kept);
        self.arrived.notify_one();
        Some(Subscription {
            must_resync: missed.is_none(),
            missed: missed.unwrap_or_default(),
            events,
            permit,
        })
    }

    /// Waits until every change from now on becomes an event. To be called with a subscription.
    pub(crate) async fn looking(&self) {
        // Fails only without a sender, which is here.
        let _ = self.is_looking.subscribe().wait_for(|looking| *looking).await;
    }

    /// The id of an event, as listeners see it.
    pub(crate) fn id(&self, event: &Event) -> String {
        format!("{}-{}", self.process, event.number)
    }

    fn number(&self, id: &str) -> Option<u64> {
        let (process, number) = id.rsplit_once('-')?;
        (process == self.process).then(|| number.parse().ok())?
    }

    fn publish(&self, name: &'static str, client: Option<String>, data: &impl Serialize) {
        let Ok(data) = serde_json::to_string(data) else { return };
        let mut kept = self.kept();
        let event = Arc::new(Event { number: kept.next, name, client, data });
        kept.next += 1;
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        if let Some(sender) = &kept.sender {
            // Fails only if nobody listens.
            let _ = sender.send(event);
        }
    }

    /// Nobody has looked for some time: later events do not continue the earlier ones.
    fn interrupt(&self) {
        self.is_looking.send_replace(false);
        let mut kept = self.kept();
        kept.events.clear();
        kept.next += 1;
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.kept().sender = None;
    }

    fn has_listeners(&self) -> bool {
        self.listeners.available_permits() < self.listeners_max
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it holds the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The events after this number; `None` if some of them are not kept any more.
    fn after(&self, number: u64) -> Option<Vec<Arc<Event>>> {
        let first = self.events.front().map_or(self.next, |event| event.number);
        let is_known = (first - 1..self.next).contains(&number);
        is_known.then(|| self.events.iter().filter(|event| event.number > number).cloned().collect())
    }
}

/// Looks for changes while there are listeners. Never returns.
pub(crate) async fn run(server: &Server) {
    let events = &server.events;
    loop {
        // A new listener wants what happens from now on.
        let mut watching = Watch::default();
        let mut left_at = Instant::now();
        while !events.has_listeners() {
            events.arrived.notified().await;
        }
        let mut reported = None;
        while left_at.elapsed() < LINGER {
            let looked = poll(server, &mut watching).await;
            if looked.is_ok() {
                events.is_looking.send_replace(true);
            }
            report(&mut reported, looked.err());
            tokio::time::sleep(POLL_EVERY).await;
            if events.has_listeners() {
                left_at = Instant::now();
            }
        }
        events.interrupt();
    }
}

async fn poll(server: &Server, watching: &mut Watch) -> Result<(), String> {
    let history = server.history().await.map_err(|error| error_chain(&error))?;
    let Poll { changes, without_history } =
        watching.poll(&server.config(), history).await.map_err(|error| error_chain(&error))?;
    for change in changes {
        publish(&server.events, change);
    }
    without_history.map_or(Ok(()), |error| Err(error_chain(&error)))
}

fn publish(events: &Events, change: Change) {
    match change {
        Change::File(file) => {
            let name = match file.state {
                FileState::Waiting => "waiting",
                FileState::Staged if file.progress.is_some_and(|progress| progress.units_done > 0) => {
                    "progress"
                }
                FileState::Staged => "staged",
                FileState::Held => "held",
                FileState::Discarded => "discarded",
                FileState::Ingested => "ingested",
                FileState::Purged => "purged",
            };
            events.publish(name, file.client.clone(), &api::files::item(*file));
        }
        Change::Scaled { stream, before } => {
            let client = stream.client.to_string();
            events.publish("scaled", Some(client), &api::streams::Scaled::new(*stream, before));
        }
    }
}

/// Logs an outage once.
fn report(reported: &mut Option<String>, error: Option<String>) {
    if let Some(error) = error.as_ref().filter(|error| reported.as_ref() != Some(error)) {
        tracing::warn!(error, "changes cannot be looked for, trying again");
    }
    *reported = error;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_reconnects_gets_what_it_has_missed_or_is_told_to_read_again() {
        let events = Events::new(2);
        for number in 0..3 {
            events.publish("staged", None, &number);
        }
        let ids: Vec<String> = events.kept().events.iter().map(|event| events.id(event)).collect();
        let of = |last_seen: Option<&str>| {
            let subscription = events.subscribe(last_seen).expect("a subscription");
            let missed: Vec<String> = subscription.missed.iter().map(|event| event.data.clone()).collect();
            (subscription.must_resync, missed)
        };
        assert_eq!(of(None), (false, vec![]));
        assert_eq!(of(Some(&ids[0])), (false, vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(of(Some(&ids[2])), (false, vec![]));
        for unknown in ["", "7", "0000000000000000-1", &format!("{}-9", events.process)] {
            assert_eq!(of(Some(unknown)), (true, vec![]), "{unknown}");
        }
        for number in 0..KEPT {
            events.publish("staged", None, &number);
        }
        assert!(of(Some(&ids[1])).0, "event {} is not kept any more", ids[2]);
        assert_eq!(of(Some(&ids[2])).1.len(), KEPT);
        let latest = events.id(events.kept().events.back().expect("an event"));
        events.interrupt();
        assert_eq!(of(Some(&latest)), (true, vec![]), "something may have happened meanwhile");

        let _both = [events.subscribe(None), events.subscribe(None)];
        assert!(events.subscribe(None).is_none(), "there are too many");
    }
}
