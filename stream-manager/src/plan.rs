//! What is to be done so that a stream has the instances that it should have.
//!
//! Pure: the slots and the wanted number in, actions out; every pass asks anew, and what has been done is not asked
//! for again. Three rules:
//!
//! 1. **Up** takes a parked slot, as messages may wait there, else the lowest empty one. **Down** drains the highest.
//! 2. **No session is left alone.** The broker hands each session of a shared subscription its share, also one that
//!    nobody reads. So a parked slot is started even where it is not wanted, and then drained.
//! 3. **The last session stays** when nothing is wanted: the lowest slot is stopped, not drained, so that the broker goes
//!    on queuing for the client.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::slot::{Slot, Told};

/// A stream as it is.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub slots: &'a [Slot],
    pub wanted: u32,
    /// How many more processes the manager may start, over all clients.
    pub may_start: u32,
    /// Slots whose process handles the signal to drain; to any other it would mean death.
    pub listening: &'a BTreeSet<u32>,
    /// Slots whose process hangs.
    pub silent: &'a BTreeSet<u32>,
    /// Of what would be started now; `None` where nothing can be started yet.
    pub fingerprint: Option<u64>,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Start a process in this slot.
    Start(u32),
    /// Have it drained.
    Drain(u32),
    /// Signal the drain to a process that has come to listen.
    Tell(u32),
    /// End the process and keep the session.
    Stop(u32),
    /// The same of one that hangs, whose slot is started again then.
    Replace(u32),
    /// End what has not ended in its time.
    Kill(u32),
    /// Not to be started again, the session stays.
    Park(u32),
}

/// The actions that are due now.
pub fn plan(snapshot: &Snapshot<'_>, now: Instant) -> Vec<Action> {
    let mut actions = overdue(snapshot, now);
    let mut replaced = outdated(snapshot);
    actions.extend(replaced.iter().map(|slot| Action::Stop(*slot)));
    let silent = snapshot.silent.difference(&replaced).copied().collect::<Vec<u32>>();
    actions.extend(silent.iter().map(|slot| Action::Replace(*slot)));
    replaced.extend(silent);
    actions.extend(surplus(snapshot, &replaced));
    actions.extend(starts(snapshot, now));
    actions
}

/// The actions that are due now for a stream that is not configured any more: all of it is stopped.
pub fn retire(snapshot: &Snapshot<'_>, now: Instant) -> Vec<Action> {
    let running =
        |(slot, state): (u32, &Slot)| matches!(state, Slot::Running(_)).then_some(Action::Stop(slot));
    let mut actions = overdue(snapshot, now);
    actions.extend(snapshot.numbered().filter_map(running));
    actions
}

/// Processes that were asked to leave, and can be told or have had their time.
fn overdue(snapshot: &Snapshot<'_>, now: Instant) -> Vec<Action> {
    let due = |(slot, state): (u32, &Slot)| match state {
        Slot::Draining { told: None, .. } if snapshot.listening.contains(&slot) => Some(Action::Tell(slot)),
        Slot::Draining { told: Some(Told { kill_at, .. }), .. } | Slot::Stopping { kill_at, .. }
            if *kill_at <= now =>
        {
            Some(Action::Kill(slot))
        }
        _ => None,
    };
    snapshot.numbered().filter_map(due).collect()
}

/// Instances that were started with another program, address or setting: they come back with the present ones.
fn outdated(snapshot: &Snapshot<'_>) -> BTreeSet<u32> {
    let Some(present) = snapshot.fingerprint else { return BTreeSet::new() };
    let other = |state: &Slot| matches!(state, Slot::Running(instance) if instance.fingerprint != present);
    snapshot.numbered().filter(|(_, state)| other(state)).map(|(slot, _)| slot).collect()
}

