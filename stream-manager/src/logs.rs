//! Rotates the log files that the stream apps hold open, by copying them: see [`RotateByCopy`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_core::chain;
use mysimbdp_core::config::Config;
use mysimbdp_core::logging::RotateByCopy;

use crate::spawn::log_file;

/// How soon after midnight a file is rotated at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Rotates until it is dropped.
pub(crate) async fn rotate_daily(config: Arc<Config>) {
    let retention = config.settings.logs.retention.duration();
    let clients = config.clients.values().filter(|client| !client.streams.is_empty());
    let paths = clients.map(|client| log_file(&config, client));
    let mut logs: Vec<(PathBuf, RotateByCopy)> = paths.filter_map(|path| open(path, retention)).collect();
    loop {
        let looked = tokio::task::spawn_blocking(move || {
            logs.iter_mut().for_each(rotate);
            logs
        });
        logs = match looked.await {
            Ok(logs) => logs,
            // Only the runtime's end cancels it.
            Err(_) => return,
        };
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn open(path: PathBuf, retention: Duration) -> Option<(PathBuf, RotateByCopy)> {
    match RotateByCopy::new(&path, retention) {
        Ok(log) => Some((path, log)),
        Err(error) => {
            tracing::warn!(file = %path.display(), error = %chain(&error), "log will not be rotated");
            None
        }
    }
}

fn rotate((path, log): &mut (PathBuf, RotateByCopy)) {
    match log.rotate() {
        Ok(true) => tracing::info!(file = %path.display(), "log rotated"),
        Ok(false) => {}
        Err(error) => tracing::warn!(file = %path.display(), error = %chain(&error), "log not rotated"),
    }
}
