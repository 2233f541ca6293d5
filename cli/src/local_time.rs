//! Times as people on this machine read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mysimbdp_platform::clock;

/// Returns the time of day.
pub fn of(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// Returns the time of day, and the date if it is not today's. What is not a time stays as it is.
pub fn short(text: &str) -> String {
    let Ok(time) = text.parse::<Timestamp>() else { return text.to_owned() };
    let zone = TimeZone::system();
    let (local, today) = (time.to_zoned(zone.clone()), clock::now().to_zoned(zone).date());
    let format = if local.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    local.strftime(format).to_string()
}
