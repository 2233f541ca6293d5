//! Decides which hours are closed now, and which batches are requested.
//!
//! Pure: takes the state of the store and the time, returns actions. An hour is closed when all its batches are present and
//! the previous hour is closed; so everything before a closed hour is present too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::batch::{Hour, ResendRequest};

/// The most requests of one cycle. Earlier hours, which have waited longer, are requested first.
const REQUESTS_MAX: usize = 100;

/// The longest interval between requests, which doubles up to this: after a long outage a request follows soon.
const REQUEST_EVERY_MAX: Duration = Duration::from_secs(10);

/// What is present of an hour that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub previous: Option<Hour>,
    /// The number of batches of the hour.
    pub batches: u32,
    pub present: BTreeSet<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloserAction {
    Close(Hour),
    Request(ResendRequest),
}

/// Since when hours have waited for batches. It is lost with the process, which costs one `delay`.
#[derive(Debug, Default)]
pub struct RequestMemory {
    waiting: BTreeMap<Hour, Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The number of present batches; if it changes, the wait begins again.
    present: usize,
    request_at: Instant,
    next_wait: Duration,
}

/// Returns the next actions, in order of the hours. `closed` has all closed hours among those in `open` and their previous hours.
///
/// Missing batches of an hour are requested when none has arrived for `delay`.
pub fn plan(
    open: &BTreeMap<Hour, Open>,
    closed: &BTreeSet<Hour>,
    memory: &mut RequestMemory,
    delay: Duration,
    now: Instant,
) -> Vec<CloserAction> {
    let mut actions = Vec::new();
    let mut closing: BTreeSet<&Hour> = BTreeSet::new();
    let mut missing: BTreeMap<&Hour, (usize, Option<Vec<u32>>)> = BTreeMap::new();
    for (hour, found) in open {
        let is_closed = |hour: &Hour| closed.contains(hour);
        let absent: Vec<u32> = (0..found.batches).filter(|batch| !found.present.contains(batch)).collect();
        let is_complete = absent.is_empty();
        let is_next = found.previous.as_ref().is_none_or(|hour| is_closed(hour) || closing.contains(hour));
        // If the hour is closed already, closing it was interrupted.
        if is_closed(hour) || (is_complete && is_next) {
            closing.insert(hour);
            actions.push(CloserAction::Close(hour.clone()));
        } else if !is_complete {
            missing.insert(hour, (found.present.len(), Some(absent)));
        }
        if let Some(previous) =
            found.previous.as_ref().filter(|hour| !is_closed(hour) && !open.contains_key(*hour))
        {
            missing.insert(previous, (0, None));
        }
    }
    memory.waiting.retain(|hour, _| missing.contains_key(hour));
    for (hour, (present, missing)) in missing {
        let new = Waiting { present, request_at: now + delay, next_wait: delay };
        let waiting = memory.waiting.entry(hour.clone()).or_insert(new);
        if waiting.present != present {
            *waiting = new;
        }
        let requests = actions.iter().filter(|action| matches!(action, CloserAction::Request(_))).count();
        if waiting.request_at <= now && requests < REQUESTS_MAX {
            waiting.next_wait = (waiting.next_wait * 2).min(REQUEST_EVERY_MAX.max(delay));
            waiting.request_at = now + waiting.next_wait;
            actions.push(CloserAction::Request(ResendRequest { hour: hour.clone(), missing }));
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::tests::hour;

    const DELAY: Duration = Duration::from_secs(1);

    /// Returns hour `number`, of three batches, with its previous hour.
    fn open(number: u32, present: &[u32]) -> (Hour, Open) {
        let previous = number.checked_sub(1).map(hour);
        (hour(number), Open { previous, batches: 3, present: present.iter().copied().collect() })
    }

    fn request(number: u32, missing: &[u32]) -> CloserAction {
        let missing = (!missing.is_empty()).then(|| missing.to_vec());
        CloserAction::Request(ResendRequest { hour: hour(number), missing })
    }

    #[test]
    fn complete_hours_are_closed_in_order_and_never_before_the_previous_hour() {
        let all = [0, 1, 2];
        let hours = BTreeMap::from([open(0, &all), open(1, &all), open(2, &[0, 2]), open(3, &all)]);
        let actions = plan(&hours, &BTreeSet::new(), &mut RequestMemory::default(), DELAY, Instant::now());
        assert_eq!(actions, [CloserAction::Close(hour(0)), CloserAction::Close(hour(1))]);
        let hours = BTreeMap::from([open(2, &all), open(3, &all)]);
        let actions =
            plan(&hours, &BTreeSet::from([hour(1)]), &mut RequestMemory::default(), DELAY, Instant::now());
        assert_eq!(actions, [CloserAction::Close(hour(2)), CloserAction::Close(hour(3))]);
    }

    #[test]
    fn missing_batches_are_requested_after_the_delay_and_then_less_and_less_often() {
        let (mut memory, begin) = (RequestMemory::default(), Instant::now());
        let hours = BTreeMap::from([open(0, &[1])]);
        let mut requested_at = Vec::new();
        for tenths in 0..600 {
            let now = begin + Duration::from_millis(100) * tenths;
            let actions = plan(&hours, &BTreeSet::new(), &mut memory, DELAY, now);
            if !actions.is_empty() {
                assert_eq!(actions, [request(0, &[0, 2])]);
                requested_at.push(tenths / 10);
            }
        }
        assert_eq!(requested_at, [1, 3, 7, 15, 25, 35, 45, 55]);
    }

    #[test]
    fn an_hour_that_is_still_arriving_is_requested_only_after_the_delay() {
        let (mut memory, begin) = (RequestMemory::default(), Instant::now());
        let mut at = |present: &[u32], millis| {
            let hours = BTreeMap::from([open(0, present)]);
            plan(&hours, &BTreeSet::new(), &mut memory, DELAY, begin + Duration::from_millis(millis))
        };
        assert_eq!(at(&[0], 0), []);
        assert_eq!(at(&[0, 1], 900), []);
        assert_eq!(at(&[0, 1], 1800), []);
        assert_eq!(at(&[0, 1], 1900), [request(0, &[2])]);
    }

    #[test]
    fn an_hour_of_which_nothing_arrived_is_requested_whole() {
        let (mut memory, begin) = (RequestMemory::default(), Instant::now());
        let hours = BTreeMap::from([open(5, &[0, 1, 2])]);
        assert_eq!(plan(&hours, &BTreeSet::new(), &mut memory, DELAY, begin), []);
        assert_eq!(plan(&hours, &BTreeSet::new(), &mut memory, DELAY, begin + DELAY), [request(4, &[])]);
        let closed = BTreeSet::from([hour(4)]);
        assert_eq!(plan(&hours, &closed, &mut memory, DELAY, begin + DELAY), [CloserAction::Close(hour(5))]);
    }

    #[test]
    fn an_hour_whose_closing_was_interrupted_is_closed_again() {
        let hours = BTreeMap::from([open(0, &[2])]);
        let actions =
            plan(&hours, &BTreeSet::from([hour(0)]), &mut RequestMemory::default(), DELAY, Instant::now());
        assert_eq!(actions, [CloserAction::Close(hour(0))]);
    }

    proptest! {
        /// Whatever batches arrive first: if requested batches arrive, every hour is closed in the end, once.
        #[test]
        fn every_hour_is_closed_in_the_end(lost in proptest::collection::vec(any::<bool>(), 30)) {
            let mut stored: BTreeMap<Hour, Open> = BTreeMap::new();
            for (position, _) in lost.iter().enumerate().filter(|(_, lost)| !**lost) {
                let (number, batch) = (position as u32 / 3, position as u32 % 3);
                stored.entry(hour(number)).or_insert_with(|| open(number, &[]).1).present.insert(batch);
            }
            // A batch of the last hour has arrived: hours after the last one that arrived cannot be noticed.
            stored.entry(hour(9)).or_insert_with(|| open(9, &[]).1).present.insert(0);
            let (mut memory, mut now) = (RequestMemory::default(), Instant::now());
            let mut closed = BTreeSet::new();
            for _ in 0..100 {
                for action in plan(&stored, &closed, &mut memory, DELAY, now) {
                    match action {
                        CloserAction::Close(hour) => {
                            let found = stored.remove(&hour).expect("only open hours are closed");
                            prop_assert_eq!(found.present.len(), 3);
                            prop_assert!(closed.insert(hour), "closed once");
                        }
                        CloserAction::Request(ResendRequest { hour: requested, missing }) => {
                            let number = (0..10).find(|number| hour(*number) == requested).expect("a known hour");
                            let found = stored.entry(requested).or_insert_with(|| open(number, &[]).1);
                            for batch in missing.unwrap_or_else(|| vec![0, 1, 2]) {
                                prop_assert!(found.present.insert(batch), "only missing batches are requested");
                            }
                        }
                    }
                }
                now += DELAY;
            }
            prop_assert_eq!(closed.len(), 10);
        }
    }
}
