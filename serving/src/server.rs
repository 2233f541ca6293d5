//! What all handlers share.

use std::collections::BTreeMap;
use std::sync::Arc;

use mysimbdp_config::{Client, Config};
use mysimbdp_query::records::SourceNames;
use mysimbdp_store::history::History;
use mysimbdp_store::{Coredms, CoredmsError};
use tokio::sync::{Mutex, OnceCell, watch};

use crate::events::Events;
use crate::indexes::Indexes;
use crate::latest::LatestRecords;
use crate::measurements::Measurements;
use crate::stored::StoredDocuments;
use crate::tokens::{Tokens, TokensError};
use crate::turns::ListTurns;
use crate::windows::Windows;

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct Server {
    config: watch::Receiver<Arc<Config>>,
    /// `None` if no token is required.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) events: Arc<Events>,
    history: OnceCell<History>,
    /// The clients' databases that have been opened, by name.
    databases: Mutex<BTreeMap<String, Arc<dyn Coredms>>>,
    pub(crate) indexes: Indexes,
    pub(crate) stored: StoredDocuments,
    pub(crate) latest: LatestRecords,
    pub(crate) sources: Arc<SourceNames>,
    pub(crate) windows: Windows,
    pub(crate) measurements: Measurements,
    pub(crate) list_turns: ListTurns,
    /// Held while the files in the directories are counted for the metrics.
    counting: Arc<Mutex<()>>,
}

impl Server {
    /// # Errors
    ///
    /// The tokens cannot be read.
    pub(crate) fn new(running: watch::Receiver<Arc<Config>>, config: &Config) -> Result<Self, TokensError> {
        let tokens = config
            .serving
            .tokens_file
            .as_deref()
            .map(|file| Tokens::read(file, &config.layout))
            .transpose()?;
        let events = Arc::new(Events::new(config.settings.serving.event_streams_max as usize));
        let windows_bytes_max = config.settings.serving.windows_bytes_max.as_u64();
        let windows_bytes_max = usize::try_from(windows_bytes_max).unwrap_or(usize::MAX);
        Ok(Self {
            config: running,
            tokens,
            events,
            history: OnceCell::new(),
            databases: Mutex::default(),
            indexes: Indexes::default(),
            stored: StoredDocuments::default(),
            latest: LatestRecords::default(),
            sources: Arc::default(),
            windows: Windows::new(windows_bytes_max),
            measurements: Measurements::default(),
            list_turns: ListTurns::default(),
            counting: Arc::default(),
        })
    }

    /// The config that the server runs on.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    pub(crate) fn counting(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.counting)
    }

    /// The history of the files.
    pub(crate) async fn history(&self) -> Result<&History, CoredmsError> {
        self.history.get_or_try_init(async || mysimbdp_query::open_history(&self.config()).await).await
    }

    /// The client's database.
    pub(crate) async fn database(&self, client: &Client) -> Result<Arc<dyn Coredms>, CoredmsError> {
        let mut databases = self.databases.lock().await;
        if let Some(database) = databases.get(&client.database) {
            return Ok(Arc::clone(database));
        }
        let opened = mysimbdp_store::open(&self.config().coredms_url, &client.database).await?;
        databases.insert(client.database.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    pub(crate) async fn close(&self) {
        self.indexes.abort();
        if let Some(history) = self.history.get() {
            history.close().await;
        }
        for database in self.databases.lock().await.values() {
            database.close().await;
        }
    }
}
