//! Decides which numbers are sent now.
//!
//! Pure: receipts, the broker's answers and `now` go in, runs of numbers come out. A number is
//!
//! - *new* until it is sent for the first time, within a window;
//! - *flying* until the broker has acknowledged it, which is no confirmation;
//! - *sent* until the platform confirms it;
//! - to be sent *again* when the broker has not acknowledged it, or when the platform asks for it, within an [`allowance`].
//!
//! That a receipt does not come is no reason to send a number again: it may wait in a queue, and would only make that
//! longer. After a [`silence`] the highest number alone is sent again: all others were sent before it, and a platform
//! that gets it asks for what it misses. Numbers that an earlier process may have sent count as sent.

mod allowance;
#[cfg(test)]
mod model;
mod silence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mysimbdp_model::message::Receipt;
use mysimbdp_model::ranges::Ranges;

use allowance::Allowance;
use silence::Silence;

/// A number that is asked for is not sent again sooner: receipts that cross it on its way still ask for it.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Numbers that may be sent and not received.
    pub window: usize,
    /// After so long without anything new from the platform, it is asked how far it is.
    pub resend_after: Duration,
}

/// What is known of each number.
#[derive(Debug)]
pub struct ResendScheduler {
    policy: Policy,
    /// What the platform has confirmed, and 0.
    received: Ranges,
    /// The highest number that it has seen.
    seen: u64,
    accepted: u64,
    /// Through this one, numbers may have been sent by an earlier process.
    opened_with: u64,
    /// The same, as far as is known by now; the first receipt tells more.
    doubtful_through: u64,
    opened_at: Instant,
    heard: bool,
    /// Before it, all are received or in `waiting`.
    next: u64,
    /// What is not received although its turn to be sent has come.
    waiting: BTreeMap<u64, Waiting>,
    /// Those of `waiting` that are to be sent now.
    again: BTreeSet<u64>,
    /// Those of `waiting` that are sent and that the platform has asked for since.
    asked: BTreeSet<u64>,
    /// A received number that is in `waiting` as a probe, until any receipt.
    echo: Option<u64>,
    allowance: Allowance,
    silence: Silence,
    /// When one of `asked` is due; earlier than that nobody needs to look.
    look_at: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    /// How often it was sent on this connection.
    attempts: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Flying,
    Sent { at: Instant },
    Again,
}

impl Waiting {
    /// As far as is known it is on its way.
    fn sent(now: Instant) -> Self {
        Self { state: State::Sent { at: now }, attempts: 1 }
    }
}

