//! Decides what is recorded about a due time. Without effects.

use jiff::Timestamp;
use mysimbdp_config::ArrivalContract;
use mysimbdp_model::arrival::judge::Judgement;
use mysimbdp_model::arrival::{Arrival, ArrivalOutcome};
use mysimbdp_model::client::ClientId;
use mysimbdp_store::arrivals::{ArrivalRecord, ArrivedFile, DiscardedFile};
use mysimbdp_store::date::date;

/// What is to be recorded about a due time, and reported.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) record: ArrivalRecord,
    /// Whether its state is certain, and was not reported before.
    pub(super) reports: bool,
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
    let was_reported = before.map_or(ArrivalOutcome::Expected, |before| before.reported);
    let reported = if judgement.is_provisional { was_reported } else { state };
    let is_unchanged = match before {
        None => state == ArrivalOutcome::Expected && discarded.is_none(),
        Some(before) => {
            (before.state, before.reported, &before.arrived, &before.discarded)
                == (state, reported, &arrived, &discarded)
        }
    };
    if is_unchanged {
        return None;
    }
    let is_new_state = before.is_none_or(|before| before.state != state);
    let was_warned = before.is_some_and(|before| before.warned);
    let warns = state.is_problem() && !was_warned;
    let changed_at = before.filter(|_| !is_new_state).map_or(date(now), |before| before.changed_at);
    let mut record = ArrivalRecord::new(client, &contract.name, &contract.app, judgement.due);
    (record.state, record.changed_at, record.warned) = (state, changed_at, was_warned || warns);
    record.reported = reported;
    (record.arrived, record.discarded) = (arrived, discarded);
    Some(Change { record, reports: reported != was_reported, warns })
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

#[cfg(test)]
mod tests {
    use mysimbdp_config::{Globs, settings};
    use mysimbdp_model::arrival::judge::Verdict;
    use mysimbdp_model::arrival::schedule::{Interval, Schedule};
    use mysimbdp_model::arrival::{ArrivedState, DiscardedArrival};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn contract() -> ArrivalContract {
        let settings = serde_json::from_str::<settings::ArrivalContract>(r#"{"files": "*", "by": "06:00"}"#);
        ArrivalContract {
            name: "c".to_owned(),
            app: "a".to_owned(),
            files: Globs::default(),
            schedule: Schedule {
                by: jiff::civil::time(6, 0, 0, 0),
                zone: jiff::tz::TimeZone::UTC,
                every: Interval::Days(1),
            },
            records_min: None,
            settings: settings.expect("settings"),
        }
    }

    fn judgement(verdict: Verdict, is_provisional: bool) -> Judgement {
        Judgement { due: at(100), verdict, discarded: None, until: at(150), is_provisional, is_final: false }
    }

    fn file(state: ArrivedState) -> Arrival {
        Arrival { received_at: at(90), file: "f".to_owned(), ingestion: None, state }
    }

    #[test]
    fn a_state_is_reported_once_it_is_certain_and_a_problem_is_warned_of_once() {
        let (client, contract) = ("c".parse().expect("client id"), contract());
        let (staged, ingested) = (file(ArrivedState::Staged), file(ArrivedState::Ingested { records: 1 }));
        let mut before: Option<ArrivalRecord> = None;
        // What is judged one after the other; whether it is recorded, reported and warned of, and since when it is so.
        for (now, verdict, is_provisional, expected) in [
            (1, Verdict::Expected, false, None),
            (2, Verdict::OnTime(staged.clone()), true, Some((false, false, 2))),
            (3, Verdict::OnTime(staged), true, None),
            (4, Verdict::TooSmall(ingested.clone()), false, Some((true, true, 4))),
            (5, Verdict::TooSmall(ingested.clone()), false, None),
            (6, Verdict::OnTime(ingested.clone()), false, Some((true, false, 6))),
            (7, Verdict::Repeated(ingested.clone()), false, Some((true, false, 7))),
            (8, Verdict::Missing, false, Some((true, false, 8))),
            // The clock was set back.
            (9, Verdict::Expected, false, Some((true, false, 9))),
            (10, Verdict::OnTime(ingested.clone()), true, Some((false, false, 10))),
            (11, Verdict::OnTime(ingested), false, Some((true, false, 10))),
        ] {
            let change =
                change(&client, &contract, &judgement(verdict, is_provisional), before.as_ref(), at(now));
            let found = change.as_ref().map(|change| {
                (change.reports, change.warns, change.record.changed_at.timestamp_millis() / 1000)
            });
            assert_eq!(found, expected, "{now}");
            before = change.map(|change| change.record).or(before);
        }
        assert!(before.is_some_and(|record| record.warned));
    }

    #[test]
    fn an_expected_due_time_is_recorded_if_a_file_was_discarded_for_it() {
        let (client, contract) = ("c".parse().expect("client id"), contract());
        let discarded = DiscardedArrival {
            file: "f".to_owned(),
            received_at: at(90),
            reasons: Vec::new(),
            codes: Vec::new(),
        };
        let judgement = Judgement { discarded: Some(discarded), ..judgement(Verdict::Expected, false) };
        let change = change(&client, &contract, &judgement, None, at(95)).expect("a change");
        assert!(!change.reports && !change.warns && change.record.discarded.is_some());
    }
}
