//! Probes broker and store.

use std::path::Path;
use std::time::Duration;

use mysimbdp_broker::ConnectOptions;
use mysimbdp_config::{Config, address};
use mysimbdp_model::error_chain;
use mysimbdp_platform::{files, random};
use tokio::time::timeout;

use super::{Condition, Part, PartKind, WITHIN};

/// The longest wait for the end of a connection that was opened only to probe.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Returns a part for the broker and one for the store, which are probed at the same time.
pub async fn connections(config: &Config) -> Vec<Part> {
    let (broker, store) = tokio::join!(probe_broker(config), probe_store(config));
    vec![part("broker", broker), part("store", store)]
}

/// The result of a probe is the address, or why the probe failed.
fn part(name: &str, asked: Result<String, String>) -> Part {
    let (condition, text) = match asked {
        Ok(text) => (Condition::Good, text),
        Err(text) => (Condition::Missing, text),
    };
    Part::new(PartKind::Connection, name, condition, text)
}

fn no_answer() -> String {
    format!("it does not answer within {WITHIN:?}")
}

async fn probe_broker(config: &Config) -> Result<String, String> {
    let url = address::broker(config).map_err(|error| error_chain(&error))?;
    let shown = address::without_credentials(&url);
    let prefix = config.settings.broker.topic_prefix.replace('/', "-");
    let client_id = format!("{prefix}-status-{:08x}", random::number() as u32);
    let options =
        ConnectOptions { keep_alive: config.broker_keep_alive, ..ConnectOptions::new(&url, client_id) };
    match timeout(WITHIN, mysimbdp_broker::probe(&options)).await {
        Ok(Ok(())) => Ok(shown),
        Ok(Err(error)) => Err(format!("{shown} is unavailable: {}", error_chain(&error))),
        Err(_) => Err(format!("{shown} is unavailable: {}", no_answer())),
    }
}

/// Whether the platform's database may exist. Asking it must not create it, least of all as another user.
pub(crate) fn store_exists(config: &Config) -> bool {
    let database = &config.settings.coredms.database;
    let directory = config.coredms_url.strip_prefix("sqlite:");
    directory.is_none_or(|directory| files::exists(&Path::new(directory).join(format!("{database}.sqlite"))))
}

async fn probe_store(config: &Config) -> Result<String, String> {
    let shown = address::without_credentials(&config.coredms_url);
    let database = &config.settings.coredms.database;
    if !store_exists(config) {
        return Ok(format!("{shown}, which is created when it is first used"));
    }
    let ask = async {
        let store = mysimbdp_store::open(&config.coredms_url, database).await?;
        let answer = store.ping().await;
        let _ = timeout(CLOSE_TIMEOUT, store.close()).await;
        answer
    };
    match timeout(WITHIN, ask).await {
        Ok(Ok(())) => Ok(shown),
        Ok(Err(error)) => Err(format!("{shown} is unavailable: {}", error_chain(&error))),
        Err(_) => Err(format!("{shown} is unavailable: {}", no_answer())),
    }
}
