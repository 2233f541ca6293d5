//! Opens the databases of coredms when they are first needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mysimbdp_config::{Client, Config, address};
use mysimbdp_model::client::ClientId;
use mysimbdp_store::history::History;
use mysimbdp_store::{Coredms, CoredmsError};
use tokio::sync::OnceCell;

type Store = OnceCell<Arc<dyn Coredms>>;

/// The platform's database and those of the clients.
#[derive(Debug)]
pub(crate) struct Stores {
    url: String,
    database: String,
    platform: Store,
    clients: Mutex<Clients>,
}

/// The databases of the clients, each with the collections of the config in use.
#[derive(Debug)]
struct Clients {
    config: Arc<Config>,
    stores: BTreeMap<ClientId, Arc<Store>>,
}

impl Stores {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            url: config.coredms_url.clone(),
            database: config.settings.coredms.database.clone(),
            platform: Store::new(),
            clients: Mutex::new(Clients { config, stores: BTreeMap::new() }),
        }
    }

    /// Uses another config. The database of a client whose collections differ is opened again before it is next
    /// returned, which sets them up.
    pub(crate) fn take_over(&self, config: Arc<Config>) {
        let mut clients = self.clients();
        let before = std::mem::replace(&mut clients.config, config);
        let Clients { config, stores } = &mut *clients;
        let collections =
            |config: &Config, client: &ClientId| Some(config.client(client)?.settings.collections.clone());
        stores.retain(|client, _| collections(&before, client) == collections(config, client));
    }

    /// Returns the history of runs, in the platform's own database.
    pub(crate) async fn history(&self) -> Result<History, CoredmsError> {
        let open = || mysimbdp_store::open(&self.url, &self.database);
        self.platform.get_or_try_init(open).await.cloned().map(History::new)
    }

    /// Returns the client's database. Before it is first returned, its collections get the validators of the config in
    /// use, even if the work that needs it has begun under an earlier one.
    pub(crate) async fn client(&self, client: &Client) -> Result<Arc<dyn Coredms>, CoredmsError> {
        let (config, cell) = {
            let mut clients = self.clients();
            (Arc::clone(&clients.config), Arc::clone(clients.stores.entry(client.id.clone()).or_default()))
        };
        let client = config.client(&client.id).unwrap_or(client);
        let open = || async {
            let store = mysimbdp_store::open(&self.url, &client.database).await?;
            let address = address::without_credentials(&self.url);
            if let Err(error) = ensure_collections(store.as_ref(), client, &address).await {
                store.close().await;
                return Err(error);
            }
            Ok(store)
        };
        cell.get_or_try_init(open).await.cloned()
    }

    pub(crate) async fn close(&self) {
        let clients = std::mem::take(&mut self.clients().stores);
        for store in clients.values().map(Arc::as_ref).chain([&self.platform]).filter_map(OnceCell::get) {
            store.close().await;
        }
    }

    /// A poisoned lock is usable: no panic can leave the map half changed.
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ensure_collections(store: &dyn Coredms, client: &Client, address: &str) -> Result<(), CoredmsError> {
    for (name, collection) in &client.settings.collections {
        let validator = collection.validator.as_ref().map(bson::serialize_to_document).transpose();
        let validator = validator.map_err(|error| CoredmsError::Refused {
            address: address.to_owned(),
            operation: "read the validator of a collection",
            source: Box::new(error),
        })?;
        store.ensure_collection(name, validator.as_ref()).await?;
    }
    Ok(())
}
