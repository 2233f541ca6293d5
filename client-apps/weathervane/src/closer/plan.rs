//! Decides which hours are closed now, and which batches are asked for.
//!
//! Pure: what lies in the store and the time in, actions out. An hour is closed when all its batches are there and the
//! hour before it is closed; so of a closed hour everything before it is there too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::batch::{Hour, Request};

/// Requests of one round. Hours that wait longer are asked for first, as they are earlier.
const REQUESTS_MAX: usize = 100;

/// Requests double their distance up to this; what was away long is asked for soon after it has come back.
const ASK_EVERY_MAX: Duration = Duration::from_secs(10);

/// What is there of an hour that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub previous: Option<Hour>,
    /// How many batches it has.
    pub batches: u32,
    pub there: BTreeSet<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Close(Hour),
    Ask(Request),
}

/// Since when hours wait for batches. Forgotten with the process, which costs one `delay`.
#[derive(Debug, Default)]
pub struct Memory {
    waiting: BTreeMap<Hour, Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Batches that were there; more of them and the wait begins anew.
    there: usize,
    ask_at: Instant,
    next_wait: Duration,
}

/// The next actions, in the order of the hours. `closed` has all closed hours among those in `open` and before them.
///
/// What misses batches is asked for when nothing of it has come for `delay`.
pub fn plan(
    open: &BTreeMap<Hour, Open>,
    closed: &BTreeSet<Hour>,
    memory: &mut Memory,
    delay: Duration,
    now: Instant,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut closing: BTreeSet<&Hour> = BTreeSet::new();
    let mut missing: BTreeMap<&Hour, (usize, Option<Vec<u32>>)> = BTreeMap::new();
    for (hour, found) in open {
        let is_closed = |hour: &Hour| closed.contains(hour);
        let absent: Vec<u32> = (0..found.batches).filter(|batch| !found.there.contains(batch)).collect();
        let is_whole = absent.is_empty();
        let follows = found.previous.as_ref().is_none_or(|hour| is_closed(hour) || closing.contains(hour));
        // One that is closed already was left in the middle of being closed.
        if is_closed(hour) || (is_whole && follows) {
            closing.insert(hour);
            actions.push(Action::Close(hour.clone()));
        } else if !is_whole {
            missing.insert(hour, (found.there.len(), Some(absent)));
        }
        if let Some(previous) =
            found.previous.as_ref().filter(|hour| !is_closed(hour) && !open.contains_key(*hour))
        {
            missing.insert(previous, (0, None));
        }
    }
    memory.waiting.retain(|hour, _| missing.contains_key(hour));
    for (hour, (there, missing)) in missing {
        let new = Waiting { there, ask_at: now + delay, next_wait: delay };
        let waiting = memory.waiting.entry(hour.clone()).or_insert(new);
        if waiting.there != there {
            *waiting = new;
        }
        let requests = actions.iter().filter(|action| matches!(action, Action::Ask(_))).count();
        if waiting.ask_at <= now && requests < REQUESTS_MAX {
            waiting.next_wait = (waiting.next_wait * 2).min(ASK_EVERY_MAX.max(delay));
            waiting.ask_at = now + waiting.next_wait;
            actions.push(Action::Ask(Request { hour: hour.clone(), missing }));
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

    /// Hour `number` of three batches, after the one before it.
    fn open(number: u32, there: &[u32]) -> (Hour, Open) {
        let previous = number.checked_sub(1).map(hour);
        (hour(number), Open { previous, batches: 3, there: there.iter().copied().collect() })
    }

    fn ask(number: u32, missing: &[u32]) -> Action {
        let missing = (!missing.is_empty()).then(|| missing.to_vec());
        Action::Ask(Request { hour: hour(number), missing })
    }

    #[test]
    fn whole_hours_are_closed_in_their_order_and_no_hour_before_the_one_before_it() {
        let all = [0, 1, 2];
        let hours = BTreeMap::from([open(0, &all), open(1, &all), open(2, &[0, 2]), open(3, &all)]);
        let actions = plan(&hours, &BTreeSet::new(), &mut Memory::default(), DELAY, Instant::now());
        assert_eq!(actions, [Action::Close(hour(0)), Action::Close(hour(1))]);
        let hours = BTreeMap::from([open(2, &all), open(3, &all)]);
        let actions = plan(&hours, &BTreeSet::from([hour(1)]), &mut Memory::default(), DELAY, Instant::now());
        assert_eq!(actions, [Action::Close(hour(2)), Action::Close(hour(3))]);
    }

    #[test]
    fn what_is_missing_is_asked_for_after_a_while_and_then_less_and_less_often() {
        let (mut memory, begin) = (Memory::default(), Instant::now());
        let hours = BTreeMap::from([open(0, &[1])]);
        let mut asked_at = Vec::new();
        for tenths in 0..600 {
            let now = begin + Duration::from_millis(100) * tenths;
            let actions = plan(&hours, &BTreeSet::new(), &mut memory, DELAY, now);
            if !actions.is_empty() {
                assert_eq!(actions, [ask(0, &[0, 2])]);
                asked_at.push(tenths / 10);
            }
        }
        assert_eq!(asked_at, [1, 3, 7, 15, 25, 35, 45, 55]);
    }

    #[test]
    fn an_hour_that_still_arrives_is_waited_for() {
        let (mut memory, begin) = (Memory::default(), Instant::now());
        let mut at = |there: &[u32], millis| {
            let hours = BTreeMap::from([open(0, there)]);
            plan(&hours, &BTreeSet::new(), &mut memory, DELAY, begin + Duration::from_millis(millis))
        };
        assert_eq!(at(&[0], 0), []);
        assert_eq!(at(&[0, 1], 900), []);
        assert_eq!(at(&[0, 1], 1800), []);
        assert_eq!(at(&[0, 1], 1900), [ask(0, &[2])]);
    }

    #[test]
    fn an_hour_of_which_nothing_came_is_asked_for_whole() {
        let (mut memory, begin) = (Memory::default(), Instant::now());
        let hours = BTreeMap::from([open(5, &[0, 1, 2])]);
        assert_eq!(plan(&hours, &BTreeSet::new(), &mut memory, DELAY, begin), []);
        assert_eq!(plan(&hours, &BTreeSet::new(), &mut memory, DELAY, begin + DELAY), [ask(4, &[])]);
        let closed = BTreeSet::from([hour(4)]);
        assert_eq!(plan(&hours, &closed, &mut memory, DELAY, begin + DELAY), [Action::Close(hour(5))]);
    }

    #[test]
    fn one_that_was_left_in_the_middle_of_being_closed_is_closed_again() {
        let hours = BTreeMap::from([open(0, &[2])]);
        let actions = plan(&hours, &BTreeSet::from([hour(0)]), &mut Memory::default(), DELAY, Instant::now());
        assert_eq!(actions, [Action::Close(hour(0))]);
    }

    proptest! {
        /// Whatever arrives and in whatever order, what is asked for comes, and in the end every hour is closed, once.
        #[test]
        fn everything_is_closed_in_the_end(lost in proptest::collection::vec(any::<bool>(), 30)) {
            let mut stored: BTreeMap<Hour, Open> = BTreeMap::new();
            for (position, _) in lost.iter().enumerate().filter(|(_, lost)| !**lost) {
                let (number, batch) = (position as u32 / 3, position as u32 % 3);
                stored.entry(hour(number)).or_insert_with(|| open(number, &[]).1).there.insert(batch);
            }
            // The last hour has come: what is after the last that came nobody can miss.
            stored.entry(hour(9)).or_insert_with(|| open(9, &[]).1).there.insert(0);
            let (mut memory, mut now) = (Memory::default(), Instant::now());
            let mut closed = BTreeSet::new();
            for _ in 0..100 {
                for action in plan(&stored, &closed, &mut memory, DELAY, now) {
                    match action {
                        Action::Close(hour) => {
                            let found = stored.remove(&hour).expect("only what is open is closed");
                            prop_assert_eq!(found.there.len(), 3);
                            prop_assert!(closed.insert(hour), "closed once");
                        }
                        Action::Ask(Request { hour: asked, missing }) => {
                            let number = (0..10).find(|number| hour(*number) == asked).expect("a known hour");
                            let found = stored.entry(asked).or_insert_with(|| open(number, &[]).1);
                            for batch in missing.unwrap_or_else(|| vec![0, 1, 2]) {
                                prop_assert!(found.there.insert(batch), "only what is missing is asked for");
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
