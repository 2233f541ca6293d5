//! The queues: how many files of each client wait to be ingested, for how long, and what the first one waits for.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::manifest::Lane;
use mysimbdp_spool::staging::{self, StagedIngestion, StagingError};
use mysimbdp_store::history::History;

use crate::error::QueryError;

/// Waiting times are those of this many latest runs of the client.
pub const RUNS: usize = 1000;

/// The files of a client in one lane that are staged.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub client: ClientId,
    pub lane: Lane,
    pub files: usize,
    /// Of these, the ones of which a unit was begun.
    pub begun: usize,
    pub bytes: u64,
    pub records: u64,
    /// When the oldest one was staged.
    pub oldest_staged_at: Option<Timestamp>,
    /// Why the oldest one is not ingested, if its last attempt failed or waits for something.
    pub head_waits_for: Option<String>,
    /// From staging to the end of the run.
    pub wait: Option<WaitTimes>,
}

/// Percentiles of the waiting times of runs that have ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WaitTimes {
    pub runs: usize,
    pub median: Duration,
    pub p99: Duration,
}

/// Returns the queues of a client, or of all clients: those of all lanes in which files are staged, and of the lane `live` in any
/// case.
///
/// # Errors
///
/// Staging cannot be read, or the store is unavailable.
pub async fn queues(
    config: &Config,
    history: &History,
    only: Option<&ClientId>,
) -> Result<Vec<Queue>, QueryError> {
    let mut queues = Vec::new();
    for client in config.clients.keys().filter(|client| only.is_none_or(|only| only == *client)) {
        let mut waits = waits(history, client).await?;
        let mut lanes = lanes(config, client)?;
        lanes.entry(Lane::Live).or_default();
        for (lane, staged) in lanes {
            let wait = percentiles(waits.entry(lane).or_default());
            queues.push(queue(client.clone(), lane, &staged, wait));
        }
    }
    Ok(queues)
}

/// The staged files of a client by lane.
fn lanes(config: &Config, client: &ClientId) -> Result<BTreeMap<Lane, Vec<StagedIngestion>>, QueryError> {
    let mut lanes: BTreeMap<Lane, Vec<StagedIngestion>> = BTreeMap::new();
    for ingestion in staging::ingestions(&config.layout, client)? {
        match staging::read(&config.layout, client, ingestion) {
            Ok(staged) => lanes.entry(staged.manifest.lane).or_default().push(staged),
            // It has ended meanwhile.
            Err(StagingError::File(error)) if error.is_not_found() => {}
            // `status` names what is damaged.
            Err(error) => {
                tracing::debug!(error = error_chain(&error), "a staged file is left out of its queue")
            }
        }
    }
    Ok(lanes)
}

fn queue(client: ClientId, lane: Lane, staged: &[StagedIngestion], wait: Option<WaitTimes>) -> Queue {
    let oldest = staged.iter().min_by_key(|staged| staged.manifest.staged_at);
    Queue {
        client,
        lane,
        files: staged.len(),
        begun: staged.iter().filter(|staged| !staged.attempts.is_empty()).count(),
        bytes: staged.iter().map(|staged| staged.manifest.bytes).sum(),
        records: staged.iter().map(|staged| staged.manifest.records).sum(),
        oldest_staged_at: oldest.map(|oldest| oldest.manifest.staged_at),
        head_waits_for: oldest
            .and_then(|oldest| oldest.attempts.values().find_map(|attempt| attempt.reason.clone())),
        wait,
    }
}

/// How long the latest runs of a client have waited, by lane.
async fn waits(history: &History, client: &ClientId) -> Result<BTreeMap<Lane, Vec<Duration>>, QueryError> {
    let mut waits: BTreeMap<Lane, Vec<Duration>> = BTreeMap::new();
    let mut runs = pin!(history.latest(Some(client), None).await?);
    for _ in 0..RUNS {
        let Some(run) = runs.try_next().await? else { break };
        let millis = run.finished_at.timestamp_millis().saturating_sub(run.staged_at.timestamp_millis());
        let wait = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        waits.entry(run.lane).or_default().push(wait);
    }
    Ok(waits)
}

/// The smallest times that half, and 99 of 100, of the runs did not exceed.
fn percentiles(waits: &mut [Duration]) -> Option<WaitTimes> {
    waits.sort_unstable();
    let at = |percent: usize| waits.get((waits.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some(WaitTimes { runs: waits.len(), median: at(50)?, p99: at(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let seconds = Duration::from_secs;
        assert_eq!(percentiles(&mut []), None);
        let of = |count: u64| percentiles(&mut (1..=count).rev().map(seconds).collect::<Vec<_>>());
        for (count, median, p99) in [(1, 1, 1), (2, 1, 2), (100, 50, 99), (101, 51, 100), (1000, 500, 990)] {
            let expected = WaitTimes { runs: count as usize, median: seconds(median), p99: seconds(p99) };
            assert_eq!(of(count), Some(expected));
        }
    }
}
