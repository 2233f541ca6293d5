//! Decides which numbers are sent now.
//!
//! Without I/O: the input is receipts, the broker's answers and `now`; the output is runs of numbers. A number is
//!
//! - *new* until it is sent for the first time, within a window;
//! - *in flight* until the broker has acknowledged it, which is not a confirmation;
//! - *sent* until the platform confirms it;
//! - *to be resent* if the broker has not acknowledged it, or if the platform requests it, within an [`allowance`].
//!
//! A missing receipt is not a reason to send a number again: the number may be waiting in a queue, and a repeat would
//! only make the queue longer. After a [`silence`] only the highest number is sent again (a *probe*): all others were
//! sent before it, and a platform that receives it requests the numbers that it misses. Numbers that an earlier process
//! may have sent count as sent.

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

/// The shortest time between two attempts for a number that is requested: receipts published before it arrives still
/// request it.
const RESEND_REQUESTED_AFTER: Duration = Duration::from_secs(2);

/// The settings of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct ResendPolicy {
    /// How many numbers may be sent and not yet received.
    pub window: usize,
    /// If the platform reports nothing new for this long, a probe requests its progress.
    pub resend_after: Duration,
}

/// The state of each number.
#[derive(Debug)]
pub struct ResendScheduler {
    policy: ResendPolicy,
    /// The numbers that the platform has confirmed, and 0.
    received: Ranges,
    /// The highest number that the platform has seen.
    seen: u64,
    accepted: u64,
    /// The last number in the outbox when it was opened: receipts up to here are valid, whichever process sent it.
    opened_with: u64,
    /// Numbers through this one are assumed to be sent by an earlier process; the first receipt may lower it.
    maybe_sent_through: u64,
    opened_at: Instant,
    has_receipt: bool,
    /// All numbers before it are received or in `waiting`.
    next: u64,
    /// The numbers below `next` that are not received, and a received number that is sent again as a probe.
    waiting: BTreeMap<u64, Waiting>,
    /// The numbers in `waiting` that are to be sent again now.
    to_resend: BTreeSet<u64>,
    /// The numbers in `waiting` that are sent and that the platform has requested since.
    requested: BTreeSet<u64>,
    /// The received number in `waiting` that is sent again as a probe, until the next receipt.
    received_probe: Option<u64>,
    allowance: Allowance,
    silence: Silence,
    /// When the first number in `requested` may be due; no scan is needed before.
    scan_at: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    /// How often it was sent on this connection.
    attempts: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Sent { at: Instant },
    Resend,
}

impl Waiting {
    /// A number that is assumed to have been sent once.
    fn sent(now: Instant) -> Self {
        Self { state: State::Sent { at: now }, attempts: 1 }
    }
}

