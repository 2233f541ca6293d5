//! When files are due.
//!
//! Days are those of a time zone. A local time that does not exist, because clocks were put forward, is as much later as they
//! were put; one that exists twice is the first of both (the rule that RFC 5545 and most libraries call *compatible*).

use std::collections::BTreeSet;

use jiff::civil::{Date, Time, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// A Monday: intervals of several days, and weeks, are counted from it.
const FIRST_DAY: Date = date(1970, 1, 5);

/// The most days from one due time to the next.
pub const DAYS_MAX: u32 = 31;

/// Due times.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The local time at which a day is due.
    pub by: Time,
    pub zone: TimeZone,
    pub every: Interval,
}

/// How far due times are apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Each day whose number, counted from a Monday, is a multiple of this.
    Days(u32),
    /// These days of each week whose number, counted likewise, is a multiple of `weeks`.
    Weekdays { weeks: u32, on: BTreeSet<Day> },
    /// So much elapsed time apart, beginning anew each day at its due time. The last interval of a day on which clocks are put
    /// forward or back may be shorter.
    Within(SignedDuration),
}

/// A day of the week, Monday first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i8);

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        Self(day.to_monday_zero_offset())
    }
}

impl Schedule {
    /// The first due time after `time`. `None` only at the end of the calendar.
    pub fn next(&self, time: Timestamp) -> Option<Timestamp> {
        // Zones have skipped a day, and two days are then due at the same time.
        let mut day = self.day_of(time).checked_sub(2.days()).ok()?;
        // Weeks are up to four, and each has a day that is due.
        for _ in 0..=DAYS_MAX + 14 {
            if let Some(due) = self.next_of_day(day, time) {
                return Some(due);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// The last due time that is not after `time`. `None` only at the beginning of the calendar.
    pub fn last(&self, time: Timestamp) -> Option<Timestamp> {
        let mut day = self.day_of(time).checked_add(2.days()).ok()?;
        for _ in 0..=DAYS_MAX + 14 {
            if let Some(due) = self.last_of_day(day, time) {
                return Some(due);
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    /// The first due time of this day that is after `time`.
    fn next_of_day(&self, day: Date, time: Timestamp) -> Option<Timestamp> {
        let first = self.is_due(day).then(|| self.at(day)).flatten()?;
        if first > time {
            return Some(first);
        }
        let Interval::Within(every) = self.every else { return None };
        let passed = time.duration_since(first).as_nanos() / every.as_nanos();
        self.within(day, first, every, passed + 1)
    }

    /// The last due time of this day that is not after `time`.
    fn last_of_day(&self, day: Date, time: Timestamp) -> Option<Timestamp> {
        let first = self.is_due(day).then(|| self.at(day)).flatten().filter(|first| *first <= time)?;
        let Interval::Within(every) = self.every else { return Some(first) };
        let passed = time.duration_since(first).as_nanos() / every.as_nanos();
        self.within(day, first, every, passed)
    }

    /// The due time this many intervals after the first one of a day, if that is before the next day's first one.
    fn within(&self, day: Date, first: Timestamp, every: SignedDuration, count: i128) -> Option<Timestamp> {
        let due = first.checked_add(every.checked_mul(i32::try_from(count).ok()?)?).ok()?;
        (due < self.at(day.tomorrow().ok()?)?).then_some(due)
    }

    fn day_of(&self, time: Timestamp) -> Date {
        self.zone.to_datetime(time).date()
    }

    fn at(&self, day: Date) -> Option<Timestamp> {
        self.zone.to_ambiguous_timestamp(day.to_datetime(self.by)).compatible().ok()
    }

    fn is_due(&self, day: Date) -> bool {
        // Dates are less than 10,000 years away.
        let days = FIRST_DAY.duration_until(day).as_hours() / 24;
        match &self.every {
            Interval::Days(every) => days.rem_euclid(i64::from(*every)) == 0,
            Interval::Weekdays { weeks, on } => {
                days.div_euclid(7).rem_euclid(i64::from(*weeks)) == 0 && on.contains(&day.weekday().into())
            }
            Interval::Within(_) => true,
        }
    }
}

#[cfg(test)]
mod tests;
