use proptest::prelude::*;

use mysimbdp_spool::drop_directory::FileKind;

use super::*;
use crate::route::Place;
use crate::scan::Owner;

const SETTLE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

fn at(name: &str) -> DropPath {
    DropPath::root().join(name.as_ref())
}

fn owner() -> Owner {
    Owner { client: None, lane: mysimbdp_model::manifest::Lane::Live }
}

fn look_at(path: &str, bytes: u64) -> Look {
    Look {
        path: at(path),
        place: Place::Shared,
        owner: owner(),
        kind: FileKind::File,
        stamp: Stamp { device: 1, inode: 2, bytes, modified: (bytes as i64, 0), changed: (bytes as i64, 0) },
        settle: SETTLE,
        sentinel: None,
    }
}

/// A tracker with one settled file, which is taken.
fn taken(now: Instant) -> Tracker {
    let mut tracker = Tracker::default();
    assert!(tracker.observe(now - SETTLE, vec![look_at("a", 1)]).is_empty());
    let ready = tracker.observe(now, vec![look_at("a", 1)]);
    assert_eq!(ready.len(), 1);
    assert!(tracker.take(&ready[0]));
    tracker
}

fn is_ready(tracker: &mut Tracker, now: Instant) -> bool {
    !tracker.observe(now, vec![look_at("a", 1)]).is_empty()
}

#[test]
fn one_look_is_never_enough_however_old_the_file() {
    let mut tracker = Tracker::default();
    let now = Instant::now();
    assert!(tracker.observe(now, vec![look_at("a", 1)]).is_empty());
    assert_eq!(tracker.next_look(now), Some(now + SETTLE));
    assert!(tracker.observe(now + SETTLE - STEP, vec![look_at("a", 1)]).is_empty());
    let ready = tracker.observe(now + SETTLE, vec![look_at("a", 1)]);
    assert_eq!(ready[0].settled_for, SETTLE);
}

#[test]
fn each_change_starts_it_anew() {
    let mut tracker = Tracker::default();
    let start = Instant::now();
    for step in 0..50 {
        assert!(
            tracker.observe(start + STEP * step, vec![look_at("a", u64::from(step) / 5)]).is_empty(),
            "step {step}"
        );
    }
    let last = start + STEP * 45;
    assert!(tracker.observe(last + SETTLE - STEP, vec![look_at("a", 9)]).is_empty());
    assert_eq!(tracker.observe(last + SETTLE, vec![look_at("a", 9)])[0].settled_for, STEP * 45 + SETTLE);
}

#[test]
fn a_file_in_work_is_not_ready_again_and_is_not_forgotten() {
    let now = Instant::now();
    let mut tracker = taken(now);
    assert!(!is_ready(&mut tracker, now + SETTLE));
    assert!(tracker.observe(now + SETTLE * 2, Vec::new()).is_empty());
    assert!(!is_ready(&mut tracker, now + SETTLE * 3));
    assert_eq!(tracker.ended(&at("a"), &owner(), Ended::Gone, now + SETTLE * 3), None);
    assert!(!is_ready(&mut tracker, now + SETTLE * 3), "a new file of the same name settles like any other");
    assert!(is_ready(&mut tracker, now + SETTLE * 4));
}

#[test]
fn what_has_changed_since_it_was_ready_is_not_taken() {
    let mut tracker = Tracker::default();
    let now = Instant::now();
    tracker.observe(now, vec![look_at("a", 1)]);
    let ready = tracker.observe(now + SETTLE, vec![look_at("a", 1)]);
    assert!(tracker.observe(now + SETTLE + STEP, vec![look_at("a", 2)]).is_empty());
    assert!(!tracker.take(&ready[0]));
}

#[test]
fn an_open_file_settles_again() {
    let now = Instant::now();
    let mut tracker = taken(now);
    assert_eq!(tracker.ended(&at("a"), &owner(), Ended::Busy, now), Some(now + SETTLE));
    assert!(!is_ready(&mut tracker, now + SETTLE - STEP));
    assert!(is_ready(&mut tracker, now + SETTLE));
}

#[test]
fn where_leases_do_not_work_it_rests_longer_and_is_then_taken() {
    let now = Instant::now();
    let mut tracker = taken(now);
    let until = now - SETTLE + SETTLE * LONGER;
    assert_eq!(tracker.ended(&at("a"), &owner(), Ended::LeasesDoNotWork, now), Some(until));
    assert_eq!(tracker.next_look(now), Some(until));
    assert!(!is_ready(&mut tracker, until - STEP));
    let ready = tracker.observe(until, vec![look_at("a", 1)]);
    assert!(!ready[0].leases_work);
}

