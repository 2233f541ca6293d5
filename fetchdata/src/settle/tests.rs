use proptest::prelude::*;

use mysimbdp_spool::drop_directory::FileKind;

use super::*;
use crate::route::Origin;
use crate::scan::Owner;

const SETTLE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

fn at(name: &str) -> DropPath {
    DropPath::root().join(name.as_ref())
}

fn owner() -> Owner {
    Owner { client: None, lane: mysimbdp_model::manifest::Lane::Live }
}

fn snapshot_of(path: &str, bytes: u64) -> FileSnapshot {
    FileSnapshot {
        path: at(path),
        origin: Origin::Shared,
        owner: owner(),
        kind: FileKind::File,
        identity: FileIdentity {
            device: 1,
            inode: 2,
            bytes,
            modified: (bytes as i64, 0),
            changed: (bytes as i64, 0),
        },
        settle: SETTLE,
        sentinel: None,
    }
}

/// A tracker with one settled file, which is in progress.
fn in_progress(now: Instant) -> Tracker {
    let mut tracker = Tracker::default();
    assert!(tracker.observe(now - SETTLE, vec![snapshot_of("a", 1)]).is_empty());
    let ready = tracker.observe(now, vec![snapshot_of("a", 1)]);
    assert_eq!(ready.len(), 1);
    assert!(tracker.mark_in_progress(&ready[0]));
    tracker
}

fn is_ready(tracker: &mut Tracker, now: Instant) -> bool {
    !tracker.observe(now, vec![snapshot_of("a", 1)]).is_empty()
}

#[test]
fn one_scan_is_never_enough_however_old_the_file() {
    let mut tracker = Tracker::default();
    let now = Instant::now();
    assert!(tracker.observe(now, vec![snapshot_of("a", 1)]).is_empty());
    assert_eq!(tracker.next_scan(now), Some(now + SETTLE));
    assert!(tracker.observe(now + SETTLE - STEP, vec![snapshot_of("a", 1)]).is_empty());
    let ready = tracker.observe(now + SETTLE, vec![snapshot_of("a", 1)]);
    assert_eq!(ready[0].settled_for, SETTLE);
}

#[test]
fn each_change_restarts_the_settle_time() {
    let mut tracker = Tracker::default();
    let start = Instant::now();
    for step in 0..50 {
        assert!(
            tracker.observe(start + STEP * step, vec![snapshot_of("a", u64::from(step) / 5)]).is_empty(),
            "step {step}"
        );
    }
    let last = start + STEP * 45;
    assert!(tracker.observe(last + SETTLE - STEP, vec![snapshot_of("a", 9)]).is_empty());
    assert_eq!(tracker.observe(last + SETTLE, vec![snapshot_of("a", 9)])[0].settled_for, STEP * 45 + SETTLE);
}

#[test]
fn a_file_in_progress_is_not_ready_again_and_is_not_forgotten() {
    let now = Instant::now();
    let mut tracker = in_progress(now);
    assert!(!is_ready(&mut tracker, now + SETTLE));
    assert!(tracker.observe(now + SETTLE * 2, Vec::new()).is_empty());
    assert!(!is_ready(&mut tracker, now + SETTLE * 3));
    assert_eq!(tracker.ended(&at("a"), &owner(), Ended::Removed, now + SETTLE * 3), None);
    assert!(!is_ready(&mut tracker, now + SETTLE * 3), "a new file of the same name settles like any other");
    assert!(is_ready(&mut tracker, now + SETTLE * 4));
}

#[test]
fn a_file_that_has_changed_since_it_was_ready_is_not_processed() {
    let mut tracker = Tracker::default();
    let now = Instant::now();
    tracker.observe(now, vec![snapshot_of("a", 1)]);
    let ready = tracker.observe(now + SETTLE, vec![snapshot_of("a", 1)]);
    assert!(tracker.observe(now + SETTLE + STEP, vec![snapshot_of("a", 2)]).is_empty());
    assert!(!tracker.mark_in_progress(&ready[0]));
}

#[test]
fn an_open_file_settles_again() {
    let now = Instant::now();
    let mut tracker = in_progress(now);
    assert_eq!(tracker.ended(&at("a"), &owner(), Ended::Busy, now), Some(now + SETTLE));
    assert!(!is_ready(&mut tracker, now + SETTLE - STEP));
    assert!(is_ready(&mut tracker, now + SETTLE));
}

#[test]
fn without_leases_a_file_settles_longer_and_is_then_ready() {
    let now = Instant::now();
    let mut tracker = in_progress(now);
    let until = now - SETTLE + SETTLE * LONGER_FACTOR;
    assert_eq!(tracker.ended(&at("a"), &owner(), Ended::WritersUnknown, now), Some(until));
    assert_eq!(tracker.next_scan(now), Some(until));
    assert!(!is_ready(&mut tracker, until - STEP));
    let ready = tracker.observe(until, vec![snapshot_of("a", 1)]);
    assert!(ready[0].settles_longer);
}

