//! Verdicts.

use std::slice::from_ref;

use jiff::civil::time;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::arrival::schedule::Interval;
use crate::reason::ReasonCode;

fn daily() -> Schedule {
    Schedule { by: time(6, 0, 0, 0), zone: TimeZone::UTC, every: Interval::Days(1) }
}

/// A time in March, such as `02T05:59`.
fn at(text: &str) -> Timestamp {
    format!("2026-03-{text}:00Z").parse().expect("a time")
}

fn arrival(file: &str, received_at: &str, state: ArrivedState) -> Arrival {
    Arrival { received_at: at(received_at), file: file.to_owned(), ingestion: None, state }
}

fn ingested(file: &str, received_at: &str, records: u64) -> Arrival {
    arrival(file, received_at, ArrivedState::Ingested { records })
}

fn discarded(file: &str, received_at: &str, code: ReasonCode) -> DiscardedArrival {
    let (reasons, codes) = (vec!["a reason".to_owned()], vec![code]);
    DiscardedArrival { file: file.to_owned(), received_at: at(received_at), reasons, codes }
}

/// What became of the due times from the 2nd on, with the file that decided it, or the one that was discarded in brackets.
fn verdicts(files: &ArrivedFiles, records_min: Option<u64>, now: &str) -> Vec<String> {
    let closed = Closed { due: at("01T06:00"), until: at("01T06:00") };
    let schedule = daily();
    let judgements = judge(&Terms { schedule: &schedule, records_min }, closed, files, at(now));
    let text = |judgement: &Judgement| {
        let file = judgement.verdict.arrival().map(|arrival| format!(" {}", arrival.file));
        let discarded = judgement.discarded.as_ref().map(|file| format!(" ({})", file.file));
        let (file, discarded) = (file.unwrap_or_default(), discarded.unwrap_or_default());
        format!("{}{file}{discarded}", judgement.verdict.outcome().as_str())
    };
    judgements.iter().map(text).collect()
}

#[track_caller]
fn expect(arrivals: &[Arrival], records_min: Option<u64>, now: &str, expected: &[&str]) {
    let files = ArrivedFiles { arrivals: arrivals.to_vec(), discarded: Vec::new() };
    assert_eq!(verdicts(&files, records_min, now), expected);
}

#[test]
fn a_file_is_on_time_from_after_the_due_time_before_up_to_its_own() {
    expect(&[], None, "02T05:59", &["expected"]);
    expect(&[], None, "02T06:00", &["missing", "expected"]);
    for (received_at, expected) in [
        ("01T06:00", &["missing", "expected"][..]),
        ("01T06:01", &["on_time a", "expected"]),
        ("02T06:00", &["on_time a", "expected"]),
    ] {
        expect(&[ingested("a", received_at, 1)], None, "02T07:00", expected);
    }
    expect(&[ingested("a", "01T23:00", 1)], None, "02T01:00", &["on_time a"]);
}

#[test]
fn a_file_after_a_missed_due_time_is_late_until_half_of_the_way_to_the_next() {
    expect(&[ingested("a", "02T06:01", 1)], None, "02T07:00", &["late a", "expected"]);
    expect(&[ingested("a", "02T17:59", 1)], None, "02T18:30", &["late a", "expected"]);
    expect(&[ingested("a", "02T18:00", 1)], None, "02T18:30", &["missing", "on_time a"]);
    let both = [ingested("a", "02T06:01", 1), ingested("b", "02T07:00", 1)];
    expect(&both, None, "02T08:00", &["late a", "on_time b"]);
    let early = [ingested("a", "02T05:00", 1), ingested("b", "02T07:00", 1)];
    expect(&early, None, "02T08:00", &["on_time a", "on_time b"]);
    expect(&early, None, "04T08:00", &["on_time a", "on_time b", "missing", "expected"]);
}

