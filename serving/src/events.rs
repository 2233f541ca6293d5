//! What happens, for listeners: changes are looked for while somebody listens, and the latest are kept for those who reconnect.
//!
//! 1. [`run`] looks for changes twice a second, and at once if it is told that there is one ([`Events::look_now`]);
//! 2. each change becomes one of the [`recent`] events, formatted once for all listeners;
//! 3. listeners are woken together, and each takes what it has not got yet ([`Subscription::next`]).
//!
//! Each event has a number. A listener that names the last one it has seen gets those after it, as long as they are kept; if they
//! are not, or the server was restarted, its first event is `resync`: then it reads the lists again, and misses nothing.

mod recent;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mysimbdp_model::error_chain;
use mysimbdp_platform::random;
use mysimbdp_query::changes::{Change, Poll, Watch};
use mysimbdp_query::file_list::FileState;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::api;
use crate::server::Server;
use recent::{Found, RecentEvents};

/// How often changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The wait before the next look if there are changes all the time. A look takes a few milliseconds as long as there are
/// hundreds of files, and longer with more of them: then the wait is as long as the look was.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long they are looked for after the last listener has left: it may reconnect.
const LINGER: Duration = Duration::from_secs(60);
/// How often listeners are woken at most. A thousand of them take about as long to be woken, each with a write to its socket.
const WAKE_EVERY: Duration = Duration::from_millis(20);

/// The events of this process.
#[derive(Debug)]
pub(crate) struct Events {
    latest: Mutex<Latest>,
    /// Notified when something is published.
    published: Notify,
    /// The number after the last visible event. Listeners wait for it to change, and for the end.
    visible: watch::Sender<u64>,
    /// Notified when a listener arrives.
    arrived: Notify,
    /// Notified when there is a change, as far as somebody knows.
    wanted: Notify,
    /// Whether changes are being looked for: there has been a first look.
    is_looking: watch::Sender<bool>,
    listeners: Arc<Semaphore>,
    listeners_max: usize,
}

#[derive(Debug)]
struct Latest {
    recent: RecentEvents,
    /// Whether the server is shutting down.
    is_closed: bool,
}

/// What a listener gets. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    events: Arc<Events>,
    /// Whether the listener has to read the lists again, because events were missed.
    pub(crate) must_resync: bool,
    /// The number of the next event that it wants.
    position: u64,
    /// The client whose events it wants; `None` for all events.
    only: Option<String>,
    visible: watch::Receiver<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Events {
    pub(crate) fn new(listeners_max: usize) -> Self {
        let recent = RecentEvents::new(format!("{:016x}", random::number()));
        Self {
            visible: watch::Sender::new(recent.next()),
            latest: Mutex::new(Latest { recent, is_closed: false }),
            published: Notify::new(),
            arrived: Notify::new(),
            wanted: Notify::new(),
            is_looking: watch::Sender::new(false),
            listeners: Arc::new(Semaphore::new(listeners_max)),
            listeners_max,
        }
    }

    /// Begins with the event after `last_seen`. `None` if there are too many listeners, or the server is shutting down.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        last_seen: Option<&str>,
        only: Option<String>,
    ) -> Option<Subscription> {
        let permit = Arc::clone(&self.listeners).try_acquire_owned().ok()?;
        let latest = self.latest();
        if latest.is_closed {
            return None;
        }
        let next = latest.recent.next();
        let position = last_seen.map_or(Some(next), |id| latest.recent.after(id));
        drop(latest);
        self.arrived.notify_one();
        Some(Subscription {
            events: Arc::clone(self),
            must_resync: position.is_none(),
            position: position.unwrap_or(next),
            only,
            visible: self.visible.subscribe(),
            _permit: permit,
        })
    }

    /// Waits until every change from now on becomes an event. To be called with a subscription.
    pub(crate) async fn looking(&self) {
        // Fails only without a sender, which is here.
        let _ = self.is_looking.subscribe().wait_for(|looking| *looking).await;
    }

    /// Whether changes are being looked for.
    pub(crate) fn is_looking(&self) -> watch::Receiver<bool> {
        self.is_looking.subscribe()
    }

    /// Makes the next look for changes happen soon: there is one. May be called for each of many changes.
    pub(crate) fn look_now(&self) {
        self.wanted.notify_one();
    }

    /// Waits until the next look for changes is due, after one that has `taken` so long.
    async fn next_look(&self, taken: Duration) {
        let pause = taken.max(LOOK_AGAIN_AFTER);
        sleep(pause).await;
        let _ = timeout(LOOK_EVERY.saturating_sub(pause), self.wanted.notified()).await;
    }

    pub(crate) fn publish(&self, name: &str, client: Option<&str>, data: &impl Serialize) {
        self.latest().recent.publish(name, client, data);
        self.published.notify_one();
    }

    /// Passes on to the listeners what is published. Never returns.
    async fn pass_on(&self) {
        loop {
            self.published.notified().await;
            self.wake();
            sleep(WAKE_EVERY).await;
        }
    }

    /// Passes on what others publish. Never returns.
    #[cfg(feature = "bench")]
    pub(crate) async fn run_without_looking(&self) {
        self.is_looking.send_replace(true);
        self.pass_on().await;
    }

    fn wake(&self) {
        let mut latest = self.latest();
        latest.recent.seal();
        let visible = latest.recent.sealed_end();
        drop(latest);
        self.visible.send_replace(visible);
    }

    /// Nobody has looked for some time: later events do not continue the earlier ones.
    fn interrupt(&self) {
        self.is_looking.send_replace(false);
        self.latest().recent.interrupt();
        self.wake();
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.latest().is_closed = true;
        self.wake();
    }

    fn has_listeners(&self) -> bool {
        self.listeners.available_permits() < self.listeners_max
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        // Nothing panics while it holds the lock.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The id of the event before the next one.
    pub(crate) fn last_id(&self) -> String {
        self.events.latest().recent.id(self.position - 1)
    }

    /// Waits for events, and returns those that there are, as text; not all at once if they are many. `None` if the listener is
    /// too far behind, or the server is shutting down. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            while let Some(batch) = self.batch()? {
                let text = batch.text(self.position, self.only.as_deref());
                self.position = batch.end();
                if !text.is_empty() {
                    return Some(text);
                }
            }
            self.visible.changed().await.ok()?;
        }
    }

    /// The batch at its position, if there is one yet. `None` at the end.
    fn batch(&self) -> Option<Option<Arc<recent::Batch>>> {
        let latest = self.events.latest();
        match latest.recent.at(self.position) {
            Found::Batch(batch) => Some(Some(batch)),
            Found::Nothing => (!latest.is_closed).then_some(None),
            Found::Lost => None,
        }
    }
}

