//! Looks up whether the same content of this client is known already: staged, held or ingested.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_platform::files;
use mysimbdp_spool::replace;
use mysimbdp_store::CoredmsError;
use mysimbdp_store::history::History;
use tokio::sync::OnceCell;

/// After a failure the history is not queried for this long: each query of an unavailable store costs seconds.
const OUTAGE_PAUSE: Duration = Duration::from_secs(10);

/// Where the same content is.
#[derive(Debug)]
pub(crate) enum ContentState {
    New,
    Staged,
    Held,
    /// All its runs; at least one of them has ingested it.
    Ingested(Vec<Run>),
}

/// Checks in the order in which an ingestion moves, so that one that moves meanwhile is found.
pub(crate) async fn look_up(
    layout: &Layout,
    history: &EarlierIngestions,
    client: &ClientId,
    ingestion: IngestionId,
) -> ContentState {
    if files::exists(&layout.staged(client, ingestion)) {
        return ContentState::Staged;
    }
    if files::exists(&layout.held(client, ingestion)) {
        return ContentState::Held;
    }
    let runs = history.runs_of(ingestion).await;
    if replace::last_ingested(&runs).is_some() { ContentState::Ingested(runs) } else { ContentState::New }
}

/// What coredms knows of earlier ingestions. While it is unavailable nothing is known: the ids make a duplicate
/// harmless.
#[derive(Debug)]
pub(crate) struct EarlierIngestions {
    url: String,
    database: String,
    history: OnceCell<History>,
    /// When it was last found to be unavailable.
    unavailable_since: Mutex<Option<Instant>>,
}

impl EarlierIngestions {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            url: config.coredms_url.clone(),
            database: config.settings.coredms.database.clone(),
            history: OnceCell::new(),
            unavailable_since: Mutex::new(None),
        }
    }

    pub(crate) async fn close(&self) {
        if let Some(history) = self.history.get() {
            history.close().await;
        }
    }

    /// Whether this content has been ingested since then, as far as is known.
    pub(crate) async fn is_ingested_since(&self, ingestion: IngestionId, since: SystemTime) -> bool {
        let since = bson::DateTime::from_system_time(since);
        let has_ingested = |run: &Run| run.state == FinalState::Ingested && run.finished_at >= since;
        self.runs_of(ingestion).await.iter().any(has_ingested)
    }

    /// Whether it was unavailable at the last query: content reported as unknown may be known.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.lock().is_some()
    }

    async fn runs_of(&self, ingestion: IngestionId) -> Vec<Run> {
        let last_failure = *self.lock();
        if last_failure.is_some_and(|at| at.elapsed() < OUTAGE_PAUSE) {
            return Vec::new();
        }
        let found = self.find(ingestion).await;
        let before = std::mem::replace(&mut *self.lock(), found.is_err().then(Instant::now));
        match found {
            Ok(runs) => {
                if before.is_some() {
                    tracing::info!("history is available again");
                }
                runs
            }
            Err(error) => {
                if before.is_none() {
                    tracing::warn!(
                        error = mysimbdp_model::error_chain(&error),
                        "history is unavailable, content that was ingested before is staged again"
                    );
                }
                Vec::new()
            }
        }
    }

    async fn find(&self, ingestion: IngestionId) -> Result<Vec<Run>, CoredmsError> {
        self.history.get_or_try_init(|| self.open()).await?.runs_of(ingestion).await
    }

    async fn open(&self) -> Result<History, CoredmsError> {
        let history = History::open(&self.url, &self.database).await?;
        history.ensure_index().await?;
        Ok(history)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unavailable_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
