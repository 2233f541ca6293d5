//! Limits how many numbers may be sent again.

/// The cost of sending a number again, in received numbers: one number may be sent again for every two that are
/// received. So the work for each message is bounded, whatever the platform requests.
const COST: u64 = 2;

/// After a silence, this share (one in 16) of a window may be sent again although nothing was received.
const SILENCE_SHARE: u64 = 16;

/// How many numbers may be sent again, as a share of those that are received.
#[derive(Debug)]
pub(super) struct Allowance {
    credit: u64,
    credit_max: u64,
}

impl Allowance {
    /// Creates a full allowance: a whole window may be sent again.
    pub(super) fn new(window: usize) -> Self {
        let credit_max = COST.saturating_mul(window as u64);
        Self { credit: credit_max, credit_max }
    }

    /// The platform has confirmed `received` numbers.
    pub(super) fn earn(&mut self, received: u64) {
        self.credit = self.credit.saturating_add(received).min(self.credit_max);
    }

    /// Returns whether a number may be sent again, and if so, deducts its cost.
    pub(super) fn spend(&mut self) -> bool {
        match self.credit.checked_sub(COST) {
            Some(credit) => {
                self.credit = credit;
                true
            }
            None => false,
        }
    }

    /// The broker may have lost everything.
    pub(super) fn refill(&mut self) {
        self.credit = self.credit_max;
    }

    /// Nothing was received for a while, so a resent number is unlikely to repeat one that is waiting in a queue.
    pub(super) fn refill_after_silence(&mut self) {
        self.credit = self.credit.max(self.credit_max / SILENCE_SHARE).max(COST);
    }
}
