//! Indexes for the views, each created when a query needs it for the first time since the server was started.
//!
//! An index is built in the background, whatever becomes of the request that needed it. Neither store blocks writers
//! meanwhile: MongoDB builds indexes beside them, the embedded store in steps of some 20 ms. Later queries wait for the same
//! build. If the store refuses an index, the queries do without it: they are as correct, and slower.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mysimbdp_model::error_chain;
use mysimbdp_store::Coredms;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Database, collection and fields.
type IndexKey = (String, String, Vec<String>);

/// The indexes that have been requested.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    builds: Mutex<Builds>,
}

#[derive(Debug, Default)]
struct Builds {
    /// False while the index is being built; no sender is left after a build that failed.
    ready: BTreeMap<IndexKey, watch::Receiver<bool>>,
    tasks: JoinSet<()>,
}

impl Indexes {
    /// Waits until the index is built. If the store becomes unavailable meanwhile, the index is missing, and the next query
    /// requests it again.
    pub(crate) async fn ensure(
        &self,
        store: &Arc<dyn Coredms>,
        database: &str,
        collection: String,
        fields: Vec<String>,
    ) {
        let mut ready = self.build(store, (database.to_owned(), collection, fields));
        // An error: the build has failed. The query then learns from the store why.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    fn build(&self, store: &Arc<dyn Coredms>, key: IndexKey) -> watch::Receiver<bool> {
        let mut builds = self.lock();
        while builds.tasks.try_join_next().is_some() {}
        if let Some(ready) = builds.ready.get(&key)
            && (*ready.borrow() || ready.has_changed().is_ok())
        {
            return ready.clone();
        }
        let (sender, receiver) = watch::channel(false);
        builds.ready.insert(key.clone(), receiver.clone());
        let store = Arc::clone(store);
        builds.tasks.spawn(async move {
            let (_, collection, fields) = key;
            let names: Vec<&str> = fields.iter().map(String::as_str).collect();
            match store.ensure_index(&collection, &names).await {
                Ok(()) => {}
                Err(error) if error.is_retryable() => return,
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::warn!(
                        collection,
                        ?fields,
                        error,
                        "queries of a view are slow without this index"
                    );
                }
            }
            sender.send_replace(true);
        });
        receiver
    }

    /// Ends all builds. MongoDB completes those that it has begun; the embedded store continues at the next start.
    pub(crate) fn abort(&self) {
        self.lock().tasks.abort_all();
    }

    fn lock(&self) -> MutexGuard<'_, Builds> {
        // Nothing panics while it holds the lock.
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
