//! Decides which points in time can be stored exactly as they are written.
//!
//! A BSON date counts milliseconds, and most programs that read one support only the years of RFC 3339: a date outside the
//! years 0001 to 9999 (UTC) makes whole queries fail in them. Such times are refused here, and so are times that a BSON date
//! cannot hold exactly.

/// Returns the milliseconds from 1970 (UTC) to a time in the format of RFC 3339: `2013-01-01T06:00:00Z`,
/// `2013-01-01 07:00:00.25+01:00`.
///
/// # Errors
///
/// What is wrong, worded to follow the value: it does not have this format, is not a day of the calendar, is outside the years 1
/// to 9999 in UTC, lies between two milliseconds, or is a leap second, which a date cannot distinguish from the second after it.
pub fn millis(text: &str) -> Result<i64, &'static str> {
    let parts = Parts::of(text.as_bytes()).ok_or("is not an RFC 3339 time")?;
    if parts.second == 60 {
        return Err("is a leap second, which a date cannot hold");
    }
    if !parts.is_valid() {
        return Err("is not an RFC 3339 time");
    }
    let millis = parts.millis.ok_or("is not an RFC 3339 time of whole milliseconds")?;
    let seconds = days(parts.year, parts.month, parts.day) * 86_400
        + parts.hour * 3_600
        + parts.minute * 60
        + parts.second
        - parts.offset_seconds;
    if !(FIRST_SECOND..=LAST_SECOND).contains(&seconds) {
        return Err("is not within the years 1 to 9999 in UTC");
    }
    Ok(seconds * 1_000 + millis)
}

/// 0001-01-01T00:00:00Z.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// `None` if the fraction is finer than milliseconds.
    millis: Option<i64>,
    offset_seconds: i64,
}

impl Parts {
    /// Parses by the grammar alone: the numbers may be out of range.
    fn of(text: &[u8]) -> Option<Self> {
        let (date, remainder) = text.split_at_checked(19)?;
        let [.., b'-', _, _, b'-', _, _, separator, _, _, b':', _, _, b':', _, _] = date else { return None };
        if !matches!(separator, b'T' | b't' | b' ') {
            return None;
        }
        let fraction = remainder
            .strip_prefix(b".")
            .map_or(0, |remainder| remainder.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1);
        let (fraction, offset) = remainder.split_at_checked(fraction)?;
        Some(Self {
            year: number(&date[..4])?,
            month: number(&date[5..7])?,
            day: number(&date[8..10])?,
            hour: number(&date[11..13])?,
            minute: number(&date[14..16])?,
            second: number(&date[17..])?,
            millis: millis_of(fraction)?,
            offset_seconds: offset_seconds(offset)?,
        })
    }

