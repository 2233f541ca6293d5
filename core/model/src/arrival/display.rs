//! Decides which due time is shown for a contract.

use jiff::Timestamp;

use super::ArrivalOutcome;
use super::judge::half_way;
use super::schedule::Schedule;

/// The due times around `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueTimes {
    /// The last one; `None` if it was before the contract was first seen.
    pub last: Option<Timestamp>,
    pub next: Timestamp,
    /// Half of the way between them.
    half: Timestamp,
}

impl DueTimes {
    /// `since` is when the contract was first seen; `None` if it was not. `None` only at the end of the calendar.
    pub fn around(schedule: &Schedule, since: Option<Timestamp>, now: Timestamp) -> Option<Self> {
        let (last, next) = (schedule.last(now)?, schedule.next(now)?);
        let half = half_way(last, next);
        Some(Self { last: since.filter(|since| last > *since).map(|_| last), next, half })
    }

    /// The due time that is shown, with what became of it; `outcome` tells what is known of one.
    ///
    /// It is the next one as soon as something has arrived for it. Until then it is the last one, for as long as a file may still be
    /// for it; if none has satisfied it, until something arrives for the next one.
    pub fn shown(
        &self,
        outcome: impl Fn(Timestamp) -> Option<ArrivalOutcome>,
        now: Timestamp,
    ) -> (Timestamp, ArrivalOutcome) {
        let known = |due| outcome(due).unwrap_or(ArrivalOutcome::Expected);
        let next = (self.next, known(self.next));
        match self.last {
            Some(last) if next.1 == ArrivalOutcome::Expected => {
                let outcome = known(last);
                if now < self.half || !outcome.is_satisfied() { (last, outcome) } else { next }
            }
            _ => next,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::civil::time;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::arrival::schedule::Interval;

    #[test]
    fn a_problem_is_shown_until_something_arrives_for_the_next_due_time() {
        use ArrivalOutcome::{Expected, Late, Missing, OnTime, Repeated, TooSmall};
        let schedule = Schedule { by: time(6, 0, 0, 0), zone: TimeZone::UTC, every: Interval::Days(1) };
        let at = |text: &str| format!("2026-03-{text}:00Z").parse::<Timestamp>().expect("a time");
        let (last, next) = (at("01T06:00"), at("02T06:00"));
        let shown = |seen: &str, now: &str, of_last, of_next| {
            let outcomes = BTreeMap::from([(last, of_last), (next, of_next)]);
            let now = at(now);
            let due_times = DueTimes::around(&schedule, Some(at(seen)), now).expect("due times");
            due_times.shown(|due| outcomes.get(&due).copied().flatten(), now)
        };
        for (now, of_last, of_next, expected) in [
            ("01T07:00", Some(OnTime), None, (last, OnTime)),
            ("01T17:59", Some(Repeated), None, (last, Repeated)),
            ("01T18:00", Some(OnTime), None, (next, Expected)),
            ("01T18:00", Some(Late), Some(OnTime), (next, OnTime)),
            ("01T07:00", Some(OnTime), Some(OnTime), (next, OnTime)),
            ("01T07:00", Some(Missing), None, (last, Missing)),
            ("02T05:59", Some(Missing), None, (last, Missing)),
            ("02T05:59", Some(TooSmall), None, (last, TooSmall)),
            ("02T05:59", Some(Missing), Some(TooSmall), (next, TooSmall)),
            // It has not been judged yet.
            ("01T06:00", None, None, (last, Expected)),
        ] {
            assert_eq!(shown("01T05:00", now, of_last, of_next), expected, "{now} {of_last:?} {of_next:?}");
        }
        assert_eq!(shown("01T06:00", "01T07:00", None, None), (next, Expected), "first seen afterwards");
        let unseen = DueTimes::around(&schedule, None, at("01T07:00")).expect("due times");
        assert_eq!(unseen.shown(|_| None, at("01T07:00")), (next, Expected));
    }
}
