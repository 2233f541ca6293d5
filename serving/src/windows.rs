//! Windows over the views of all clients: what was computed is kept as long as it is known to be right, and closed ones are
//! published ([`live`]).
//!
//! Nothing here is the truth: windows are computed from the store, and a killed server computes them again. What is kept is dropped
//!
//! - for the streams, when a record in its range was stored ([`Windows::stored`]). Only while that is announced for all records is
//!   anything kept or used;
//! - for the batch layer, when a run of the client has ended since the last query;
//! - after ten minutes, whatever has changed without a sign, such as documents that the store has let expire.

pub(crate) mod live;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bson::RawDocumentBuf;
use mysimbdp_config::{Client, View};
use mysimbdp_model::client::ClientId;
use mysimbdp_query::QueryError;
use mysimbdp_query::windows::{KeptWindows, ReadAhead, WindowsPosition, WindowsQuery, WindowsReader};
use mysimbdp_store::CoredmsError;
use mysimbdp_store::history::History;
use mysimbdp_telemetry::metrics::metrics;

use crate::server::Server;
use crate::turns::ClientTurns;
use live::Watched;

/// Ranges that are read at the same time for a client, over all its queries: those of others need not wait for them.
const RANGES_MAX: usize = 4;

/// How many of the latest runs of a client are compared: fewer end between two queries of a busy client, and if all of them are
/// new, everything is forgotten.
const RUNS: u64 = 32;

/// Windows of all clients.
#[derive(Debug)]
pub(crate) struct Windows {
    kept: Arc<KeptWindows>,
    turns: ClientTurns,
    /// The latest runs of each client, as far as they were looked at.
    runs: Mutex<BTreeMap<ClientId, BTreeSet<RunKey>>>,
    watched: Watched,
}

/// The id of a run, its end and its state. A held run that is retried ends again under the same id.
type RunKey = (String, i64, &'static str);

impl Windows {
    /// Keeps computed windows of up to about this many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            kept: Arc::new(KeptWindows::new(bytes_max)),
            turns: ClientTurns::new(RANGES_MAX),
            runs: Mutex::default(),
            watched: Watched::default(),
        }
    }

    /// These documents have been stored in a collection of the client.
    pub(crate) fn stored(&self, client: &ClientId, collection: &str, documents: &[RawDocumentBuf]) {
        self.kept.stored(client, collection, documents);
        self.watched.stored(client, collection, documents);
    }

    /// Anything in a collection of the client may have changed.
    pub(crate) fn forget(&self, client: &ClientId, collection: &str) {
        self.kept.forget(client, collection);
        self.watched.forget(client, collection);
    }

    /// Anything may have changed.
    pub(crate) fn forget_all(&self) {
        self.kept.forget_all();
        self.watched.forget_all();
    }

    /// Begins to read windows.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub(crate) async fn open(
        &self,
        server: &Server,
        client: &Client,
        query: Arc<WindowsQuery>,
        ahead: ReadAhead,
        after: Option<&WindowsPosition>,
    ) -> Result<WindowsReader, QueryError> {
        let store = server.database(client).await?;
        self.look_at_runs(server.history().await?, client).await?;
        let kept = is_announced(server, &query.client, &query.view).then(|| self.kept.series(&query));
        let turns = self.turns.of(&query.client);
        WindowsReader::open(store, query, kept, turns, ahead, after).await
    }

    /// Forgets the collections of runs that have ended since the last look.
    async fn look_at_runs(&self, history: &History, client: &Client) -> Result<(), CoredmsError> {
        if client.apps.is_empty() {
            return Ok(());
        }
        let latest = history.newest(&client.id, RUNS).await?;
        let runs: BTreeMap<RunKey, Option<String>> = latest
            .into_iter()
            .map(|run| ((run.id, run.finished_at.timestamp_millis(), run.state.as_str()), run.collection))
            .collect();
        let known = self.runs().insert(client.id.clone(), runs.keys().cloned().collect());
        // Nothing was kept before the first look.
        let Some(known) = known else { return Ok(()) };
        let new: Vec<&Option<String>> =
            runs.iter().filter(|(run, _)| !known.contains(*run)).map(|(_, collection)| collection).collect();
        let may_have_missed = new.len() as u64 == RUNS || new.iter().any(|collection| collection.is_none());
        let collections: BTreeSet<&str> = if may_have_missed {
            client.apps.iter().map(|app| app.collection.as_str()).collect()
        } else {
            new.iter().filter_map(|collection| collection.as_deref()).collect()
        };
        for collection in collections {
            self.forget(&client.id, collection);
        }
        Ok(())
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<ClientId, BTreeSet<RunKey>>> {
        // Nothing panics while it holds the lock.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether all that the streams store in the view's collections is announced at this time.
fn is_announced(server: &Server, client: &ClientId, view: &View) -> bool {
    let config = server.config();
    let shared = view.batch.iter().filter(|layer| layer.is_shared);
    let mut of_streams = view.stream.iter().chain(shared);
    of_streams.all(|layer| server.stored.is_complete(&config, client, &layer.collection))
}

/// Counts where the windows of an answer were from.
pub(crate) fn count(reader: &WindowsReader) {
    let client = reader.query().client.as_str();
    for (result, windows) in [("kept", reader.from_kept), ("computed", reader.from_store)] {
        metrics().windows.with([client, result]).inc_by(windows);
    }
}
