//! Plans the actions that bring a stream to the number of instances that it should have.
//!
//! Pure: slots and the desired number in, actions out. Every pass plans again, and an action that has been carried out is
//! not planned again. Three rules:
//!
//! 1. **Up** starts an idle slot, as messages may wait there, else the lowest empty one. **Down** drains the highest.
//! 2. **No session stays unread.** The broker gives each session of a shared subscription its share, even if nobody
//!    reads it. So an idle slot is started even if it is not needed, and then drained.
//! 3. **The last session stays** if no instance is desired: the lowest slot is stopped, not drained, so that the broker
//!    keeps queuing for the client.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::slot::{DrainSignal, Slot};

/// The present state of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamSnapshot<'a> {
    pub slots: &'a [Slot],
    pub desired: u32,
    /// How many more processes the manager may start, for all clients together.
    pub may_start: u32,
    /// Slots whose process handles the signal to drain; it would kill any other process.
    pub ready_to_drain: &'a BTreeSet<u32>,
    /// Slots whose process hangs.
    pub hanging: &'a BTreeSet<u32>,
    /// Fingerprint of what would be started now; `None` if nothing can be started yet.
    pub fingerprint: Option<u64>,
}

/// One action in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Start a process in this slot.
    Start(u32),
    /// Begin to drain the process.
    Drain(u32),
    /// Signal the drain to a process that now handles the signal.
    SignalDrain(u32),
    /// End the process and keep the session.
    Stop(u32),
    /// Stop a process that hangs; its slot is then started again.
    Replace(u32),
    /// Kill a process that did not end in time.
    Kill(u32),
    /// Do not start a process again; the session stays.
    Park(u32),
}

/// Returns the actions that are due now.
pub fn plan(snapshot: &StreamSnapshot<'_>, now: Instant) -> Vec<Action> {
    let mut actions = overdue(snapshot, now);
    let mut replaced = outdated(snapshot);
    actions.extend(replaced.iter().map(|slot| Action::Stop(*slot)));
    let hanging = snapshot.hanging.difference(&replaced).copied().collect::<Vec<u32>>();
    actions.extend(hanging.iter().map(|slot| Action::Replace(*slot)));
    replaced.extend(hanging);
    actions.extend(surplus(snapshot, &replaced));
    actions.extend(starts(snapshot, now));
    actions
}

/// Returns the actions that are due now for a stream that is no longer configured: all its instances are stopped.
pub fn retire(snapshot: &StreamSnapshot<'_>, now: Instant) -> Vec<Action> {
    let running =
        |(slot, state): (u32, &Slot)| matches!(state, Slot::Running(_)).then_some(Action::Stop(slot));
    let mut actions = overdue(snapshot, now);
    actions.extend(snapshot.numbered().filter_map(running));
    actions
}

/// Processes on their way out that can now be signalled, or whose time is up.
fn overdue(snapshot: &StreamSnapshot<'_>, now: Instant) -> Vec<Action> {
    let due = |(slot, state): (u32, &Slot)| match state {
        Slot::Draining { signal: None, .. } if snapshot.ready_to_drain.contains(&slot) => {
            Some(Action::SignalDrain(slot))
        }
        Slot::Draining { signal: Some(DrainSignal { kill_at, .. }), .. } | Slot::Stopping { kill_at, .. }
            if *kill_at <= now =>
        {
            Some(Action::Kill(slot))
        }
        _ => None,
    };
    snapshot.numbered().filter_map(due).collect()
}

/// Instances that were started with another program, address or setting: they are restarted with the present ones.
fn outdated(snapshot: &StreamSnapshot<'_>) -> BTreeSet<u32> {
    let Some(present) = snapshot.fingerprint else { return BTreeSet::new() };
    let other = |state: &Slot| matches!(state, Slot::Running(instance) if instance.fingerprint != present);
    snapshot.numbered().filter(|(_, state)| other(state)).map(|(slot, _)| slot).collect()
}

fn surplus(snapshot: &StreamSnapshot<'_>, replaced: &BTreeSet<u32>) -> Vec<Action> {
    let counted: Vec<(u32, &Slot)> =
        snapshot.numbered().filter(|(_, state)| state.counts_as_desired()).collect();
    let last_session = snapshot.last_session();
    let action = |(slot, state): &(u32, &Slot)| match state {
        Slot::Running(_) if last_session == Some(*slot) => Some(Action::Stop(*slot)),
        Slot::Running(_) => Some(Action::Drain(*slot)),
        Slot::BackingOff { .. } if last_session == Some(*slot) => Some(Action::Park(*slot)),
        // A slot that is backing off runs once more before it can be drained; one that was given up waits for a person.
        _ => None,
    };
    let count = counted.len().saturating_sub(snapshot.desired as usize);
    counted.iter().rev().take(count).filter(|(slot, _)| !replaced.contains(slot)).filter_map(action).collect()
}

