//! Creates what must exist before the first instance of a stream is started: the client's collections with their
//! configured validators, and a session, so that the broker queues for the stream from then on.
//!
//! Store and broker may be unavailable for any length of time: each step is retried until it succeeds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mysimbdp_broker::consumer::{create_session, end_session};
use mysimbdp_broker::{BrokerError, ConnectOptions};
use mysimbdp_config::address::{self, AddressError};
use mysimbdp_config::{Client, Config, REJECTED, Stream};
use mysimbdp_model::error_chain;
use mysimbdp_platform::random;
use mysimbdp_store::{Coredms, CoredmsError};

use crate::key::SlotKey;
use crate::spawn::topic_filter;

const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(20);
const BROKER_DEADLINE: Duration = Duration::from_secs(10);

/// How long the broker keeps a session that nobody reads, with its queued messages: 7 days, more than a long weekend.
pub(crate) const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 86_400);

/// Why a preparation step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("cannot prepare collection {collection:?}")]
    Collection {
        collection: String,
        #[source]
        source: CoredmsError,
    },
    #[error("cannot open database {database:?}")]
    Database {
        database: String,
        #[source]
        source: CoredmsError,
    },
    #[error("validator of collection {collection:?} is not a valid document")]
    Validator {
        collection: String,
        #[source]
        source: bson::error::Error,
    },
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("cannot create or end session {instance:?}")]
    Session {
        instance: String,
        #[source]
        source: BrokerError,
    },
}

/// Why a preparation is not complete yet; shared with the task that performs it. The `Arc` also identifies the
/// preparation: if it is not the stream's present one, that preparation was for an earlier config.
pub(crate) type Obstacle = Arc<Mutex<Option<String>>>;

impl PrepareError {
    fn is_of_broker(&self) -> bool {
        match self {
            Self::Address(_) | Self::Session { .. } => true,
            Self::Collection { .. } | Self::Database { .. } | Self::Validator { .. } => false,
        }
    }
}

/// Prepares the store, and the session of the slot `session` if there is one; returns when both are done.
///
/// While it waits, `obstacle` holds the reason.
pub(crate) async fn prepare(
    config: Arc<Config>,
    client: Client,
    stream: Stream,
    session: Option<SlotKey>,
    obstacle: Obstacle,
) {
    until_done("stream preparation failed, retrying", &client, &stream, &obstacle, || async {
        collections(&config, &client, &stream).await?;
        match &session {
            Some(key) => make_session(&config, &client, &stream, key).await,
            None => Ok(()),
        }
    })
    .await;
}

/// Ends the broker session of a slot whose process could not end it itself.
pub(crate) async fn end_broker_session(config: Arc<Config>, client: Client, stream: Stream, key: SlotKey) {
    until_done("session not ended yet, retrying", &client, &stream, &Obstacle::default(), || async {
        let source = |source| PrepareError::Session { instance: key.instance_name(&config), source };
        end_session(&session_options(&config, &key)?).await.map_err(source)
    })
    .await;
}

async fn until_done<F>(
    what: &'static str,
    client: &Client,
    stream: &Stream,
    obstacle: &Obstacle,
    attempt: impl Fn() -> F,
) where
    F: Future<Output = Result<(), PrepareError>>,
{
    let (mut wait, mut failures) = (RETRY_FIRST, 0u32);
    while let Err(error) = attempt().await {
        failures += 1;
        let unavailable =
            if error.is_of_broker() { "the broker is unavailable" } else { "the store is unavailable" };
        set(obstacle, Some(format!("{unavailable}: {}", error_chain(&error))));
        // Logged once per outage.
        if failures == 1 {
            tracing::warn!(client = %client.id, stream = stream.name, error = %error_chain(&error), "{what}");
        }
        tokio::time::sleep(wait.mul_f64(random::jitter())).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
    set(obstacle, None);
    if failures > 0 {
        tracing::info!(client = %client.id, stream = stream.name, failures, "retry succeeded");
    }
}

fn set(obstacle: &Obstacle, reason: Option<String>) {
    *obstacle.lock().unwrap_or_else(PoisonError::into_inner) = reason;
}

async fn collections(config: &Config, client: &Client, stream: &Stream) -> Result<(), PrepareError> {
    let opened = mysimbdp_store::open(&config.coredms_url, &client.database).await;
    let store =
        opened.map_err(|source| PrepareError::Database { database: client.database.clone(), source })?;
    let prepared = ensure(store.as_ref(), client, stream).await;
    store.close().await;
    prepared
}

async fn ensure(store: &dyn Coredms, client: &Client, stream: &Stream) -> Result<(), PrepareError> {
    for collection in [stream.collection.as_str(), REJECTED] {
        let settings = client.settings.collections.get(collection);
        let validator = settings.and_then(|settings| settings.validator.as_ref());
        let validator = validator
            .map(bson::serialize_to_document)
            .transpose()
            .map_err(|source| PrepareError::Validator { collection: collection.to_owned(), source })?;
        let source = |source| PrepareError::Collection { collection: collection.to_owned(), source };
        store.ensure_collection(collection, validator.as_ref()).await.map_err(source)?;
    }
    Ok(())
}

async fn make_session(
    config: &Config,
    client: &Client,
    stream: &Stream,
    key: &SlotKey,
) -> Result<(), PrepareError> {
    let options = session_options(config, key)?;
    let made = create_session(options, vec![topic_filter(client, stream)], BROKER_DEADLINE).await;
    made.map_err(|source| PrepareError::Session { instance: key.instance_name(config), source })
}

fn session_options(config: &Config, key: &SlotKey) -> Result<ConnectOptions, PrepareError> {
    Ok(ConnectOptions {
        keep_alive: config.broker_keep_alive,
        session_expiry: Some(SESSION_EXPIRY),
        // Messages that the broker sends right after connecting are not acknowledged, so they stay in the session.
        receive_maximum: 1,
        ..ConnectOptions::new(address::broker(config)?, key.instance_name(config))
    })
}
