//! Decides what is recorded about a due time. Without effects.

use jiff::Timestamp;
use mysimbdp_config::ArrivalContract;
use mysimbdp_model::arrival::judge::Judgement;
use mysimbdp_model::arrival::{Arrival, ArrivalOutcome};
use mysimbdp_model::client::ClientId;
use mysimbdp_store::arrivals::{ArrivalRecord, ArrivedFile, DiscardedFile};

use crate::history::date;

/// What is to be recorded about a due time, and reported.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) record: ArrivalRecord,
    /// Whether it has another state than before.
    pub(super) is_new_state: bool,
    /// Whether a person is told of a problem now: once for a due time, whatever becomes of it.
    pub(super) warns: bool,
}

/// Returns the record of a due time if it differs from the one before. A due time of which nothing is known has none.
pub(super) fn change(
    client: &ClientId,
    contract: &ArrivalContract,
    judgement: &Judgement,
    before: Option<&ArrivalRecord>,
    now: Timestamp,
) -> Option<Change> {
    let state = judgement.verdict.outcome();
    let arrived = judgement.verdict.arrival().map(arrived_file);
    let discarded = judgement.discarded.clone().map(DiscardedFile::from);
    let is_unchanged = match before {
        None => state == ArrivalOutcome::Expected && discarded.is_none(),
        Some(before) => (before.state, &before.arrived, &before.discarded) == (state, &arrived, &discarded),
    };
    if is_unchanged {
        return None;
    }
    let is_new_state = before.map_or(ArrivalOutcome::Expected, |before| before.state) != state;
    let was_warned = before.is_some_and(|before| before.warned);
    let warns = state.is_problem() && !was_warned;
    let changed_at = before.filter(|_| !is_new_state).map_or(date(now), |before| before.changed_at);
    let mut record = ArrivalRecord::new(client, &contract.name, &contract.app, judgement.due);
    (record.state, record.changed_at, record.warned) = (state, changed_at, was_warned || warns);
    (record.arrived, record.discarded) = (arrived, discarded);
    Some(Change { record, is_new_state, warns })
}

fn arrived_file(arrival: &Arrival) -> ArrivedFile {
    ArrivedFile {
        file: arrival.file.clone(),
        ingestion: arrival.ingestion.clone(),
        received_at: date(arrival.received_at),
        state: arrival.state.as_str().to_owned(),
        records: arrival.state.records().map(|records| i64::try_from(records).unwrap_or(i64::MAX)),
    }
}
