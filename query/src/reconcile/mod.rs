//! Compares the history with what coredms holds: is everything that was received where it must be?
//!
//! 1. [`disk`]: what is staged, held and discarded;
//! 2. [`history`]: the runs, page by page, with what was [counted](count) of each ingestion;
//! 3. [`sources`]: the numbered sources of the streams;
//! 4. [`compare`], purely: observations in, differences out;
//! 5. [`report`]: the table, the totals, and whether it balances.
//!
//! It may run while the platform works: records in flight do not count as differences.

mod compare;
mod count;
mod disk;
mod history;
mod report;
mod sources;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use mysimbdp_config::{Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_store::history::History;
use mysimbdp_store::{Coredms, CoredmsError};

pub use report::{MessagesRow, ReconcileReport, RunRow, SourceRow, Totals};

use crate::error::QueryError;

/// What to reconcile.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// One client, or all.
    pub client: Option<ClientId>,
    /// Only ingestions with a run that ended at or after this time. Sources and directories are always compared as a
    /// whole.
    pub since: Option<Timestamp>,
}

/// Compares everything once. A difference is not an error; the report lists it.
///
/// # Errors
///
/// The store is unavailable, or a directory cannot be read.
pub async fn reconcile(config: &Config, scope: &Scope) -> Result<ReconcileReport, QueryError> {
    let mut databases = Databases { config, open: BTreeMap::new() };
    let history = crate::open_history(config).await?;
    let report = compare_all(config, scope, &history, &mut databases).await;
    history.close().await;
    databases.close().await;
    report
}

async fn compare_all(
    config: &Config,
    scope: &Scope,
    history: &History,
    databases: &mut Databases<'_>,
) -> Result<ReconcileReport, QueryError> {
    let mut report = ReconcileReport::default();
    let clients =
        || config.clients.values().filter(|client| scope.client.as_ref().is_none_or(|id| *id == client.id));
    for client in clients() {
        report.disk(&client.id, &disk::scan(&config.layout, &client.id)?);
    }
    history::compare(config, scope, history, databases, &mut report).await?;
    for client in clients().filter(|client| !client.streams.is_empty()) {
        let store = databases.of(client).await?;
        sources::compare(client, &store, &mut report).await?;
    }
    Ok(report)
}

/// The clients' databases, opened when they are first needed.
struct Databases<'a> {
    config: &'a Config,
    open: BTreeMap<ClientId, Arc<dyn Coredms>>,
}

impl Databases<'_> {
    async fn of(&mut self, client: &Client) -> Result<Arc<dyn Coredms>, CoredmsError> {
        if let Some(store) = self.open.get(&client.id) {
            return Ok(Arc::clone(store));
        }
        let store = mysimbdp_store::open(&self.config.coredms_url, &client.database).await?;
        self.open.insert(client.id.clone(), Arc::clone(&store));
        Ok(store)
    }

    async fn close(&self) {
        for store in self.open.values() {
            store.close().await;
        }
    }
}
