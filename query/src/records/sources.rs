//! The sources of a client's numbered messages, by what the `_id`s of their messages begin with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::source::Source;
use mysimbdp_store::sequences::Sequences;
use mysimbdp_store::{Coredms, CoredmsError};

/// Sources are read again at most this often, however many messages of unknown ones there are.
const READ_EVERY: Duration = Duration::from_secs(10);

type Names = Arc<HashMap<[u8; 8], Source>>;

/// The sources of all clients, which are read when a message of an unknown one is found.
#[derive(Debug, Default)]
pub struct SourceNames {
    clients: Mutex<HashMap<ClientId, (Names, Instant)>>,
}

impl SourceNames {
    /// The sources that are known.
    pub(super) fn known(&self, client: &ClientId) -> Names {
        self.lock().get(client).map(|(names, _)| Arc::clone(names)).unwrap_or_default()
    }

    /// Reads the sources again, unless that was done recently.
    pub(super) async fn read(&self, store: &dyn Coredms, client: &ClientId) -> Result<Names, CoredmsError> {
        let read = self.lock().get(client).map(|(names, at)| (Arc::clone(names), *at));
        if let Some((names, at)) = read
            && at.elapsed() < READ_EVERY
        {
            return Ok(names);
        }
        let sources = Sequences::sources(store).await?.into_iter();
        let names = Arc::new(sources.map(|found| (found.source.prefix(client), found.source)).collect());
        self.lock().insert(client.clone(), (Arc::clone(&names), Instant::now()));
        Ok(names)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, (Names, Instant)>> {
        // Nothing panics while it holds the lock.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
