//! The files that a contract expects, from what was found on disk and in the history.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures::TryStreamExt;
use jiff::Timestamp;
use mysimbdp_config::{ArrivalContract, Client};
use mysimbdp_model::arrival::judge::ArrivedFiles;
use mysimbdp_model::arrival::{Arrival, ArrivedState, DiscardedArrival};
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::outcome::FinalState;
use mysimbdp_store::CoredmsError;
use mysimbdp_store::date::{date, time};
use mysimbdp_store::history::{History, ReceivedFile};

use super::gather::Found;

/// What a contract expects of what was found.
pub(super) fn of_contract(client: &Client, contract: &ArrivalContract, found: &[Found]) -> Vec<Found> {
    let file = |found: &&Found| match found {
        Found::Arrived(arrival) => client.expects(contract, &arrival.file),
        Found::Discarded(discarded) => client.expects(contract, &discarded.file),
    };
    found.iter().filter(file).cloned().collect()
}

/// What identifies the files on disk.
pub(super) fn on_disk(found: &[Found]) -> BTreeSet<String> {
    let name = |found: &Found| match found {
        Found::Arrived(arrival) => {
            Some(arrival.ingestion.clone().unwrap_or_else(|| format!("name {}", arrival.file)))
        }
        Found::Discarded(_) => None,
    };
    found.iter().filter_map(name).collect()
}

/// Returns the expected files in the history that were received after this time.
pub(super) async fn read_history(
    history: &History,
    client: &Client,
    contract: &ArrivalContract,
    after: Timestamp,
) -> Result<Vec<Arrival>, CoredmsError> {
    let mut received = pin!(history.received(&client.id, date(after)).await?);
    let mut ended = Vec::new();
    while let Some(file) = received.try_next().await? {
        if file.lane != Lane::Backfill && client.expects(contract, &file.file) {
            ended.extend(as_arrival(file));
        }
    }
    Ok(ended)
}

fn as_arrival(file: ReceivedFile) -> Option<Arrival> {
    let state = match file.state {
        FinalState::Ingested => ArrivedState::Ingested { records: u64::try_from(file.received).unwrap_or(0) },
        FinalState::Held | FinalState::Purged => ArrivedState::Held,
        FinalState::Discarded => return None,
    };
    Some(Arrival {
        received_at: time(file.received_at),
        file: file.file,
        ingestion: Some(file.ingestion),
        state,
    })
}

/// Each file once: the same content that was received at the same time is the same file, wherever it was seen.
pub(super) fn merge(found: &[Found], ended: &[Arrival]) -> ArrivedFiles {
    let mut arrivals: BTreeMap<(Timestamp, String), Arrival> = BTreeMap::new();
    let mut waiting = Vec::new();
    let mut discarded: Vec<DiscardedArrival> = Vec::new();
    for found in found.iter().cloned() {
        match found {
            Found::Arrived(mut arrival) => {
                arrival.received_at = whole_millis(arrival.received_at);
                match arrival.ingestion.clone() {
                    Some(ingestion) => _ = arrivals.insert((arrival.received_at, ingestion), arrival),
                    None => waiting.push(arrival),
                }
            }
            Found::Discarded(mut file) => {
                file.received_at = whole_millis(file.received_at);
                discarded.push(file);
            }
        }
    }
    for arrival in ended {
        let key = (arrival.received_at, arrival.ingestion.clone().unwrap_or_default());
        // One that is staged again has been ingested all the same.
        match arrival.state {
            ArrivedState::Ingested { .. } => _ = arrivals.insert(key, arrival.clone()),
            _ => _ = arrivals.entry(key).or_insert_with(|| arrival.clone()),
        }
    }
    let mut arrivals: Vec<Arrival> = arrivals.into_values().collect();
    let is_same = |waiting: &Arrival, (file, at): (&String, Timestamp)| {
        *file == waiting.file && at == waiting.received_at
    };
    waiting.retain(|waiting| {
        !arrivals.iter().any(|arrival| is_same(waiting, (&arrival.file, arrival.received_at)))
            && !discarded.iter().any(|file| is_same(waiting, (&file.file, file.received_at)))
    });
    arrivals.append(&mut waiting);
    ArrivedFiles { arrivals, discarded }
}

/// As the store keeps times.
fn whole_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn arrival(second: i64, ingestion: Option<&str>, state: ArrivedState) -> Arrival {
        Arrival {
            received_at: at(second),
            file: "a".to_owned(),
            ingestion: ingestion.map(str::to_owned),
            state,
        }
    }

    #[test]
    fn a_file_that_was_seen_in_several_places_counts_once() {
        use ArrivedState::{Held, Ingested, Staged, Waiting};
        let ended = Ingested { records: 1 };
        let nanosecond = jiff::SignedDuration::from_nanos(1);
        let mut precise = arrival(1, Some("i"), Staged);
        precise.received_at += nanosecond;
        for (found, history, expected) in [
            // On its way from one directory to the next, or into the history.
            (vec![arrival(1, None, Waiting), arrival(1, Some("i"), Staged)], vec![], vec![Staged]),
            (vec![arrival(1, Some("i"), Staged)], vec![arrival(1, Some("i"), ended)], vec![ended]),
            (vec![precise], vec![arrival(1, Some("i"), ended)], vec![ended]),
            // A held one that is retried, and one that is ingested again.
            (vec![arrival(1, Some("i"), Staged)], vec![arrival(1, Some("i"), Held)], vec![Staged]),
            (vec![], vec![arrival(1, Some("i"), Held), arrival(1, Some("i"), ended)], vec![ended]),
            (vec![], vec![arrival(1, Some("i"), ended), arrival(1, Some("i"), Held)], vec![ended]),
            // Other files.
            (vec![arrival(2, None, Waiting)], vec![arrival(1, Some("i"), ended)], vec![ended, Waiting]),
            (vec![], vec![arrival(1, Some("i"), ended), arrival(2, Some("i"), ended)], vec![ended, ended]),
        ] {
            let found: Vec<Found> = found.into_iter().map(Found::Arrived).collect();
            let states: Vec<_> =
                merge(&found, &history).arrivals.iter().map(|arrival| arrival.state).collect();
            assert_eq!(states, expected, "{found:?} {history:?}");
        }
        let discarded = DiscardedArrival {
            file: "a".to_owned(),
            received_at: at(1),
            reasons: Vec::new(),
            codes: Vec::new(),
        };
        let found = [Found::Arrived(arrival(1, None, Waiting)), Found::Discarded(discarded)];
        assert!(merge(&found, &[]).arrivals.is_empty(), "it was discarded meanwhile");
    }
}
