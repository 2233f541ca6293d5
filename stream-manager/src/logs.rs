//! Rotates the log files that the stream apps hold open, by copying them: see [`RotateByCopy`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_config::Config;
use mysimbdp_model::error_chain;
use mysimbdp_telemetry::logging::{Logs, RotateByCopy};
use tokio::sync::watch;

use crate::spawn::log_file;

/// An app that writes as fast as it can fills a disk within minutes; a check costs microseconds.
const CHECK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    rotation: RotateByCopy,
    /// The last rotation failed. Keeps the failure from being logged with every check.
    failing: bool,
}

/// Rotates the logs of all clients in the current config, each daily and whenever it is full, until it is dropped.
pub(crate) async fn rotate(mut config: watch::Receiver<Arc<Config>>) {
    let mut logs = all(&config.borrow_and_update(), Vec::new());
    loop {
        if config.has_changed().unwrap_or_default() {
            logs = all(&config.borrow_and_update(), logs);
        }
        let rotated = tokio::task::spawn_blocking(move || {
            logs.iter_mut().for_each(rotate_one);
            logs
        });
        logs = match rotated.await {
            Ok(logs) => logs,
            // It is only cancelled when the runtime shuts down.
            Err(_) => return,
        };
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

/// Returns the logs of this config; those already in `known` keep their state.
fn all(config: &Config, mut known: Vec<Log>) -> Vec<Log> {
    let clients = config.clients.values().filter(|client| !client.streams.is_empty());
    let log = |path: PathBuf| match known.iter().position(|log| log.path == path) {
        Some(index) => Some(known.swap_remove(index)),
        None => open(path, &config.settings.logs),
    };
    clients.map(|client| log_file(config, client)).filter_map(log).collect()
}

fn open(path: PathBuf, settings: &Logs) -> Option<Log> {
    match RotateByCopy::new(&path, settings) {
        Ok(rotation) => Some(Log { path, rotation, failing: false }),
        Err(error) => {
            tracing::warn!(file = %path.display(), error = %error_chain(&error), "log will not be rotated");
            None
        }
    }
}

fn rotate_one(log: &mut Log) {
    let file = log.path.display();
    match log.rotation.rotate() {
        Ok(rotated) => {
            log.failing = false;
            if rotated {
                tracing::info!(%file, "log rotated");
            }
        }
        Err(error) if !log.failing => {
            log.failing = true;
            tracing::warn!(%file, error = %error_chain(&error), "log not rotated");
        }
        Err(_) => {}
    }
}
