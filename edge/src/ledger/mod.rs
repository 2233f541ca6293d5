//! Decides which numbers are sent now.
//!
//! Pure: receipts, broker's answers and `now` go in, runs of numbers come out. A number is
//!
//! - *new* until it is sent for the first time, within a window;
//! - *flying* until the broker has acknowledged it, which is no confirmation;
//! - *sent* until the platform confirms it;
//! - to be sent *again* when the platform asks for it, when the broker has not acknowledged it, or when its time is over.
//!
//! When nothing is heard of the platform, sending everything again would only fill the broker's queues. Then one number
//! alone, the lowest, goes on being sent; the receipt that it brings about is the sign to send the others.

#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mysimbdp_core::message::Receipt;
use mysimbdp_core::ranges::Ranges;

/// A number that is asked for is not sent again sooner: receipts that cross it on its way still ask for it.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// While the platform confirms others, a number has this much more time: it may be slow, and asks for what it misses.
const PATIENCE: u32 = 6;
/// The wait for a receipt doubles so often. Once is enough, as only one number is repeated, and a longer one would be felt
/// after an outage.
const DOUBLINGS_MAX: u32 = 1;
const PATIENCE_DOUBLINGS_MAX: u32 = 6;

/// How it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Numbers that may be sent and not received.
    pub window: usize,
    /// After so long without a receipt a number is sent again.
    pub resend_after: Duration,
}

/// What is known of each number.
#[derive(Debug)]
pub struct Ledger {
    policy: Policy,
    /// What the platform has confirmed, and 0.
    received: Ranges,
    accepted: u64,
    /// Through this one, numbers may have been sent by an earlier process.
    opened_with: u64,
    /// Before it, all are received or in `waiting`.
    next: u64,
    /// What is not received although its turn to be sent has come.
    waiting: BTreeMap<u64, Waiting>,
    /// Those of `waiting` that are to be sent now.
    again: BTreeSet<u64>,
    /// A number's time was over, and nothing has been heard since.
    silent: bool,
    /// When the platform last confirmed something.
    progress: Option<Instant>,
    /// When the next time may be over; earlier than that nobody needs to look.
    look_at: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    /// How often the broker has acknowledged it.
    attempts: u32,
    /// The platform has asked for it since it was sent.
    asked: bool,
}

impl Waiting {
    /// Its turn has come and it has not been sent, as far as is known.
    const NEVER_SENT: Self = Self { state: State::Again, attempts: 0, asked: false };
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Flying,
    Sent { at: Instant },
    Again,
}

impl Ledger {
    /// A ledger of an outbox whose oldest number is `oldest` and whose last is `accepted`.
    pub fn new(policy: Policy, oldest: u64, accepted: u64) -> Self {
        Self {
            policy,
            received: Ranges::from_iter([(0, oldest.saturating_sub(1))]),
            accepted,
            opened_with: accepted,
            next: oldest,
            waiting: BTreeMap::new(),
            again: BTreeSet::new(),
            silent: false,
            progress: None,
            look_at: None,
        }
    }

    /// All numbers through this one are received.
    pub fn received_through(&self) -> u64 {
        self.received.first().map_or(0, |(_, last)| last)
    }

    /// The outbox has accepted messages through this number.
    pub fn accept(&mut self, through: u64) {
        self.accepted = self.accepted.max(through);
    }

    /// Takes the next run of numbers to send, `room` of them at most. They fly until [`Ledger::sent`], [`Ledger::failed`]
    /// or a receipt says otherwise.
    pub fn take(&mut self, now: Instant, room: usize) -> Option<(u64, u64)> {
        self.look(now);
        let (first, last) = self.next_run(room as u64)?;
        for number in first..=last {
            self.again.remove(&number);
            let waiting = self.waiting.entry(number).or_insert(Waiting::NEVER_SENT);
            (waiting.state, waiting.asked) = (State::Flying, false);
        }
        self.next = self.next.max(last + 1);
        Some((first, last))
    }

    fn next_run(&self, room: u64) -> Option<(u64, u64)> {
        if room == 0 {
            return None;
        }
        if let Some(&first) = self.again.first() {
            let run = (first..).zip(&self.again).take_while(|(expected, number)| expected == *number);
            let last = run.take(room as usize).last().map_or(first, |(number, _)| number);
            return Some((first, last));
        }
        let room = room.min(self.policy.window.saturating_sub(self.waiting.len()) as u64);
        let (first, last) = self.received.holes(self.next, self.accepted).first()?;
        (room > 0).then_some((first, last.min(first + room - 1)))
    }