#[test]
fn failures_back_off_up_to_a_minute_and_a_change_ends_it() {
    let mut now = Instant::now();
    let mut tracker = taken(now);
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        tracker.ended(&at("a"), &owner(), Ended::Failed, now);
        now += Duration::from_secs(wait);
        assert!(!is_ready(&mut tracker, now - STEP), "wait of {wait} s");
        let ready = tracker.observe(now, vec![look_at("a", 1)]);
        assert!(tracker.take(&ready[0]), "wait of {wait} s");
    }
    tracker.ended(&at("a"), &owner(), Ended::Failed, now);
    tracker.observe(now, vec![look_at("a", 2)]);
    assert!(!tracker.observe(now + SETTLE, vec![look_at("a", 2)]).is_empty());
}

#[test]
fn thousands_that_are_taken_in_vain_are_taken_again_at_a_bounded_rate_and_delay_no_other_owner() {
    let own = |client: &str| Owner { client: Some(client.parse().expect("client id")), ..owner() };
    let look = |owner: &Owner, number: usize| {
        let client = owner.client.as_ref().expect("a client");
        Look { owner: owner.clone(), ..look_at(&format!("{client}/{number}"), 1) }
    };
    let (aaron, zoe) = (own("aaron"), own("zoe"));
    let looks: Vec<Look> = (0..2_000).map(|number| look(&aaron, number)).chain([look(&zoe, 0)]).collect();
    let (mut tracker, mut now) = (Tracker::default(), Instant::now());
    tracker.observe(now, looks.clone());
    let mut tries: BTreeMap<Owner, usize> = BTreeMap::new();
    let seconds = 600;
    for _ in 0..seconds {
        now += Duration::from_secs(1);
        for ready in tracker.observe(now, looks.clone()) {
            assert!(tracker.take(&ready));
            let ended = match tries.values().sum::<usize>() % 3 {
                0 => Ended::Busy,
                1 => Ended::Twin("0123456789abcdef0123456789abcdef".parse().expect("id")),
                _ => Ended::Failed,
            };
            let (path, owner) = (&ready.look.path, &ready.look.owner);
            if *owner == zoe {
                tracker.ended(path, owner, Ended::Busy, now);
            } else {
                tracker.ended(path, owner, ended, now);
            }
            *tries.entry(owner.clone()).or_default() += 1;
        }
    }
    // All of them once, and then 50 in a second.
    assert!(tries[&aaron] < 2_000 + 60 * seconds, "{}", tries[&aaron]);
    assert!(tries[&zoe] > seconds / 2, "{}", tries[&zoe]);
}

#[test]
fn a_repeat_of_staged_content_remembers_which() {
    let now = Instant::now();
    let mut tracker = taken(now);
    let twin: IngestionId = "0123456789abcdef0123456789abcdef".parse().expect("id");
    tracker.ended(&at("a"), &owner(), Ended::Twin(twin), now);
    assert!(!is_ready(&mut tracker, now + TWIN_WAIT - STEP));
    assert_eq!(tracker.observe(now + TWIN_WAIT, vec![look_at("a", 1)])[0].twin, Some(twin));
    tracker.observe(now + TWIN_WAIT, vec![look_at("a", 2)]);
    let ready = tracker.observe(now + TWIN_WAIT + SETTLE, vec![look_at("a", 2)]);
    assert_eq!(ready[0].twin, None, "with other content it is no repeat");
}

#[test]
fn a_file_that_its_sender_took_back_is_forgotten() {
    let mut tracker = Tracker::default();
    let now = Instant::now();
    tracker.observe(now, vec![look_at("a", 1)]);
    tracker.observe(now + STEP, Vec::new());
    assert_eq!(tracker.next_look(now), None);
}

proptest! {
    /// Whatever the writer does and whenever it is looked: ready means unchanged for the whole settle time.
    #[test]
    fn no_file_is_ready_that_was_seen_to_change_within_the_settle_time(
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
            let ready = tracker.observe(now, vec![look_at("a", content)]);
            prop_assert!(ready.is_empty() || now - changed >= SETTLE);
        }
        prop_assert!(!tracker.observe(now + SETTLE, vec![look_at("a", content)]).is_empty());
    }
}