fn starts(snapshot: &StreamSnapshot<'_>, now: Instant) -> Vec<Action> {
    if snapshot.fingerprint.is_none() {
        return Vec::new();
    }
    let last_session = snapshot.last_session();
    let due = |state: &Slot| matches!(state, Slot::BackingOff { until, .. } if *until <= now);
    let again = snapshot.numbered().filter(|(slot, state)| due(state) && last_session != Some(*slot));
    let idle =
        snapshot.numbered().filter(|(slot, state)| **state == Slot::Idle && last_session != Some(*slot));
    let idle: Vec<u32> = idle.map(|(slot, _)| slot).collect();
    // A slot that is stopping will be idle, and started again if it is needed.
    let will_count = |state: &Slot| state.counts_as_desired() || matches!(state, Slot::Stopping { .. });
    let existing = snapshot.slots.iter().filter(|state| will_count(state)).count() + idle.len();
    let missing = (snapshot.desired as usize).saturating_sub(existing);
    let empty =
        snapshot.numbered().filter(|(_, state)| **state == Slot::Empty).map(|(slot, _)| slot).take(missing);
    let new = idle.iter().copied().chain(empty).take(snapshot.may_start as usize);
    again.map(|(slot, _)| slot).chain(new).map(Action::Start).collect()
}

