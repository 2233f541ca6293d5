//! What of this process is counted besides the ends of files: the queue, attempts and runs of apps.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::manifest::{Lane, Manifest};
use mysimbdp_telemetry::metrics::metrics;

use crate::attempt::AttemptEnd;
use crate::run::Verdict;
use crate::timing;

/// How often the queue is measured: a pass over 100,000 staged files takes milliseconds.
pub(crate) const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The staged files of a client in a lane.
#[derive(Clone, Copy, Default)]
struct Staged {
    files: i64,
    bytes: u64,
    oldest: Option<Timestamp>,
}

/// Shows what the apps of this config will count.
pub(crate) fn configured(config: &Config) {
    for client in config.clients.values() {
        for app in &client.apps {
            metrics().app_configured(client.id.as_str(), &app.name);
        }
    }
}

/// Shows how much is staged.
pub(crate) fn queue<'a>(config: &Config, staged: impl Iterator<Item = &'a Manifest>) {
    let configured = config.clients.keys().flat_map(|client| Lane::ALL.map(|lane| (client, lane)));
    let mut queues: BTreeMap<_, _> = configured.map(|key| (key, Staged::default())).collect();
    for manifest in staged {
        let queue = queues.entry((&manifest.client, manifest.lane)).or_default();
        queue.files += 1;
        queue.bytes = queue.bytes.saturating_add(manifest.bytes);
        queue.oldest = Some(queue.oldest.map_or(manifest.staged_at, |oldest| oldest.min(manifest.staged_at)));
    }
    for ((client, lane), Staged { files, bytes, oldest }) in queues {
        let labels = [client.as_str(), lane.as_str()];
        metrics().staged_files.with(labels).set(files);
        metrics().staged_bytes.with(labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let age = oldest.map(timing::since).unwrap_or_default();
        metrics().staged_oldest_seconds.with(labels).set(age.as_secs_f64());
    }
}

pub(crate) fn attempted(client: &str, app: &str, end: &AttemptEnd) {
    let result = match end {
        AttemptEnd::Done(_) => "done",
        AttemptEnd::Failed { .. } => "failed",
        AttemptEnd::TryLater { .. } => "later",
        AttemptEnd::Hopeless { .. } => "hopeless",
        AttemptEnd::Stopped => "stopped",
    };
    metrics().attempts.with([client, app, result]).inc();
}

pub(crate) fn app_ended(client: &str, app: &str, verdict: &Verdict) {
    let result = match verdict {
        Verdict::Done(_) => "done",
        Verdict::BadData(_) => "bad_data",
        Verdict::TryLater(_) => "try_later",
        Verdict::Crashed(_) => "crashed",
        Verdict::Stopped => "stopped",
    };
    metrics().app_exits.with([client, app, result]).inc();
}