/// Looks for changes while there are listeners, and tells them. Never returns.
pub(crate) async fn run(server: &Server) {
    tokio::join!(look(server), server.events.pass_on());
}

async fn look(server: &Server) {
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
            let started = Instant::now();
            let looked = poll(server, &mut watching).await;
            if looked.is_ok() {
                events.is_looking.send_replace(true);
            }
            report(&mut reported, looked.err());
            events.next_look(started.elapsed()).await;
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
            let client = file.client.clone();
            events.publish(name, client.as_deref(), &api::files::item(*file));
        }
        Change::Arrival(status) => {
            let client = status.client.to_string();
            events.publish("arrival", Some(&client), &api::arrivals::item(*status));
        }
        Change::Scaled { stream, before } => {
            let client = stream.client.to_string();
            events.publish("scaled", Some(&client), &api::streams::Scaled::new(*stream, before));
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
    use futures::FutureExt;

    use super::*;

    fn events(listeners_max: usize) -> Arc<Events> {
        Arc::new(Events::new(listeners_max))
    }

    fn publish(events: &Events, numbers: std::ops::Range<u32>) {
        for number in numbers {
            events.publish("staged", (number % 2 == 0).then_some("even"), &number);
        }
        events.wake();
    }

    /// The data of the events that there are now.
    fn read(subscription: &mut Subscription) -> Vec<u32> {
        let mut data = Vec::new();
        while let Some(text) = subscription.next().now_or_never().flatten() {
            let text = std::str::from_utf8(&text).expect("UTF-8");
            let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
            data.extend(lines.map(|line| line.parse::<u32>().expect("a number")));
        }
        data
    }

    fn has_ended(subscription: &mut Subscription) -> bool {
        matches!(subscription.next().now_or_never(), Some(None))
    }

    fn id(events: &Events, number: u64) -> String {
        let Found::Batch(batch) = events.latest().recent.at(number) else { panic!("{number} is not kept") };
        let text = String::from_utf8(batch.text(number, None).to_vec()).expect("UTF-8");
        text.lines().next().and_then(|line| line.strip_prefix("id: ")).expect("an id").to_owned()
    }

    #[test]
    fn a_listener_that_reconnects_gets_what_it_has_missed_or_is_told_to_read_again() {
        let events = events(2);
        publish(&events, 0..3);
        let of = |last_seen: Option<&str>| {
            let mut subscription = events.subscribe(last_seen, None).expect("a subscription");
            (subscription.must_resync, read(&mut subscription))
        };
        let ids = [1, 2, 3].map(|number| id(&events, number));
        assert_eq!(of(None), (false, vec![]));
        assert_eq!(of(Some(&ids[0])), (false, vec![1, 2]));
        assert_eq!(of(Some(&ids[2])), (false, vec![]));
        for unknown in ["", "7", "0000000000000000-1", &ids[0].replace("-1", "-9")] {
            assert_eq!(of(Some(unknown)), (true, vec![]), "{unknown}");
        }
        events.interrupt();
        assert_eq!(of(Some(&ids[2])), (true, vec![]), "something may have happened meanwhile");

        let _both = [events.subscribe(None, None), events.subscribe(None, None)];
        assert!(events.subscribe(None, None).is_none(), "there are too many");
    }

    #[test]
    fn a_listener_gets_what_concerns_it_from_its_arrival_on() {
        let events = events(2);
        publish(&events, 0..3);
        let mut all = events.subscribe(None, None).expect("a subscription");
        let mut even = events.subscribe(None, Some("even".to_owned())).expect("a subscription");
        publish(&events, 3..4);
        assert_eq!((read(&mut all), read(&mut even)), (vec![3], vec![]));
        publish(&events, 4..9);
        assert_eq!((read(&mut all), read(&mut even)), (vec![4, 5, 6, 7, 8], vec![4, 6, 8]));
    }

    #[test]
    fn a_listener_that_is_too_far_behind_is_disconnected_and_one_at_the_end_gets_the_rest() {
        let events = events(3);
        let mut slow = events.subscribe(None, None).expect("a subscription");
        publish(&events, 0..1);
        let data = "x".repeat(1 << 20);
        for _ in 0..recent::KEPT_BYTES >> 20 {
            events.publish("staged", None, &data);
        }
        assert!(has_ended(&mut slow));
        let mut late = events.subscribe(None, None).expect("a subscription");
        publish(&events, 1..3);
        let mut idle = events.subscribe(None, None).expect("a subscription");
        events.close();
        assert_eq!(read(&mut late), [1, 2]);
        assert!(has_ended(&mut late) && has_ended(&mut idle));
        drop(slow);
        assert!(events.subscribe(None, None).is_none(), "it is closed");
    }

    #[test]
    fn a_listener_of_before_an_interruption_is_disconnected() {
        let events = events(1);
        let mut subscription = events.subscribe(None, None).expect("a subscription");
        events.interrupt();
        assert!(has_ended(&mut subscription));
    }

    #[tokio::test]
    async fn events_that_follow_each_other_closely_wake_a_listener_once() {
        let events = events(1);
        let mut subscription = events.subscribe(None, None).expect("a subscription");
        let publishing = async {
            for number in 0..100_u32 {
                events.publish("staged", None, &number);
                sleep(Duration::from_millis(1)).await;
            }
            // What is published last is passed on by then.
            sleep(WAKE_EVERY * 10).await;
            events.close();
        };
        let started = Instant::now();
        let listening = async {
            let (mut wakes, mut count) = (Vec::new(), 0);
            while let Some(text) = subscription.next().await {
                wakes.push(started.elapsed());
                count += text.windows(6).filter(|bytes| *bytes == b"data: ").count();
            }
            (wakes, count)
        };
        let (wakes, count) = tokio::select! {
            (listened, ()) = async { tokio::join!(listening, publishing) } => listened,
            () = events.pass_on() => unreachable!(),
        };
        assert_eq!(count, 100);
        assert!(wakes.windows(2).all(|two| two[1] >= two[0] + WAKE_EVERY / 2), "{wakes:?}");
    }

    #[tokio::test]
    async fn a_change_that_is_known_is_looked_for_at_once_but_not_all_the_time() {
        let events = events(1);
        let look = async |taken| {
            let started = Instant::now();
            events.next_look(taken).await;
            started.elapsed()
        };
        assert!(look(Duration::ZERO).await >= LOOK_EVERY);
        // During a look.
        events.look_now();
        events.look_now();
        let elapsed = look(Duration::ZERO).await;
        assert!((LOOK_AGAIN_AFTER..LOOK_EVERY).contains(&elapsed), "{elapsed:?}");
        let (elapsed, ()) = tokio::join!(look(Duration::ZERO), async {
            sleep(LOOK_AGAIN_AFTER * 2).await;
            events.look_now();
        });
        assert!((LOOK_AGAIN_AFTER..LOOK_EVERY).contains(&elapsed), "{elapsed:?}");
        // A look that takes long is not repeated without a pause.
        events.look_now();
        assert!(look(LOOK_EVERY * 2).await >= LOOK_EVERY * 2);
    }
}
