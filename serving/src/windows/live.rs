//! Publishes windows once they are closed, and again if they change afterwards.
//!
//! Twice a second while somebody listens, each publication of the config is looked at: windows that have been closed since the
//! last look are read, as every query reads them, and published. The latest of them are remembered. What was stored since, or a
//! run that has ended, tells which of them to read again; those that differ from what is remembered are published again. So no
//! event depends on the order or the content of messages, and live windows are the same as those of a query.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use jiff::Timestamp;
use mysimbdp_config::{Client, View};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::window::WindowSize;
use mysimbdp_query::QueryError;
use mysimbdp_query::windows::{Affected, Publication, ReadAhead, WindowsQuery, closed_until};
use serde::Serialize;
use tokio::sync::watch;

use crate::server::Server;

/// How often publications are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often all remembered windows are read again if the streams do not announce what they store.
const READ_AGAIN_EVERY: Duration = Duration::from_secs(10);

/// If more windows than this have changed between two looks, all that are remembered are read again.
const CHANGED_MAX: usize = 1_000;

/// What is published.
#[derive(Serialize)]
struct WindowEvent<'w, W> {
    client: &'w ClientId,
    #[serde(flatten)]
    window: &'w W,
}

/// Client, view and size.
type PublicationKey = (ClientId, String, WindowSize);

/// What may have changed in the windows that are remembered.
#[derive(Debug, Default)]
pub(super) struct Watched {
    publications: Mutex<BTreeMap<PublicationKey, (Arc<WindowsQuery>, Affected)>>,
    /// Whether every window that is closed from now on is published.
    is_publishing: watch::Sender<bool>,
}

impl Watched {
    pub(super) fn stored(&self, client: &ClientId, collection: &str, documents: &[RawDocumentBuf]) {
        self.add(client, |query| query.affected_by(collection, documents));
    }

    pub(super) fn forget(&self, client: &ClientId, collection: &str) {
        self.add(client, |query| match query.affected_by(collection, &[]) {
            Affected::Nothing => Affected::Nothing,
            _ => Affected::Everything,
        });
    }

    pub(super) fn forget_all(&self) {
        for (_, all) in self.lock().values_mut() {
            *all = Affected::Everything;
        }
    }

    fn add(&self, client: &ClientId, affected: impl Fn(&WindowsQuery) -> Affected) {
        for ((of, ..), (query, all)) in self.lock().iter_mut() {
            if of == client {
                add_affected(all, affected(query));
            }
        }
    }

    fn add_to(&self, key: &PublicationKey, affected: Affected) {
        if let Some((_, all)) = self.lock().get_mut(key) {
            add_affected(all, affected);
        }
    }