fn surplus(snapshot: &Snapshot<'_>, replaced: &BTreeSet<u32>) -> Vec<Action> {
    let serving: Vec<(u32, &Slot)> = snapshot.numbered().filter(|(_, state)| state.serves()).collect();
    let resting = snapshot.resting();
    let leave = |(slot, state): &(u32, &Slot)| match state {
        Slot::Running(_) if resting == Some(*slot) => Some(Action::Stop(*slot)),
        Slot::Running(_) => Some(Action::Drain(*slot)),
        Slot::BackingOff { .. } if resting == Some(*slot) => Some(Action::Park(*slot)),
        // One that is backing off runs again before it can be drained; one that was given up waits for a person.
        _ => None,
    };
    let count = serving.len().saturating_sub(snapshot.wanted as usize);
    serving.iter().rev().take(count).filter(|(slot, _)| !replaced.contains(slot)).filter_map(leave).collect()
}

fn starts(snapshot: &Snapshot<'_>, now: Instant) -> Vec<Action> {
    if snapshot.fingerprint.is_none() {
        return Vec::new();
    }
    let resting = snapshot.resting();
    let due = |state: &Slot| matches!(state, Slot::BackingOff { until, .. } if *until <= now);
    let again = snapshot.numbered().filter(|(slot, state)| due(state) && resting != Some(*slot));
    let parked =
        snapshot.numbered().filter(|(slot, state)| **state == Slot::Parked && resting != Some(*slot));
    let parked: Vec<u32> = parked.map(|(slot, _)| slot).collect();
    // A slot that is stopping will be parked, and be started again if it is wanted.
    let coming = |state: &Slot| state.serves() || matches!(state, Slot::Stopping { .. });
    let there = snapshot.slots.iter().filter(|state| coming(state)).count() + parked.len();
    let missing = (snapshot.wanted as usize).saturating_sub(there);
    let empty =
        snapshot.numbered().filter(|(_, state)| **state == Slot::Empty).map(|(slot, _)| slot).take(missing);
    let new = parked.iter().copied().chain(empty).take(snapshot.may_start as usize);
    again.map(|(slot, _)| slot).chain(new).map(Action::Start).collect()
}

