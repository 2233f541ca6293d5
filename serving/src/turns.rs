//! How much is done for a client at the same time, so that the others have their share.
//!
//! Long lists are limited for all clients together too: each holds some blocks of records for as long as its reader takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mysimbdp_model::client::ClientId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For all clients. About 20 MB each if the records are large.
const LISTS_MAX: usize = 32;
/// For each client, so that slow readers of one leave some to the others.
const LISTS_OF_CLIENT_MAX: usize = 8;

/// Equally many turns for each client.
#[derive(Debug)]
pub(crate) struct ClientTurns {
    each_max: usize,
    of_clients: Mutex<BTreeMap<ClientId, Arc<Semaphore>>>,
}

/// The long lists that are being written.
#[derive(Debug)]
pub(crate) struct ListTurns {
    all: Arc<Semaphore>,
    of_clients: ClientTurns,
}

/// Allows to write a list until it is dropped.
#[derive(Debug)]
pub(crate) struct ListTurn {
    _of_client: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl ClientTurns {
    pub(crate) fn new(each_max: usize) -> Self {
        Self { each_max, of_clients: Mutex::default() }
    }

    pub(crate) fn of(&self, client: &ClientId) -> Arc<Semaphore> {
        // Nothing panics while it holds the lock.
        let mut of_clients = self.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = of_clients.entry(client.clone());
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(self.each_max))))
    }
}

impl Default for ListTurns {
    fn default() -> Self {
        let of_clients = ClientTurns::new(LISTS_OF_CLIENT_MAX);
        Self { all: Arc::new(Semaphore::new(LISTS_MAX)), of_clients }
    }
}

impl ListTurns {
    /// Waits until another list may be written.
    pub(crate) async fn take(&self, client: &ClientId) -> ListTurn {
        // The client's first: one that waits for its own holds none of the others'.
        let of_client = self.of_clients.of(client).acquire_owned().await.expect("never closed");
        let of_all = Arc::clone(&self.all).acquire_owned().await.expect("never closed");
        ListTurn { _of_client: of_client, _of_all: of_all }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_client_with_many_lists_waits_and_others_do_not() {
        let turns = ListTurns::default();
        let [one, other]: [ClientId; 2] = ["one", "other"].map(|id| id.parse().expect("a client id"));
        let take = |client: &ClientId| turns.take(client).now_or_never();
        let mut taken: Vec<ListTurn> = (0..LISTS_OF_CLIENT_MAX).filter_map(|_| take(&one)).collect();
        assert_eq!(taken.len(), LISTS_OF_CLIENT_MAX);
        assert!(take(&one).is_none(), "it has all of its own");
        assert!(take(&other).is_some(), "another client does not wait");
        taken.pop();
        assert!(take(&one).is_some(), "one of its lists has ended");
    }
}
