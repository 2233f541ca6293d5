//! The databases of coredms, opened when they are first needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::{Client, Config};
use mysimbdp_core::io::address;
use mysimbdp_core::io::coredms::{self, Coredms, CoredmsError};
use tokio::sync::OnceCell;

type Store = OnceCell<Arc<dyn Coredms>>;

/// The platform's database and those of the clients.
#[derive(Debug)]
pub(crate) struct Stores {
    config: Arc<Config>,
    platform: Store,
    clients: BTreeMap<ClientId, Store>,
}

impl Stores {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let clients = config.clients.keys().map(|client| (client.clone(), Store::new())).collect();
        Self { config, platform: Store::new(), clients }
    }

    /// The platform's own database.
    pub(crate) async fn platform(&self) -> Result<Arc<dyn Coredms>, CoredmsError> {
        let database = &self.config.settings.coredms.database;
        let open = || coredms::open(&self.config.coredms_url, database);
        self.platform.get_or_try_init(open).await.cloned()
    }

    /// The client's database; before it is first given its collections have the validators of the config.
    pub(crate) async fn client(&self, client: &Client) -> Result<Arc<dyn Coredms>, CoredmsError> {
        let open = || async {
            let store = coredms::open(&self.config.coredms_url, &client.database).await?;
            let address = address::without_password(&self.config.coredms_url);
            if let Err(error) = ensure_collections(store.as_ref(), client, &address).await {
                store.close().await;
                return Err(error);
            }
            Ok(store)
        };
        match self.clients.get(&client.id) {
            Some(store) => store.get_or_try_init(open).await.cloned(),
            // Every client of the config has its place.
            None => open().await,
        }
    }

    pub(crate) async fn close(&self) {
        for store in self.clients.values().chain([&self.platform]).filter_map(OnceCell::get) {
            store.close().await;
        }
    }
}

async fn ensure_collections(store: &dyn Coredms, client: &Client, address: &str) -> Result<(), CoredmsError> {
    for (name, collection) in &client.settings.collections {
        let validator =
            bson::serialize_to_document(&collection.validator).map_err(|error| CoredmsError::Refused {
                address: address.to_owned(),
                operation: "read the validator of a collection",
                source: Box::new(error),
            })?;
        store.ensure_collection(name, Some(&validator)).await?;
    }
    Ok(())
}