#[test]
fn too_few_records_are_too_small_until_a_file_has_enough() {
    let small = ingested("a", "02T05:00", 9);
    expect(from_ref(&small), Some(10), "02T05:30", &["too_small a"]);
    expect(from_ref(&small), Some(9), "02T05:30", &["on_time a"]);
    expect(&[small.clone(), ingested("b", "02T05:20", 10)], Some(10), "02T05:30", &["on_time b"]);
    expect(
        &[small.clone(), ingested("b", "02T05:20", 8)],
        Some(10),
        "02T07:00",
        &["too_small b", "expected"],
    );
    let corrected = [small.clone(), ingested("b", "02T08:00", 10), ingested("c", "03T05:00", 10)];
    expect(&corrected, Some(10), "03T07:00", &["late b", "on_time c", "expected"]);
    let late_and_small = [ingested("a", "02T07:00", 1), ingested("b", "02T08:00", 2)];
    expect(&late_and_small, Some(10), "02T09:00", &["too_small b", "expected"]);
    // Its records are not known yet.
    for state in [ArrivedState::Waiting, ArrivedState::Staged, ArrivedState::Held] {
        expect(&[arrival("a", "02T05:00", state)], Some(10), "02T07:00", &["on_time a", "expected"]);
        expect(&[arrival("a", "02T06:30", state)], Some(10), "02T07:00", &["late a", "expected"]);
        let later = [arrival("a", "02T05:00", state), ingested("b", "02T05:10", 3)];
        expect(&later, Some(10), "02T07:00", &["on_time a", "expected"]);
        let enough = [arrival("a", "02T05:00", state), ingested("b", "02T05:10", 10)];
        expect(&enough, Some(10), "02T07:00", &["on_time b", "expected"]);
    }
}

#[test]
fn a_file_in_addition_is_a_repeat() {
    let both = [ingested("a", "02T05:00", 10), ingested("b", "02T05:10", 1)];
    expect(&both, None, "02T05:30", &["repeated b"]);
    expect(&both, Some(10), "02T05:30", &["repeated b"]);
    let staged =
        [arrival("a", "02T05:00", ArrivedState::Staged), arrival("b", "02T05:10", ArrivedState::Held)];
    expect(&staged, None, "02T05:30", &["repeated b"]);
    let waiting = [ingested("a", "02T05:00", 10), arrival("b", "02T05:10", ArrivedState::Waiting)];
    expect(&waiting, None, "02T07:00", &["repeated b", "expected"]);
}

#[test]
fn a_discarded_file_satisfies_nothing_and_is_named() {
    let bad = discarded("bad", "02T05:00", ReasonCode::Empty);
    let files = |arrivals: &[Arrival], discarded: &[DiscardedArrival]| ArrivedFiles {
        arrivals: arrivals.to_vec(),
        discarded: discarded.to_vec(),
    };
    let late = discarded("worse", "02T07:00", ReasonCode::Empty);
    for (files, now, expected) in [
        (files(&[], from_ref(&bad)), "02T05:30", &["expected (bad)"][..]),
        (files(&[], from_ref(&bad)), "02T06:30", &["missing (bad)", "expected"]),
        (files(&[], &[late.clone(), bad.clone()]), "02T07:30", &["missing (worse)", "expected"]),
        (files(&[], from_ref(&late)), "03T07:30", &["missing (worse)", "missing", "expected"]),
        (files(&[ingested("a", "02T05:30", 1)], from_ref(&bad)), "02T06:30", &["on_time a", "expected"]),
        (files(&[ingested("a", "02T05:30", 1)], &[late]), "02T07:30", &["on_time a", "expected (worse)"]),
    ] {
        assert_eq!(verdicts(&files, None, now), expected, "{now}");
    }
    // Content that was known already: not what was expected, but a repeat after it.
    let again = discarded("again", "02T05:00", ReasonCode::Duplicate);
    for (files, expected) in [
        (files(&[], from_ref(&again)), &["missing (again)", "expected"][..]),
        (files(&[ingested("a", "02T04:00", 1)], from_ref(&again)), &["repeated again", "expected"]),
        (files(&[ingested("a", "02T05:10", 1)], from_ref(&again)), &["on_time a", "expected"]),
        (files(&[ingested("a", "02T04:00", 1)], &[bad]), &["on_time a", "expected"]),
    ] {
        assert_eq!(verdicts(&files, None, "02T06:30"), expected);
    }
}