impl StreamSnapshot<'_> {
    fn numbered(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(self.slots)
    }

    /// The slot whose session stays although no instance is desired.
    fn last_session(&self) -> Option<u32> {
        let kept = || self.numbered().find(|(_, state)| state.keeps_session()).map(|(slot, _)| slot);
        if self.desired == 0 { kept() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::slot::tests::{instance, restart};
    use crate::slot::{Ended, SlotEvent};

    const PRESENT: u64 = 7;

    fn planned(slots: &[Slot], desired: u32) -> Vec<Action> {
        planned_at(slots, desired, Instant::now())
    }

    fn planned_at(slots: &[Slot], desired: u32, now: Instant) -> Vec<Action> {
        plan(&snapshot(slots, desired, &(0..slots.len() as u32).collect(), &BTreeSet::new()), now)
    }

    fn snapshot<'a>(
        slots: &'a [Slot],
        desired: u32,
        ready_to_drain: &'a BTreeSet<u32>,
        hanging: &'a BTreeSet<u32>,
    ) -> StreamSnapshot<'a> {
        StreamSnapshot { slots, desired, may_start: 100, ready_to_drain, hanging, fingerprint: Some(PRESENT) }
    }

    fn running() -> Slot {
        Slot::Running(instance(Instant::now()))
    }

    fn draining() -> Slot {
        let now = Instant::now();
        let signal = Some(DrainSignal { at: now, kill_at: now + Duration::from_secs(9) });
        Slot::Draining { instance: instance(now), signal }
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
    fn a_crashed_slot_keeps_counting_and_is_started_when_its_wait_is_over() {
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
            "no other slot replaces a broken app"
        );
        // The slot is surplus, but must run once more before it can be drained.
        assert_eq!(planned_at(&[running(), wait.clone()], 1, now), []);
        assert_eq!(planned_at(&[running(), wait], 1, now + Duration::from_secs(1)), [Action::Start(1)]);
    }

    #[test]
    fn a_session_without_a_process_is_started_and_drained_unless_it_is_the_last() {
        use Slot::{Empty, Idle};
        assert_eq!(planned(&[running(), Empty, Idle], 1), [Action::Start(2)]);
        assert_eq!(planned(&[running(), Empty, running()], 1), [Action::Drain(2)]);
        assert_eq!(
            planned(&[Empty, Empty, Idle], 1),
            [Action::Start(2)],
            "the slot in which messages may wait, rather than slot 0"
        );
        assert_eq!(planned(&[Empty, Idle, Idle], 0), [Action::Start(2)]);
        assert_eq!(planned(&[Empty, Idle, draining()], 0), []);
    }

    #[test]
    fn the_last_session_stays_when_no_instance_is_desired() {
        let now = Instant::now();
        assert_eq!(planned(&[running(), running()], 0), [Action::Drain(1), Action::Stop(0)]);
        assert_eq!(planned(&[draining(), running()], 0), [Action::Stop(1)]);
        let wait = Slot::BackingOff { until: now, crashes: 1 };
        assert_eq!(planned_at(&[wait, Slot::Empty], 0, now), [Action::Park(0)]);
    }

    #[test]
    fn an_instance_with_other_settings_is_replaced_in_its_own_slot() {
        let mut old = instance(Instant::now());
        old.fingerprint = PRESENT + 1;
        assert_eq!(planned(&[Slot::Running(old), running(), Slot::Empty], 2), [Action::Stop(0)]);
        assert_eq!(planned(&[stopping(), running(), Slot::Empty], 2), []);
        assert_eq!(planned(&[Slot::Idle, running(), Slot::Empty], 2), [Action::Start(0)]);
    }

    #[test]
    fn an_instance_that_hangs_is_replaced_in_its_own_slot_and_no_other_is_affected() {
        let (none, hangs) = (BTreeSet::new(), BTreeSet::from([0]));
        let slots = [running(), running(), Slot::Empty];
        assert_eq!(plan(&snapshot(&slots, 2, &none, &hangs), Instant::now()), [Action::Replace(0)]);
        assert_eq!(planned(&[stopping(), running(), Slot::Empty], 2), []);
        assert_eq!(planned(&[Slot::Idle, running(), Slot::Empty], 2), [Action::Start(0)]);
    }

    #[test]
    fn a_stream_that_is_no_longer_configured_is_stopped_and_nothing_of_it_is_started() {
        let none = BTreeSet::new();
        let now = Instant::now();
        let slots = [running(), Slot::Idle, stopping(), Slot::BackingOff { until: now, crashes: 1 }];
        assert_eq!(retire(&snapshot(&slots, 4, &none, &none), now), [Action::Stop(0)]);
        let late = now + Duration::from_secs(60);
        assert_eq!(retire(&snapshot(&slots[1..], 4, &none, &none), late), [Action::Kill(1)]);
    }

    #[test]
    fn a_drain_is_signalled_once_the_process_handles_the_signal_and_is_killed_when_its_time_is_up() {
        let now = Instant::now();
        let not_signalled = [running(), Slot::Draining { instance: instance(now), signal: None }];
        let none = BTreeSet::new();
        assert_eq!(plan(&snapshot(&not_signalled, 1, &none, &none), now), []);
        assert_eq!(planned(&not_signalled, 1), [Action::SignalDrain(1)]);
        let late = now + Duration::from_secs(60);
        assert_eq!(
            planned_at(&[running(), draining(), stopping()], 1, late),
            [Action::Kill(1), Action::Kill(2)]
        );
    }

    #[test]
    fn nothing_is_started_without_capacity_or_before_preparation() {
        let slots = [Slot::Empty, Slot::Empty, Slot::Empty];
        let none = BTreeSet::new();
        let at = |may_start, fingerprint| {
            let all = snapshot(&slots, 3, &none, &none);
            plan(&StreamSnapshot { may_start, fingerprint, ..all }, Instant::now())
        };
        assert_eq!(at(1, Some(PRESENT)), [Action::Start(0)]);
        assert_eq!(at(9, None), []);
    }

    fn any_slot() -> impl Strategy<Value = Slot> {
        let until = Instant::now();
        prop_oneof![
            3 => Just(Slot::Empty),
            3 => Just(running()),
            1 => Just(Slot::Idle),
            1 => Just(draining()),
            1 => Just(stopping()),
            1 => Just(Slot::BackingOff { until, crashes: 1 }),
        ]
    }

    /// Applies an action as if the app were well-behaved.
    fn execute(slots: &mut [Slot], action: Action, now: Instant) {
        let signal = DrainSignal { at: now, kill_at: now + Duration::from_secs(9) };
        let (slot, events) = match action {
            Action::Start(slot) => (slot, vec![SlotEvent::Started(instance(now))]),
            Action::Drain(slot) => (
                slot,
                vec![SlotEvent::Drain, SlotEvent::DrainSignalled(signal), SlotEvent::Ended(Ended::Clean)],
            ),
            Action::SignalDrain(slot) => {
                (slot, vec![SlotEvent::DrainSignalled(signal), SlotEvent::Ended(Ended::Clean)])
            }
            Action::Stop(slot) | Action::Replace(slot) => {
                (slot, vec![SlotEvent::Stop { kill_at: now }, SlotEvent::Ended(Ended::Clean)])
            }
            Action::Kill(slot) => (slot, vec![SlotEvent::Ended(Ended::Failed)]),
            Action::Park(slot) => (slot, vec![SlotEvent::Park]),
        };
        for event in events {
            let state = &mut slots[slot as usize];
            *state = state.after(event, &restart(), now).expect("a planned action is a legal move");
        }
    }

    proptest! {
        #[test]
        fn every_stream_converges_to_the_desired_number_and_then_plans_nothing(
            mut slots in prop::collection::vec(any_slot(), 4..10), desired in 0..5u32,
        ) {
            let mut now = Instant::now();
            for _ in 0..50 {
                now += Duration::from_secs(120);
                // Processes on their way out end cleanly.
                for slot in &mut slots {
                    if matches!(slot, Slot::Draining { .. } | Slot::Stopping { .. }) {
                        *slot = slot.after(SlotEvent::Ended(Ended::Clean), &restart(), now).expect("legal");
                    }
                }
                for action in planned_at(&slots, desired, now) {
                    execute(&mut slots, action, now);
                }
            }
            let count = |desired: fn(&Slot) -> bool| slots.iter().filter(|slot| desired(slot)).count();
            prop_assert_eq!(count(Slot::counts_as_desired), desired as usize, "{:?}", slots);
            let unread = count(|slot| *slot == Slot::Idle);
            prop_assert!(unread <= usize::from(desired == 0), "sessions that nobody reads: {:?}", slots);
            prop_assert_eq!(planned_at(&slots, desired, now), vec![], "a converged stream plans nothing");
        }
    }
}