    fn is_valid(&self) -> bool {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let last = match self.month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        (1..=12).contains(&self.month)
            && (1..=last).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Returns 250 for `.25`, and `Some(None)` if a digit after the third is not 0.
fn millis_of(fraction: &[u8]) -> Option<Option<i64>> {
    let Some(digits) = fraction.strip_prefix(b".") else { return Some(Some(0)) };
    if digits.is_empty() {
        return None;
    }
    let digit = |position| digits.get(position).map_or(0, |byte| i64::from(byte - b'0'));
    let is_whole = digits.iter().skip(3).all(|&byte| byte == b'0');
    Some(is_whole.then(|| digit(0) * 100 + digit(1) * 10 + digit(2)))
}

fn offset_seconds(offset: &[u8]) -> Option<i64> {
    let &[sign, h1, h2, b':', m1, m2] = offset else {
        return matches!(offset, b"Z" | b"z").then_some(0);
    };
    let (hours, minutes) = (number(&[h1, h2])?, number(&[m1, m2])?);
    let seconds = (hours < 24 && minutes < 60).then_some(hours * 3_600 + minutes * 60)?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Returns the days from 1970-01-01 to a day of the Gregorian calendar. Years start in March, so that a leap day is the last day
/// of its year, and are grouped in cycles of 400 years, which all have the same number of days.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let cycle = year.div_euclid(400);
    let year_of_cycle = year - cycle * 400;
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    cycle * 146_097 + year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::Date;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_3339_times_become_the_same_date() {
        for (text, value) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2013-01-01T06:00:00Z", 1_357_020_000_000),
            ("2013-01-01T07:00:00.000+01:00", 1_357_020_000_000),
            ("2013-01-01 06:00:00.25z", 1_357_020_000_250),
            ("2013-01-01t05:30:00.2500000-00:30", 1_357_020_000_250),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
            ("9999-12-30T21:59:59Z", 253_402_207_199_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ] {
            assert_eq!(millis(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn times_that_no_date_or_no_reader_can_hold_are_refused_with_the_reason() {
        for (text, reason) in [
            ("0000-01-01T00:00:00Z", "years 1 to 9999"),
            ("0000-12-31T23:59:59Z", "years 1 to 9999"),
            ("0001-01-01T00:00:00+01:00", "years 1 to 9999"),
            ("9999-12-31T23:59:59-01:00", "years 1 to 9999"),
            ("-000001-01-01T00:00:00Z", "not an RFC 3339 time"),
            ("10000-01-01T00:00:00Z", "not an RFC 3339 time"),
            ("2016-12-31T23:59:60Z", "leap second"),
            ("2017-01-01T00:59:60.5+01:00", "leap second"),
            ("2016-12-31T23:59:61Z", "not an RFC 3339 time"),
            ("2013-01-01T06:00:00.0001Z", "whole milliseconds"),
            ("2013-02-30T00:00:00Z", "not an RFC 3339 time"),
            ("1900-02-29T00:00:00Z", "not an RFC 3339 time"),
            ("2013-13-01T00:00:00Z", "not an RFC 3339 time"),
            ("2013-00-01T00:00:00Z", "not an RFC 3339 time"),
            ("2013-01-00T00:00:00Z", "not an RFC 3339 time"),
            ("2013-01-01T24:00:00Z", "not an RFC 3339 time"),
            ("2013-01-01T06:60:00Z", "not an RFC 3339 time"),
            ("2013-01-01T06:00:00", "not an RFC 3339 time"),
            ("2013-01-01T06:00:00.Z", "not an RFC 3339 time"),
            ("2013-01-01T06:00:00+24:00", "not an RFC 3339 time"),
            ("2013-01-01T06:00:00+1:00", "not an RFC 3339 time"),
            ("2013-01-01T06:00:00Z ", "not an RFC 3339 time"),
            ("2013-01-01T06:00:00+01:00[Europe/Berlin]", "not an RFC 3339 time"),
            ("2013-01-01T06:00Z", "not an RFC 3339 time"),
            ("20130101T060000Z", "not an RFC 3339 time"),
            ("2013-01-01", "not an RFC 3339 time"),
            ("٢013-01-01T06:00:0Z", "not an RFC 3339 time"),
            ("", "not an RFC 3339 time"),
        ] {
            assert!(millis(text).is_err_and(|found| found.contains(reason)), "{text:?}: {:?}", millis(text));
        }
    }

    #[test]
    fn each_day_of_the_calendar_follows_the_one_before_it() {
        let (mut day, mut number) = (Date::constant(1, 1, 1), days(1, 1, 1));
        loop {
            let next = (i64::from(day.year()), i64::from(day.month()), i64::from(day.day()));
            assert_eq!(days(next.0, next.1, next.2), number, "{day}");
            let Ok(tomorrow) = day.tomorrow() else { break };
            (day, number) = (tomorrow, number + 1);
        }
        assert_eq!(number * 86_400 + 86_399, LAST_SECOND);
    }

    proptest! {
        #[test]
        fn it_agrees_with_another_parser(millis_since in -62_135_596_800_000i64..253_402_200_000_000) {
            let time = Timestamp::from_millisecond(millis_since).expect("within its bounds");
            prop_assert_eq!(millis(&time.to_string()), Ok(millis_since));
        }

        #[test]
        fn no_text_causes_a_panic(text in "[0-9TZ:. +-]{0,30}|.{19}[0-9.Z+-]{0,9}") {
            let _ = millis(&text);
        }
    }
}
