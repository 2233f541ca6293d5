use proptest::prelude::*;

use super::*;
use crate::route::Place;
use crate::scan::Kind;

const SETTLE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

fn at(name: &str) -> DropPath {
    DropPath::root().join(name.as_ref())
}

fn look_at(path: &str, bytes: u64) -> Look {
    Look {
        path: at(path),
        place: Place::Shared,
        kind: Kind::File,
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
    assert_eq!(tracker.ended(&at("a"), Ended::Gone, now + SETTLE * 3), None);
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
    assert_eq!(tracker.ended(&at("a"), Ended::Busy, now), Some(now + SETTLE));
    assert!(!is_ready(&mut tracker, now + SETTLE - STEP));
    assert!(is_ready(&mut tracker, now + SETTLE));
}

#[test]
fn where_leases_do_not_work_it_rests_longer_and_is_then_taken() {
    let now = Instant::now();
    let mut tracker = taken(now);
    let until = now - SETTLE + SETTLE * LONGER;
    assert_eq!(tracker.ended(&at("a"), Ended::LeasesDoNotWork, now), Some(until));
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
        tracker.ended(&at("a"), Ended::Failed, now);
        now += Duration::from_secs(wait);
        assert!(!is_ready(&mut tracker, now - STEP), "wait of {wait} s");
        let ready = tracker.observe(now, vec![look_at("a", 1)]);
        assert!(tracker.take(&ready[0]), "wait of {wait} s");
    }
    tracker.ended(&at("a"), Ended::Failed, now);
    tracker.observe(now, vec![look_at("a", 2)]);
    assert!(!tracker.observe(now + SETTLE, vec![look_at("a", 2)]).is_empty());
}

#[test]
fn a_repeat_of_staged_content_remembers_which() {
    let now = Instant::now();
    let mut tracker = taken(now);
    let twin: IngestionId = "0123456789abcdef0123456789abcdef".parse().expect("id");
    tracker.ended(&at("a"), Ended::Twin(twin), now);
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