    /// Returns what has changed since the last call.
    fn take(&self, key: &PublicationKey) -> Affected {
        let mut publications = self.lock();
        let affected = publications.get_mut(key).map(|(_, affected)| affected);
        affected.map_or(Affected::Nothing, |affected| std::mem::replace(affected, Affected::Nothing))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PublicationKey, (Arc<WindowsQuery>, Affected)>> {
        // Nothing panics while it holds the lock.
        self.publications.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add_affected(all: &mut Affected, more: Affected) {
    match (&mut *all, more) {
        (_, Affected::Nothing) | (Affected::Everything, _) => {}
        (_, Affected::Everything) => *all = Affected::Everything,
        (Affected::Nothing, more) => *all = more,
        (Affected::Windows(windows), Affected::Windows(more)) => {
            windows.extend(more);
            if windows.len() > CHANGED_MAX {
                *all = Affected::Everything;
            }
        }
    }
}

/// A publication of the config that is being looked at.
struct Looked {
    publication: Publication,
    /// When everything was read again.
    read_at: Instant,
    /// The last error that was logged.
    reported: Option<String>,
}

/// Waits until every window that is closed from now on is published. To be called while changes are looked for.
pub(crate) async fn publishing(server: &Server) {
    // Fails only without a sender, which is there.
    let _ = server.windows.watched.is_publishing.subscribe().wait_for(|publishing| *publishing).await;
}

/// Publishes windows while changes are looked for. Never returns.
pub(crate) async fn run(server: &Server) {
    let watched = &server.windows.watched;
    let mut is_looking = server.events.is_looking();
    loop {
        // Fails only without a sender, which is there.
        let _ = is_looking.wait_for(|looking| *looking).await;
        let mut publications = BTreeMap::new();
        loop {
            // On the heap: it is larger than all that the server does besides.
            Box::pin(look(server, &mut publications)).await;
            watched.is_publishing.send_replace(true);
            tokio::time::sleep(LOOK_EVERY).await;
            if !*is_looking.borrow() {
                watched.is_publishing.send_replace(false);
                // A listener that has arrived just now waits for the next look, or relies on what is continued.
                if !*is_looking.borrow() {
                    break;
                }
            }
        }
        watched.lock().clear();
    }
}

/// Looks at all publications of the config.
async fn look(server: &Server, publications: &mut BTreeMap<PublicationKey, Looked>) {
    let config = server.config();
    let mut configured = BTreeSet::new();
    for client in config.clients.values() {
        for view in client.views.values() {
            for (size, fields) in &view.windows.publish {
                let key = (client.id.clone(), view.name.clone(), *size);
                configured.insert(key.clone());
                if publications.get(&key).is_some_and(|looked| !is_of(&looked.publication, view, fields)) {
                    publications.remove(&key);
                }
                let looked_at = match publications.get_mut(&key) {
                    Some(looked) => look_at(server, client, &key, looked).await,
                    None => begin(server, client, view, *size, fields).await.map(|publication| {
                        let watched = (Arc::clone(publication.query()), Affected::Nothing);
                        server.windows.watched.lock().insert(key.clone(), watched);
                        let looked = Looked { publication, read_at: Instant::now(), reported: None };
                        publications.insert(key.clone(), looked);
                    }),
                };
                report(publications.get_mut(&key), looked_at.err());
            }
        }
    }
    publications.retain(|key, _| configured.contains(key));
    server.windows.watched.lock().retain(|key, _| configured.contains(key));
}

fn is_of(publication: &Publication, view: &View, fields: &[String]) -> bool {
    let query = publication.query();
    query.fields == fields && format!("{:?}", query.view) == format!("{view:?}")
}

/// A publication begins with the windows that are closed from now on.
async fn begin(
    server: &Server,
    client: &Client,
    view: &View,
    size: WindowSize,
    fields: &[String],
) -> Result<Publication, QueryError> {
    let query = WindowsQuery {
        client: client.id.clone(),
        view: view.clone(),
        size,
        fields: fields.to_vec(),
        source: None,
        from: None,
        until: None,
    };
    let store = server.database(client).await?;
    let closed_until = closed_until(&store, &query).await?;
    Ok(Publication::new(Arc::new(query), closed_until))
}

async fn look_at(
    server: &Server,
    client: &Client,
    key: &PublicationKey,
    looked: &mut Looked,
) -> Result<(), QueryError> {
    let windows = &server.windows;
    windows.look_at_runs(server.history().await?, client).await?;
    let mut affected = windows.watched.take(key);
    if looked.read_at.elapsed() >= READ_AGAIN_EVERY {
        looked.read_at = Instant::now();
        if !super::is_announced(server, &client.id, &looked.publication.query().view) {
            affected = Affected::Everything;
        }
    }
    for range in looked.publication.changed(affected.clone()) {
        if let Err(error) = publish(server, client, &mut looked.publication, range).await {
            // The next look reads them again.
            windows.watched.add_to(key, affected);
            return Err(error);
        }
    }
    let store = server.database(client).await?;
    let closed_until = closed_until(&store, looked.publication.query()).await?;
    match looked.publication.closed(closed_until) {
        Some(range) => publish(server, client, &mut looked.publication, range).await,
        None => Ok(()),
    }
}

/// Reads the windows of a range, and publishes those that are new or have changed.
async fn publish(
    server: &Server,
    client: &Client,
    publication: &mut Publication,
    range: Range<i64>,
) -> Result<(), QueryError> {
    let time = |millis| Timestamp::from_millisecond(millis).ok();
    let query = WindowsQuery {
        from: time(range.start),
        until: time(range.end),
        ..WindowsQuery::clone(publication.query())
    };
    let size = query.size.millis();
    let mut reader = server.windows.open(server, client, Arc::new(query), ReadAhead::Page, None).await?;
    let mut read_until = range.start;
    let read = loop {
        let window = match reader.next().await {
            Ok(window) => window,
            Err(error) => break Err(error),
        };
        let end = window.as_ref().map_or(range.end, |window| window.start + size);
        for window in publication.read(read_until..end, window.as_deref()) {
            let event = WindowEvent { client: &client.id, window: &window };
            server.events.publish("window", Some(client.id.as_str()), &event);
        }
        read_until = end;
        if window.is_none() {
            break Ok(());
        }
    };
    super::count(&reader);
    read
}

/// Logs an outage once.
fn report(looked: Option<&mut Looked>, error: Option<QueryError>) {
    let error = error.map(|error| error_chain(&error));
    let reported = looked.map(|looked| std::mem::replace(&mut looked.reported, error.clone()));
    if let Some(error) = error.as_ref().filter(|error| reported.flatten().as_ref() != Some(error)) {
        tracing::warn!(error, "windows cannot be published, trying again");
    }
}