impl ResendScheduler {
    /// Creates the scheduler of an outbox whose oldest number is `oldest` and whose last is `accepted`.
    pub fn new(policy: ResendPolicy, oldest: u64, accepted: u64, now: Instant) -> Self {
        Self {
            policy,
            received: Ranges::from_iter([(0, oldest.saturating_sub(1))]),
            seen: 0,
            accepted,
            opened_with: accepted,
            maybe_sent_through: accepted,
            opened_at: now,
            has_receipt: false,
            next: oldest,
            waiting: BTreeMap::new(),
            to_resend: BTreeSet::new(),
            requested: BTreeSet::new(),
            received_probe: None,
            allowance: Allowance::new(policy.window),
            silence: Silence::new(policy.resend_after, now),
            scan_at: None,
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

    /// Takes the next run of at most `capacity` numbers to send. They are in flight until [`ResendScheduler::sent`],
    /// [`ResendScheduler::failed`] or a receipt changes that.
    pub fn take(&mut self, now: Instant, capacity: usize) -> Option<(u64, u64)> {
        self.assume_sent();
        self.scan(now);
        let (first, last) = self.next_run(capacity as u64)?;
        if self.waiting.is_empty() {
            self.silence.end(now);
        }
        for number in first..=last {
            self.to_resend.remove(&number);
            let waiting =
                self.waiting.entry(number).or_insert(Waiting { state: State::InFlight, attempts: 0 });
            waiting.state = State::InFlight;
        }
        self.next = self.next.max(last + 1);
        Some((first, last))
    }

    /// Counts numbers that an earlier process may have sent as sent: the platform requests those that it does not have.
    fn assume_sent(&mut self) {
        while self.next <= self.maybe_sent_through && self.waiting.len() < self.policy.window {
            if !self.received.contains(self.next) {
                self.waiting.insert(self.next, Waiting::sent(self.opened_at));
            }
            self.next += 1;
        }
    }

    fn next_run(&self, capacity: u64) -> Option<(u64, u64)> {
        if capacity == 0 {
            return None;
        }
        if let Some(&first) = self.to_resend.first() {
            let run = (first..).zip(&self.to_resend).take_while(|(expected, number)| expected == *number);
            let last = run.take(capacity as usize).last().map_or(first, |(number, _)| number);
            return Some((first, last));
        }
        let capacity = capacity.min(self.policy.window.saturating_sub(self.waiting.len()) as u64);
        let (first, last) = self.received.holes(self.next, self.accepted).first()?;
        (capacity > 0).then_some((first, last.min(first + capacity - 1)))
    }

    /// The broker has acknowledged the number, or refuses it: from now on only a receipt or a silence can cause a resend.
    pub fn sent(&mut self, number: u64, now: Instant) {
        if let Some(waiting) = self.in_flight(number) {
            waiting.state = State::Sent { at: now };
            waiting.attempts = waiting.attempts.saturating_add(1);
        }
    }

    /// The broker has not acknowledged the number, or had no subscriber for it, or it was taken and not sent.
    pub fn failed(&mut self, number: u64) {
        if let Some(waiting) = self.in_flight(number) {
            waiting.state = State::Resend;
            self.to_resend.insert(number);
        }
    }

    fn in_flight(&mut self, number: u64) -> Option<&mut Waiting> {
        self.waiting.get_mut(&number).filter(|waiting| waiting.state == State::InFlight)
    }

    /// Applies a receipt of this epoch. Returns the highest number in it if that was never sent: then the receipt is invalid, or
    /// the outbox is an old copy. Such numbers do not count as received.
    pub fn apply_receipt(&mut self, receipt: &Receipt, now: Instant) -> Option<u64> {
        let may_be_stored = self.opened_with.max(self.next - 1);
        let highest = receipt.stored.last().map_or(receipt.stored_through, |(_, last)| *last);
        let seen = highest.max(receipt.seen.unwrap_or(0));
        if !std::mem::replace(&mut self.has_receipt, true) {
            // An earlier process had at most a window of numbers sent and not received.
            let window = self.policy.window as u64;
            self.maybe_sent_through = self.maybe_sent_through.min(seen.saturating_add(window));
        }
        if let Some(number) = self.received_probe.take() {
            self.remove(number);
        }
        let before = (self.received.count(), self.waiting.len(), self.seen);
        for (first, last) in receipt.stored.iter().copied().chain([(1, receipt.stored_through)]) {
            self.confirm(first, last.min(may_be_stored));
        }
        self.seen = self.seen.max(seen.min(may_be_stored));
        self.allowance.earn((before.1 - self.waiting.len()) as u64);
        if before != (self.received.count(), self.waiting.len(), self.seen) {
            self.silence.end(now);
        }
        for (first, last) in &receipt.missing {
            self.request(*first, (*last).min(self.next - 1), now);
        }
        self.scan_at = Some(now);
        (seen > may_be_stored).then_some(seen)
    }

    fn confirm(&mut self, first: u64, last: u64) {
        self.received.insert(first, last);
        while let Some((&number, _)) = self.waiting.range(first..=last.max(first)).next()
            && number <= last
        {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) {
        self.waiting.remove(&number);
        self.to_resend.remove(&number);
        self.requested.remove(&number);
    }

    /// The platform misses these numbers, which are all below `next`.
    fn request(&mut self, first: u64, last: u64, now: Instant) {
        let mut number = first;
        while number <= last {
            match self.waiting.get(&number) {
                Some(Waiting { state: State::Sent { .. }, .. }) => {
                    self.requested.insert(number);
                }
                Some(_) => {}
                // It counts as received: the platform has lost it since, or this receipt is older than the one that
                // confirmed it, and the next one confirms it again. Numbers beyond the window will be requested again.
                None if self.waiting.len() < self.policy.window => {
                    if self.waiting.is_empty() {
                        self.silence.end(now);
                    }
                    self.waiting.insert(number, Waiting::sent(now));
                    self.requested.insert(number);
                }
                None => return,
            }
            number += 1;
        }
    }

    /// When to call [`ResendScheduler::take`] again even if no event has arrived.
    pub fn wake_at(&self) -> Option<Instant> {
        let timeout_at = self.silence.timeout_at();
        let wake_at = self.scan_at.map_or(timeout_at, |scan_at| scan_at.min(timeout_at));
        (!self.waiting.is_empty()).then_some(wake_at)
    }

    /// There is a new connection. The broker may have lost all its messages: even if it still knows our session, it may have
    /// lost messages that arrived after it last saved its state.
    pub fn connected(&mut self, now: Instant) {
        for waiting in self.waiting.values_mut() {
            waiting.attempts = waiting.attempts.min(1);
        }
        self.allowance.refill();
        self.silence.connected(now);
        self.scan_at = Some(now);
    }

    /// Finds the numbers that are to be sent again.
    fn scan(&mut self, now: Instant) {
        if self.silence.timeout_at() <= now && !self.waiting.is_empty() {
            self.probe(now);
        }
        if self.scan_at.is_none_or(|scan_at| now < scan_at) {
            return;
        }
        self.scan_at = None;
        let mut due = Vec::new();
        for number in &self.requested {
            let Some(Waiting { state: State::Sent { at }, attempts }) = self.waiting.get(number) else {
                continue;
            };
            let at = *at + resend_delay(&self.policy, *attempts);
            if at > now {
                self.scan_at = Some(self.scan_at.map_or(at, |scan_at| scan_at.min(at)));
            } else if self.allowance.spend() {
                due.push(*number);
            } else {
                // Each event that increases the allowance also triggers a new scan.
                break;
            }
        }
        due.into_iter().for_each(|number| self.schedule_resend(number));
    }

    /// Requests the platform's progress after a silence, by sending the highest number again, received or not. It must
    /// not be a lower number that is missing: its arrival would look to the platform (`Gaps`) as if missing numbers
    /// arrive by themselves, so it would not request the others.
    fn probe(&mut self, now: Instant) {
        let silent_since = self.silence.since();
        self.silence.probed(now);
        self.allowance.refill_after_silence();
        self.scan_at = Some(now);
        let highest = self.next - 1;
        match self.waiting.get(&highest).map(|waiting| &waiting.state) {
            // If it was sent in the meantime, it is a probe already.
            Some(State::Sent { at }) if *at <= silent_since => self.schedule_resend(highest),
            Some(_) => {}
            // It is received, but a lower number is missing, so the outbox still has it.
            None => {
                self.waiting.insert(highest, Waiting::sent(now));
                self.received_probe = Some(highest);
                self.schedule_resend(highest);
            }
        }
    }

    fn schedule_resend(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.state = State::Resend;
            self.to_resend.insert(number);
        }
        self.requested.remove(&number);
    }
}

/// The time from a number's last attempt to the next, if it is requested. It grows, because a number that was lost once
/// is rarely lost again soon: more often it waits in a queue.
fn resend_delay(policy: &ResendPolicy, attempts: u32) -> Duration {
    match attempts {
        0 | 1 => RESEND_REQUESTED_AFTER.min(policy.resend_after),
        2 => policy.resend_after,
        _ => policy.resend_after * 2,
    }
}
