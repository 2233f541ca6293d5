//! Due times, above all on days on which clocks are put forward or back.

use jiff::civil::time;
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    // A zone of POSIX needs no database; these are the current rules of both.
    let rules = match name {
        "Europe/Helsinki" => "EET-2EEST,M3.5.0/3,M10.5.0/4",
        "Australia/Lord_Howe" => "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        other => other,
    };
    TimeZone::posix(rules).expect("rules of a zone")
}

fn days(of: &str, (hour, minute): (i8, i8), every: u32) -> Schedule {
    Schedule { by: time(hour, minute, 0, 0), zone: zone(of), every: Interval::Days(every) }
}

fn within(of: &str, (hour, minute): (i8, i8), minutes: i64) -> Schedule {
    let every = Interval::Within(SignedDuration::from_mins(minutes));
    Schedule { by: time(hour, minute, 0, 0), zone: zone(of), every }
}

fn weekdays(of: &str, weeks: u32, on: &[Weekday]) -> Schedule {
    let every = Interval::Weekdays { weeks, on: on.iter().copied().map(Day::from).collect() };
    Schedule { by: time(6, 0, 0, 0), zone: zone(of), every }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The due times after a time, in local time, as text without the year.
fn due(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let mut time = at(after);
    let mut found = Vec::new();
    for _ in 0..count {
        let due = schedule.next(time).expect("a due time");
        assert_eq!(schedule.last(due), Some(due));
        assert!(
            schedule.last(due - SignedDuration::from_millis(1)).is_some_and(|last| last <= time.max(last))
        );
        found.push(due.to_zoned(schedule.zone.clone()).strftime("%m-%dT%H:%M%:z").to_string());
        time = due;
    }
    found
}

#[test]
fn a_local_time_that_does_not_exist_is_later_and_one_that_exists_twice_is_the_first() {
    // In Helsinki 03:00 to 04:00 does not exist on 2026-03-29, and exists twice on 2026-10-25.
    let helsinki = days("Europe/Helsinki", (3, 30), 1);
    assert_eq!(
        due(&helsinki, "2026-03-27T12:00:00Z", 3),
        ["03-28T03:30+02:00", "03-29T04:30+03:00", "03-30T03:30+03:00"]
    );
    assert_eq!(due(&helsinki, "2026-10-24T12:00:00Z", 2), ["10-25T03:30+03:00", "10-26T03:30+02:00"]);
    assert_eq!(due(&days("Europe/Helsinki", (6, 0), 1), "2026-03-28T12:00:00Z", 1), ["03-29T06:00+03:00"]);
    // On Lord Howe clocks are put by half an hour: 02:00 to 02:30 on 2026-10-04, and 01:30 to 02:00 on 2026-04-05.
    let lord_howe = days("Australia/Lord_Howe", (2, 10), 1);
    assert_eq!(due(&lord_howe, "2026-10-03T00:00:00Z", 2), ["10-04T02:40+11:00", "10-05T02:10+11:00"]);
    let lord_howe = days("Australia/Lord_Howe", (1, 45), 1);
    assert_eq!(due(&lord_howe, "2026-04-04T00:00:00Z", 2), ["04-05T01:45+11:00", "04-06T01:45+10:30"]);
}

#[test]
fn within_a_day_intervals_are_of_elapsed_time_and_begin_anew_each_day() {
    let hourly = within("Europe/Helsinki", (0, 10), 60);
    assert_eq!(
        due(&hourly, "2026-03-29T00:00:00Z", 3),
        ["03-29T02:10+02:00", "03-29T04:10+03:00", "03-29T05:10+03:00"]
    );
    assert_eq!(
        due(&hourly, "2026-10-25T00:00:00Z", 3),
        ["10-25T03:10+03:00", "10-25T03:10+02:00", "10-25T04:10+02:00"]
    );
    // A day of 23.5 hours: its last interval is half an hour.
    let hourly = within("Australia/Lord_Howe", (0, 0), 60);
    assert_eq!(
        due(&hourly, "2026-10-04T11:30:00Z", 3),
        ["10-04T23:30+11:00", "10-05T00:00+11:00", "10-05T01:00+11:00"]
    );
    let quarters = within("UTC0", (6, 5), 15);
    assert_eq!(
        due(&quarters, "2026-01-01T23:50:00Z", 3),
        ["01-02T00:05+00:00", "01-02T00:20+00:00", "01-02T00:35+00:00"]
    );
    assert_eq!(
        due(&within("UTC0", (6, 0), 720), "2026-01-01T00:00:00Z", 2),
        ["01-01T06:00+00:00", "01-01T18:00+00:00"]
    );
    for (every, count) in [(60, 23), (15, 92), (1, 1380)] {
        let schedule = within("Europe/Helsinki", (0, 0), every);
        let (begin, end) = (at("2026-03-28T22:00:00Z"), at("2026-03-29T21:00:00Z"));
        let times = std::iter::successors(schedule.next(begin), |time| schedule.next(*time));
        assert_eq!(times.take_while(|time| *time <= end).count(), count, "every {every} minutes of 23 hours");
    }
}

#[test]
fn days_are_counted_from_a_monday_through_months_and_leap_years() {
    assert_eq!(
        due(&days("UTC0", (23, 59), 1), "2028-02-28T00:00:00Z", 3),
        ["02-28T23:59+00:00", "02-29T23:59+00:00", "03-01T23:59+00:00"]
    );
    // 2026-01-05 is a Monday.
    assert_eq!(
        due(&days("UTC0", (6, 0), 7), "2026-01-01T00:00:00Z", 2),
        ["01-05T06:00+00:00", "01-12T06:00+00:00"]
    );
    let monthly = due(&days("UTC0", (6, 0), 31), "2026-01-01T00:00:00Z", 3);
    let next = |text: &str| at(&format!("2026-{}", text.replace("+00:00", ":00Z")));
    for pair in monthly.windows(2) {
        assert_eq!(next(&pair[1]).duration_since(next(&pair[0])).as_hours(), 31 * 24);
    }
    let workdays =
        [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];
    assert_eq!(
        due(&weekdays("UTC0", 1, &workdays), "2026-01-01T07:00:00Z", 3),
        ["01-02T06:00+00:00", "01-05T06:00+00:00", "01-06T06:00+00:00"]
    );
    assert_eq!(
        due(&weekdays("UTC0", 2, &[Weekday::Sunday]), "2026-01-01T00:00:00Z", 2),
        ["01-11T06:00+00:00", "01-25T06:00+00:00"]
    );
    assert_eq!(
        due(&weekdays("UTC0", 4, &[Weekday::Monday]), "2026-01-01T00:00:00Z", 2),
        ["01-19T06:00+00:00", "02-16T06:00+00:00"]
    );
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let zones =
        prop::sample::select(vec!["UTC0", "Europe/Helsinki", "Australia/Lord_Howe", "<-11>11", "<+14>-14"]);
    let every = prop_oneof![
        (1_u32..=DAYS_MAX).prop_map(Interval::Days),
        prop::sample::select(vec![1_i64, 5, 15, 60, 90, 720])
            .prop_map(|minutes| Interval::Within(SignedDuration::from_mins(minutes))),
        (1_u32..=4, prop::collection::btree_set((0_i8..7).prop_map(Day), 1..=7))
            .prop_map(|(weeks, on)| Interval::Weekdays { weeks, on }),
    ];
    (zones, (0_i8..24, 0_i8..60), every).prop_map(|(of, (hour, minute), every)| Schedule {
        by: time(hour, minute, 0, 0),
        zone: zone(of),
        every,
    })
}

proptest! {
    /// `next` and `last` are the two neighbours in one list of due times.
    #[test]
    fn a_time_is_between_its_neighbours(schedule in any_schedule(), seconds in 1_700_000_000_i64..1_900_000_000) {
        let now = Timestamp::from_second(seconds).expect("in range");
        let (last, next) = (schedule.last(now).expect("last"), schedule.next(now).expect("next"));
        prop_assert!(last <= now && now < next);
        prop_assert_eq!(schedule.next(last), Some(next));
        prop_assert_eq!(schedule.last(next), Some(next));
        prop_assert_eq!(schedule.last(next - SignedDuration::from_millis(1)), Some(last));
    }
}