impl ResendScheduler {
    /// A scheduler of an outbox whose oldest number is `oldest` and whose last is `accepted`.
    pub fn new(policy: Policy, oldest: u64, accepted: u64, now: Instant) -> Self {
        Self {
            policy,
            received: Ranges::from_iter([(0, oldest.saturating_sub(1))]),
            seen: 0,
            accepted,
            opened_with: accepted,
            doubtful_through: accepted,
            opened_at: now,
            heard: false,
            next: oldest,
            waiting: BTreeMap::new(),
            again: BTreeSet::new(),
            asked: BTreeSet::new(),
            echo: None,
            allowance: Allowance::new(policy.window),
            silence: Silence::new(policy.resend_after, now),
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

    /// Takes the next run of numbers to send, `room` of them at most. They fly until [`ResendScheduler::sent`], [`ResendScheduler::failed`]
    /// or a receipt says otherwise.
    pub fn take(&mut self, now: Instant, room: usize) -> Option<(u64, u64)> {
        self.take_doubtful();
        self.look(now);
        let (first, last) = self.next_run(room as u64)?;
        if self.waiting.is_empty() {
            self.silence.broken(now);
        }
        for number in first..=last {
            self.again.remove(&number);
            let waiting = self.waiting.entry(number).or_insert(Waiting { state: State::Flying, attempts: 0 });
            waiting.state = State::Flying;
        }
        self.next = self.next.max(last + 1);
        Some((first, last))
    }

    /// An earlier process may have sent these: it is left to the platform to ask for those that it has not.
    fn take_doubtful(&mut self) {
        while self.next <= self.doubtful_through && self.waiting.len() < self.policy.window {
            if !self.received.contains(self.next) {
                self.waiting.insert(self.next, Waiting::sent(self.opened_at));
            }
            self.next += 1;
        }
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
        if let Some(waiting) = self.flying(number) {
            waiting.state = State::Sent { at: now };
            waiting.attempts = waiting.attempts.saturating_add(1);
        }
    }

    /// The broker has not acknowledged the number or has given it to nobody, or it was taken and not sent.
    pub fn failed(&mut self, number: u64) {
        if let Some(waiting) = self.flying(number) {
            waiting.state = State::Again;
            self.again.insert(number);
        }
    }

    fn flying(&mut self, number: u64) -> Option<&mut Waiting> {
        self.waiting.get_mut(&number).filter(|waiting| waiting.state == State::Flying)
    }

    /// Takes a receipt of this epoch in. Returns the highest number it tells of, if that has never been sent: somebody has
    /// forged it, or the outbox is an old copy of itself. Such numbers are not believed to be received.
    pub fn receipt(&mut self, receipt: &Receipt, now: Instant) -> Option<u64> {
        let may_be_stored = self.opened_with.max(self.next - 1);
        let highest = receipt.stored.last().map_or(receipt.stored_through, |(_, last)| *last);
        let seen = highest.max(receipt.seen.unwrap_or(0));
        if !std::mem::replace(&mut self.heard, true) {
            // An earlier process had a window of numbers on their way, and no more.
            let window = self.policy.window as u64;
            self.doubtful_through = self.doubtful_through.min(seen.saturating_add(window));
        }
        if let Some(number) = self.echo.take() {
            self.forget(number);
        }
        let before = (self.received.count(), self.waiting.len(), self.seen);
        for (first, last) in receipt.stored.iter().copied().chain([(1, receipt.stored_through)]) {
            self.confirm(first, last.min(may_be_stored));
        }
        self.seen = self.seen.max(seen.min(may_be_stored));
        self.allowance.earn((before.1 - self.waiting.len()) as u64);
        if before != (self.received.count(), self.waiting.len(), self.seen) {
            self.silence.broken(now);
        }
        for (first, last) in &receipt.missing {
            self.ask(*first, (*last).min(self.next - 1), now);
        }
        self.look_at = Some(now);
        (seen > may_be_stored).then_some(seen)
    }

    fn confirm(&mut self, first: u64, last: u64) {
        self.received.insert(first, last);
        while let Some((&number, _)) = self.waiting.range(first..=last.max(first)).next()
            && number <= last
        {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        self.waiting.remove(&number);
        self.again.remove(&number);
        self.asked.remove(&number);
    }

    /// The platform misses these numbers, all of which have had their turn.
    fn ask(&mut self, first: u64, last: u64, now: Instant) {
        let mut number = first;
        while number <= last {
            match self.waiting.get(&number) {
                Some(Waiting { state: State::Sent { .. }, .. }) => {
                    self.asked.insert(number);
                }
                Some(_) => {}
                // What counted as received: the platform has lost it since, or this receipt is older than the one that
                // said so, and the next one says so again. The rest is asked for again.
                None if self.waiting.len() < self.policy.window => {
                    if self.waiting.is_empty() {
                        self.silence.broken(now);
                    }
                    self.waiting.insert(number, Waiting::sent(now));
                    self.asked.insert(number);
                }
                None => return,
            }
            number += 1;
        }
    }

    /// When to call [`ResendScheduler::take`] again although nothing has happened.
    pub fn wake_at(&self) -> Option<Instant> {
        let silent_at = self.silence.over_at();
        let wake_at = self.look_at.map_or(silent_at, |look_at| look_at.min(silent_at));
        (!self.waiting.is_empty()).then_some(wake_at)
    }

    /// A new connection. Perhaps the broker has lost all that it had: that it still knows our session would not show that
    /// it has kept what came after it last saved it.
    pub fn connected(&mut self, now: Instant) {
        for waiting in self.waiting.values_mut() {
            waiting.attempts = waiting.attempts.min(1);
        }
        self.allowance.refill();
        self.silence.connected(now);
        self.look_at = Some(now);
    }

    /// Finds the numbers that are to be sent again.
    fn look(&mut self, now: Instant) {
        if self.silence.over_at() <= now && !self.waiting.is_empty() {
            self.probe(now);
        }
        if self.look_at.is_none_or(|look_at| now < look_at) {
            return;
        }
        self.look_at = None;
        let mut due = Vec::new();
        for number in &self.asked {
            let Some(Waiting { state: State::Sent { at }, attempts }) = self.waiting.get(number) else {
                continue;
            };
            let at = *at + wait(&self.policy, *attempts);
            if at > now {
                self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
            } else if self.allowance.spend() {
                due.push(*number);
            } else {
                // Whatever brings more of it has us look again.
                break;
            }
        }
        due.into_iter().for_each(|number| self.send_again(number));
    }

    /// Nothing new has been heard for too long: asks how far the platform is, with the highest number, received or not. A lower
    /// one that is missing would look to the platform as if what it misses came by itself.
    fn probe(&mut self, now: Instant) {
        let silent_since = self.silence.since();
        self.silence.probed(now);
        self.allowance.refill_after_silence();
        self.look_at = Some(now);
        let highest = self.next - 1;
        match self.waiting.get(&highest).map(|waiting| &waiting.state) {
            // What was sent in the meantime asks as well.
            Some(State::Sent { at }) if *at <= silent_since => self.send_again(highest),
            Some(_) => {}
            // It is above one that is missing, so the outbox still has it.
            None => {
                self.waiting.insert(highest, Waiting::sent(now));
                self.echo = Some(highest);
                self.send_again(highest);
            }
        }
    }

    fn send_again(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.state = State::Again;
            self.again.insert(number);
        }
        self.asked.remove(&number);
    }
}

/// From a number's last attempt to the next, when it is asked for. What was lost once is not lost again soon: more often it
/// waits in a queue.
fn wait(policy: &Policy, attempts: u32) -> Duration {
    match attempts {
        0 | 1 => ASKED_AGAIN_AFTER.min(policy.resend_after),
        2 => policy.resend_after,
        _ => policy.resend_after * 2,
    }
}