#[test]
fn a_due_time_is_open_until_nothing_can_change_it() {
    let schedule = daily();
    let closed = Closed { due: at("01T06:00"), until: at("01T06:00") };
    let is_final = |state, records_min, now: &str| {
        let files = ArrivedFiles { arrivals: vec![arrival("a", "02T05:00", state)], discarded: Vec::new() };
        judge(&Terms { schedule: &schedule, records_min }, closed, &files, at(now))[0].is_final
    };
    let ended = ArrivedState::Ingested { records: 1 };
    assert!(!is_final(ended, None, "02T17:59"), "a file may still be late");
    assert!(is_final(ended, None, "02T18:00"));
    assert!(!is_final(ArrivedState::Staged, None, "03T18:00"));
    assert!(is_final(ArrivedState::Held, None, "02T18:00"));
    assert!(!is_final(ArrivedState::Held, Some(1), "09T05:00"));
    assert!(is_final(ArrivedState::Held, Some(1), "09T07:00"), "a week has passed");

    let minutes = Interval::Within(SignedDuration::from_mins(1));
    let schedule = Schedule { every: minutes, ..schedule };
    let files =
        ArrivedFiles { arrivals: vec![arrival("a", "01T06:01", ArrivedState::Staged)], ..Default::default() };
    let terms = Terms { schedule: &schedule, records_min: None };
    let judgements = judge(&terms, closed, &files, at("01T09:00"));
    assert_eq!((judgements.len(), judgements[0].is_final), (181, true), "there are many later ones");
    assert_eq!(judge(&terms, closed, &files, at("03T09:00")).len(), JUDGED_MAX);
}

fn any_files() -> impl Strategy<Value = ArrivedFiles> {
    let state = prop_oneof![
        Just(ArrivedState::Waiting),
        Just(ArrivedState::Staged),
        Just(ArrivedState::Held),
        (0_u64..20).prop_map(|records| ArrivedState::Ingested { records }),
    ];
    let received =
        || (0_i64..6 * 48).prop_map(|half_hours| at("01T06:00") + SignedDuration::from_mins(30 * half_hours));
    let arrivals = prop::collection::vec((received(), state), 0..12).prop_map(|files| {
        let arrival = |(index, (received_at, state))| Arrival {
            received_at,
            file: format!("{index}"),
            ingestion: None,
            state,
        };
        files.into_iter().enumerate().map(arrival).collect::<Vec<_>>()
    });
    let codes = prop::sample::select(vec![ReasonCode::Empty, ReasonCode::Duplicate]);
    let discarded = prop::collection::vec((received(), codes), 0..4).prop_map(|files| {
        let file = |(index, (received_at, code))| DiscardedArrival {
            file: format!("d{index}"),
            received_at,
            reasons: Vec::new(),
            codes: vec![code],
        };
        files.into_iter().enumerate().map(file).collect::<Vec<_>>()
    });
    (arrivals, discarded).prop_map(|(arrivals, discarded)| ArrivedFiles { arrivals, discarded })
}

proptest! {
    #[test]
    fn each_file_is_for_one_due_time_and_nothing_depends_on_their_order(
        files in any_files(),
        records_min in prop::option::of(1_u64..20),
        hours in 0_i64..200,
        seed in any::<u64>(),
    ) {
        let schedule = daily();
        let terms = Terms { schedule: &schedule, records_min };
        let closed = Closed { due: at("01T06:00"), until: at("01T06:00") };
        let now = at("01T07:00") + SignedDuration::from_hours(hours);
        let judgements = judge(&terms, closed, &files, now);
        prop_assert_eq!(&judge(&terms, closed, &files, now), &judgements, "again");

        let mut shuffled = files.clone();
        let length = shuffled.arrivals.len();
        (0..length).for_each(|index| shuffled.arrivals.swap(index, (seed as usize).wrapping_mul(index + 7) % length));
        shuffled.discarded.reverse();
        prop_assert_eq!(&judge(&terms, closed, &shuffled, now), &judgements, "in another order");

        let mut from = closed.until;
        for judgement in &judgements {
            prop_assert!(judgement.until > from, "what belongs to each follows on what belongs to the one before");
            if let Some(arrival) = judgement.verdict.arrival() {
                prop_assert!(arrival.received_at > from && arrival.received_at <= judgement.until);
            }
            from = judgement.until;
        }
        let named: Vec<_> = judgements.iter().filter_map(|judgement| judgement.verdict.arrival()).collect();
        let mut once = named.clone();
        once.dedup();
        prop_assert_eq!(named, once);

        // What is final is the same whatever is judged again after it.
        for (index, judgement) in judgements.iter().enumerate().take_while(|(_, judgement)| judgement.is_final) {
            let closed = Closed { due: judgement.due, until: judgement.until };
            prop_assert_eq!(&judge(&terms, closed, &files, now)[..], &judgements[index + 1..]);
        }
    }
}
