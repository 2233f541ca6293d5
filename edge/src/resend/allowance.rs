//! How much may be sent again.

/// What a number that is sent again costs, in numbers that are received: of two that the platform takes in, one may be
/// such a one. So whatever it asks for, the work for a message is bounded.
const COST: u64 = 2;

/// After a silence so much of a window may be sent again although nothing was received.
const SILENCE_SHARE: u64 = 16;

/// Numbers that may be sent again, as a share of what is received.
#[derive(Debug)]
pub(super) struct Allowance {
    credit: u64,
    credit_max: u64,
}

impl Allowance {
    /// A full one: a window may be sent again.
    pub(super) fn new(window: usize) -> Self {
        let credit_max = COST.saturating_mul(window as u64);
        Self { credit: credit_max, credit_max }
    }

    /// The platform has confirmed so many.
    pub(super) fn earn(&mut self, received: u64) {
        self.credit = self.credit.saturating_add(received).min(self.credit_max);
    }

    /// Whether one may be sent again.
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

    /// Nothing was received for a while, so this is no copy of what waits to be taken in.
    pub(super) fn refill_after_silence(&mut self) {
        self.credit = self.credit.max(self.credit_max / SILENCE_SHARE).max(COST);
    }
}