#[test]
fn failures_back_off_up_to_a_minute_and_a_change_ends_the_backoff() {
    let mut now = Instant::now();
    let mut tracker = in_progress(now);
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        tracker.ended(&at("a"), &owner(), Ended::Failed, now);
        now += Duration::from_secs(wait);
        assert!(!is_ready(&mut tracker, now - STEP), "wait of {wait} s");
        let ready = tracker.observe(now, vec![snapshot_of("a", 1)]);
        assert!(tracker.mark_in_progress(&ready[0]), "wait of {wait} s");
    }
    tracker.ended(&at("a"), &owner(), Ended::Failed, now);
    tracker.observe(now, vec![snapshot_of("a", 2)]);
    assert!(!tracker.observe(now + SETTLE, vec![snapshot_of("a", 2)]).is_empty());
}

#[test]
fn thousands_of_failing_files_are_retried_at_a_bounded_rate_and_delay_no_other_owner() {
    let own = |client: &str| Owner { client: Some(client.parse().expect("client id")), ..owner() };
    let snapshot = |owner: &Owner, number: usize| {
        let client = owner.client.as_ref().expect("a client");
        FileSnapshot { owner: owner.clone(), ..snapshot_of(&format!("{client}/{number}"), 1) }
    };
    let (aaron, zoe) = (own("aaron"), own("zoe"));
    let snapshots: Vec<FileSnapshot> =
        (0..2_000).map(|number| snapshot(&aaron, number)).chain([snapshot(&zoe, 0)]).collect();
    let (mut tracker, mut now) = (Tracker::default(), Instant::now());
    tracker.observe(now, snapshots.clone());
    let mut tries: BTreeMap<Owner, usize> = BTreeMap::new();
    let seconds = 600;
    for _ in 0..seconds {
        now += Duration::from_secs(1);
        for ready in tracker.observe(now, snapshots.clone()) {
            assert!(tracker.mark_in_progress(&ready));
            let ended = match tries.values().sum::<usize>() % 3 {
                0 => Ended::Busy,
                1 => Ended::DuplicateInProgress("0123456789abcdef0123456789abcdef".parse().expect("id")),
                _ => Ended::Failed,
            };
            let (path, owner) = (&ready.snapshot.path, &ready.snapshot.owner);
            if *owner == zoe {
                tracker.ended(path, owner, Ended::Busy, now);
            } else {
                tracker.ended(path, owner, ended, now);
            }
            *tries.entry(owner.clone()).or_default() += 1;
        }
    }
    // Each of them once, and then 50 in a second.
    assert!(tries[&aaron] < 2_000 + 60 * seconds, "{}", tries[&aaron]);
    assert!(tries[&zoe] > seconds / 2, "{}", tries[&zoe]);
}

#[test]
fn a_duplicate_of_staged_content_remembers_the_ingestion() {
    let now = Instant::now();
    let mut tracker = in_progress(now);
    let duplicate_of: IngestionId = "0123456789abcdef0123456789abcdef".parse().expect("id");
    tracker.ended(&at("a"), &owner(), Ended::DuplicateInProgress(duplicate_of), now);
    assert!(!is_ready(&mut tracker, now + DUPLICATE_WAIT - STEP));
    assert_eq!(
        tracker.observe(now + DUPLICATE_WAIT, vec![snapshot_of("a", 1)])[0].duplicate_of,
        Some(duplicate_of)
    );
    tracker.observe(now + DUPLICATE_WAIT, vec![snapshot_of("a", 2)]);
    let ready = tracker.observe(now + DUPLICATE_WAIT + SETTLE, vec![snapshot_of("a", 2)]);
    assert_eq!(ready[0].duplicate_of, None, "with other content it is not a duplicate");
}

#[test]
fn a_file_that_its_sender_took_back_is_forgotten() {
    let mut tracker = Tracker::default();
    let now = Instant::now();
    tracker.observe(now, vec![snapshot_of("a", 1)]);
    tracker.observe(now + STEP, Vec::new());
    assert_eq!(tracker.next_scan(now), None);
}

proptest! {
    /// Whatever the writer does and whenever walks happen: ready means unchanged for the whole settle time.
    #[test]
    fn no_file_is_ready_that_changed_within_the_settle_time(
        steps in prop::collection::vec((1u64..900, 0u64..3), 1..60),
    ) {
        let mut tracker = Tracker::default();
        let mut now = Instant::now();
        let mut content = 0;
        let mut changed = now;
        for (wait, change) in steps {
            now += Duration::from_millis(wait);
            if change == 0 || changed > now {
                content += 1;
                changed = now;
            }
            let ready = tracker.observe(now, vec![snapshot_of("a", content)]);
            prop_assert!(ready.is_empty() || now - changed >= SETTLE);
        }
        prop_assert!(!tracker.observe(now + SETTLE, vec![snapshot_of("a", content)]).is_empty());
    }
}