    /// The broker has acknowledged the number, or will never take it: now it is up to the platform.
    pub fn sent(&mut self, number: u64, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(&number).filter(|waiting| waiting.state == State::Flying)
        else {
            return;
        };
        waiting.state = State::Sent { at: now };
        waiting.attempts = waiting.attempts.saturating_add(1);
        let due = due(&self.policy, self.progress, now, waiting);
        self.look_at = Some(self.look_at.map_or(due, |look_at| look_at.min(due)));
    }

    /// The broker has not acknowledged the number, or it was taken and not sent.
    pub fn failed(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&number).filter(|waiting| waiting.state == State::Flying)
        {
            waiting.state = State::Again;
            self.again.insert(number);
        }
    }

    /// Takes a receipt of this epoch in. Returns the highest number it tells of, if that has never been sent: somebody has
    /// forged it, or the outbox is an old copy of itself. Such numbers are not believed to be received.
    pub fn receipt(&mut self, receipt: &Receipt, now: Instant) -> Option<u64> {
        let may_be_stored = self.opened_with.max(self.next - 1);
        let before = self.received.count();
        let confirmed = receipt.stored.iter().copied().chain([(1, receipt.stored_through)]);
        confirmed.for_each(|(first, last)| self.received.insert(first, last.min(may_be_stored)));
        let grown = self.received.count() > before;
        // After a silence the others are not given more time: they have waited for this sign.
        if grown && !self.silent {
            self.progress = Some(now);
        }
        let confirms = |number: &u64| {
            let (stored, after) =
                (&receipt.stored, receipt.stored.partition_point(|(first, _)| first <= number));
            *number <= receipt.stored_through || after > 0 && *number <= stored[after - 1].1
        };
        self.waiting.retain(|number, _| !confirms(number));
        self.again.retain(|number| !confirms(number));
        for (first, last) in &receipt.missing {
            self.ask(*first, (*last).min(self.next - 1));
        }
        self.silent = false;
        self.look_at = Some(now);
        let highest = receipt.stored.last().map_or(receipt.stored_through, |(_, last)| *last);
        (highest > may_be_stored).then_some(highest)
    }

    /// The platform misses these numbers, all of which have had their turn.
    fn ask(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        for (_, waiting) in self.waiting.range_mut(first..=last) {
            waiting.asked = matches!(waiting.state, State::Sent { .. });
        }
        // What counted as received, for the platform has lost it since. The rest of it is asked for again.
        let mut number = first;
        while number <= last && self.waiting.len() < self.policy.window {
            if let Entry::Vacant(vacant) = self.waiting.entry(number) {
                vacant.insert(Waiting::NEVER_SENT);
                self.again.insert(number);
            }
            number += 1;
        }
    }

    /// When to call [`Ledger::take`] again although nothing has happened.
    pub fn wake_at(&self) -> Option<Instant> {
        self.look_at.filter(|_| !self.waiting.is_empty())
    }

    /// A new connection: the platform may be there again.
    pub fn connected(&mut self, now: Instant) {
        self.silent = false;
        self.look_at = Some(now);
    }

    /// Finds the numbers whose time is over.
    fn look(&mut self, now: Instant) {
        if self.look_at.is_none_or(|look_at| now < look_at) {
            return;
        }
        self.look_at = None;
        let mut over = false;
        for (place, (number, waiting)) in self.waiting.iter_mut().enumerate() {
            let State::Sent { at } = waiting.state else { continue };
            if self.silent && place > 0 && !waiting.asked {
                continue;
            }
            let due = due(&self.policy, self.progress, at, waiting);
            if due <= now {
                over |= !waiting.asked;
                waiting.state = State::Again;
                self.again.insert(*number);
            } else {
                self.look_at = Some(self.look_at.map_or(due, |look_at| look_at.min(due)));
            }
        }
        self.silent |= over;
    }
}

/// When the time of a number is over that was sent at `at`.
fn due(policy: &Policy, progress: Option<Instant>, at: Instant, waiting: &Waiting) -> Instant {
    if waiting.asked {
        return at + ASKED_AGAIN_AFTER.min(policy.resend_after);
    }
    let doublings = waiting.attempts.saturating_sub(1);
    let alone = at + policy.resend_after * (1 << doublings.min(DOUBLINGS_MAX));
    // Not twice the wait once more: what is asked for after an outage would give those that nobody asks for too much time.
    let beside_others = progress.map_or(alone, |progress| alone.max(progress + policy.resend_after));
    let patience = policy.resend_after * PATIENCE * (1 << doublings.min(PATIENCE_DOUBLINGS_MAX));
    beside_others.min(at + patience)
}