impl Snapshot<'_> {
    fn numbered(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(self.slots)
    }

    /// The slot whose session stays although nothing is wanted.
    fn resting(&self) -> Option<u32> {
        let kept = || self.numbered().find(|(_, state)| state.keeps_session()).map(|(slot, _)| slot);
        if self.wanted == 0 { kept() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::slot::tests::{instance, restart};
    use crate::slot::{Ended, Event};

    const PRESENT: u64 = 7;

    fn planned(slots: &[Slot], wanted: u32) -> Vec<Action> {
        planned_at(slots, wanted, Instant::now())
    }

    fn planned_at(slots: &[Slot], wanted: u32, now: Instant) -> Vec<Action> {
        plan(&snapshot(slots, wanted, &(0..slots.len() as u32).collect(), &BTreeSet::new()), now)
    }

    fn snapshot<'a>(
        slots: &'a [Slot],
        wanted: u32,
        listening: &'a BTreeSet<u32>,
        silent: &'a BTreeSet<u32>,
    ) -> Snapshot<'a> {
        Snapshot { slots, wanted, may_start: 100, listening, silent, fingerprint: Some(PRESENT) }
    }

    fn running() -> Slot {
        Slot::Running(instance(Instant::now()))
    }

    fn draining() -> Slot {
        let now = Instant::now();
        let told = Some(Told { at: now, kill_at: now + Duration::from_secs(9) });
        Slot::Draining { instance: instance(now), told }
    }

    fn stopping() -> Slot {
        Slot::Stopping {
            instance: instance(Instant::now()),
            kill_at: Instant::now() + Duration::from_secs(9),
        }
    }

    #[test]
    fn up_takes_the_lowest_free_slot_and_down_drains_the_highest() {
        use Slot::Empty;
        assert_eq!(planned(&[Empty, Empty, Empty], 2), [Action::Start(0), Action::Start(1)]);
        assert_eq!(planned(&[running(), Empty, running(), Empty], 3), [Action::Start(1)]);
        assert_eq!(
            planned(&[running(), Empty, running(), running()], 1),
            [Action::Drain(3), Action::Drain(2)]
        );
        assert_eq!(planned(&[running(), running()], 2), []);
        assert_eq!(planned(&[running(), draining()], 2), [], "a slot that drains is not free");
    }

    #[test]
    fn a_slot_that_crashed_keeps_its_place_and_is_started_when_its_wait_is_over() {
        let now = Instant::now();
        let wait = Slot::BackingOff { until: now + Duration::from_secs(1), crashes: 1 };
        assert_eq!(planned_at(&[wait.clone(), Slot::Empty], 1, now), []);
        assert_eq!(
            planned_at(&[wait.clone(), Slot::Empty], 1, now + Duration::from_secs(1)),
            [Action::Start(0)]
        );
        assert_eq!(
            planned(&[Slot::GivenUp { crashes: 11 }, Slot::Empty], 1),
            [],
            "nothing stands in for a broken app"
        );
        // Surplus: it must run once more before it can be drained.
        assert_eq!(planned_at(&[running(), wait.clone()], 1, now), []);
        assert_eq!(planned_at(&[running(), wait], 1, now + Duration::from_secs(1)), [Action::Start(1)]);
    }

    #[test]
    fn a_session_without_a_process_is_started_and_drained_unless_it_is_the_last() {
        use Slot::{Empty, Parked};
        assert_eq!(planned(&[running(), Empty, Parked], 1), [Action::Start(2)]);
        assert_eq!(planned(&[running(), Empty, running()], 1), [Action::Drain(2)]);
        assert_eq!(
            planned(&[Empty, Empty, Parked], 1),
            [Action::Start(2)],
            "where messages may wait, rather than slot 0"
        );
        assert_eq!(planned(&[Empty, Parked, Parked], 0), [Action::Start(2)]);
        assert_eq!(planned(&[Empty, Parked, draining()], 0), []);
    }

    #[test]
    fn the_last_session_stays_when_nothing_is_wanted() {
        let now = Instant::now();
        assert_eq!(planned(&[running(), running()], 0), [Action::Drain(1), Action::Stop(0)]);
        assert_eq!(planned(&[draining(), running()], 0), [Action::Stop(1)]);
        let wait = Slot::BackingOff { until: now, crashes: 1 };
        assert_eq!(planned_at(&[wait, Slot::Empty], 0, now), [Action::Park(0)]);
    }

    #[test]
    fn what_was_started_with_other_settings_comes_back_in_its_own_slot() {
        let mut old = instance(Instant::now());
        old.fingerprint = PRESENT + 1;
        assert_eq!(planned(&[Slot::Running(old), running(), Slot::Empty], 2), [Action::Stop(0)]);
        assert_eq!(planned(&[stopping(), running(), Slot::Empty], 2), []);
        assert_eq!(planned(&[Slot::Parked, running(), Slot::Empty], 2), [Action::Start(0)]);
    }

    #[test]
    fn what_hangs_is_replaced_in_its_own_slot_and_nothing_else_is_touched() {
        let (none, hangs) = (BTreeSet::new(), BTreeSet::from([0]));
        let slots = [running(), running(), Slot::Empty];
        assert_eq!(plan(&snapshot(&slots, 2, &none, &hangs), Instant::now()), [Action::Replace(0)]);
        assert_eq!(planned(&[stopping(), running(), Slot::Empty], 2), []);
        assert_eq!(planned(&[Slot::Parked, running(), Slot::Empty], 2), [Action::Start(0)]);
    }

    #[test]
    fn a_stream_that_is_not_configured_any_more_is_stopped_and_nothing_of_it_is_started() {
        let none = BTreeSet::new();
        let now = Instant::now();
        let slots = [running(), Slot::Parked, stopping(), Slot::BackingOff { until: now, crashes: 1 }];
        assert_eq!(retire(&snapshot(&slots, 4, &none, &none), now), [Action::Stop(0)]);
        let late = now + Duration::from_secs(60);
        assert_eq!(retire(&snapshot(&slots[1..], 4, &none, &none), late), [Action::Kill(1)]);
    }

    #[test]
    fn a_drain_is_told_when_it_is_listened_to_and_ends_in_its_time() {
        let now = Instant::now();
        let untold = [running(), Slot::Draining { instance: instance(now), told: None }];
        let none = BTreeSet::new();
        assert_eq!(plan(&snapshot(&untold, 1, &none, &none), now), []);
        assert_eq!(planned(&untold, 1), [Action::Tell(1)]);
        let late = now + Duration::from_secs(60);
        assert_eq!(
            planned_at(&[running(), draining(), stopping()], 1, late),
            [Action::Kill(1), Action::Kill(2)]
        );
    }

    #[test]
    fn nothing_is_started_without_leave() {
        let slots = [Slot::Empty, Slot::Empty, Slot::Empty];
        let none = BTreeSet::new();
        let at = |may_start, fingerprint| {
            let all = snapshot(&slots, 3, &none, &none);
            plan(&Snapshot { may_start, fingerprint, ..all }, Instant::now())
        };
        assert_eq!(at(1, Some(PRESENT)), [Action::Start(0)]);
        assert_eq!(at(9, None), []);
    }

    fn any_slot() -> impl Strategy<Value = Slot> {
        let until = Instant::now();
        prop_oneof![
            3 => Just(Slot::Empty),
            3 => Just(running()),
            1 => Just(Slot::Parked),
            1 => Just(draining()),
            1 => Just(stopping()),
            1 => Just(Slot::BackingOff { until, crashes: 1 }),
        ]
    }

    /// Carries an action out as a well-behaved app would.
    fn carry_out(slots: &mut [Slot], action: Action, now: Instant) {
        let told = Told { at: now, kill_at: now + Duration::from_secs(9) };
        let (slot, events) = match action {
            Action::Start(slot) => (slot, vec![Event::Started(instance(now))]),
            Action::Drain(slot) => (slot, vec![Event::Drain, Event::Told(told), Event::Ended(Ended::Clean)]),
            Action::Tell(slot) => (slot, vec![Event::Told(told), Event::Ended(Ended::Clean)]),
            Action::Stop(slot) | Action::Replace(slot) => {
                (slot, vec![Event::Stop { kill_at: now }, Event::Ended(Ended::Clean)])
            }
            Action::Kill(slot) => (slot, vec![Event::Ended(Ended::Failed)]),
            Action::Park(slot) => (slot, vec![Event::Park]),
        };
        for event in events {
            let state = &mut slots[slot as usize];
            *state = state.after(event, &restart(), now).expect("a planned action is a legal move");
        }
    }

    proptest! {
        #[test]
        fn every_stream_comes_to_have_what_is_wanted_and_then_rests(
            mut slots in prop::collection::vec(any_slot(), 4..10), wanted in 0..5u32,
        ) {
            let mut now = Instant::now();
            for _ in 0..50 {
                now += Duration::from_secs(120);
                // What is on its way out ends in order.
                for slot in &mut slots {
                    if matches!(slot, Slot::Draining { .. } | Slot::Stopping { .. }) {
                        *slot = slot.after(Event::Ended(Ended::Clean), &restart(), now).expect("legal");
                    }
                }
                for action in planned_at(&slots, wanted, now) {
                    carry_out(&mut slots, action, now);
                }
            }
            let count = |wanted: fn(&Slot) -> bool| slots.iter().filter(|slot| wanted(slot)).count();
            prop_assert_eq!(count(Slot::serves), wanted as usize, "{:?}", slots);
            let alone = count(|slot| *slot == Slot::Parked);
            prop_assert!(alone <= usize::from(wanted == 0), "sessions that nobody reads: {:?}", slots);
            prop_assert_eq!(planned_at(&slots, wanted, now), vec![], "a settled stream rests");
        }
    }
}
