//! Semantics of arrival contracts: their due times exist, and their files can be files of their app.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::{Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use mysimbdp_model::arrival::schedule::{DAYS_MAX, Day, Interval, Schedule};
use mysimbdp_model::units::Period;

use super::checks::unique;
use super::globs::Globs;
use super::location::Path;
use super::problems::Problems;
use super::settings::{self, WeekdayName};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);
const WEEKS_MAX: u32 = 4;

/// A file that is expected again and again, its defaults filled in.
#[derive(Clone, Debug)]
pub struct ArrivalContract {
    /// Unique among the client's contracts.
    pub name: String,
    /// The app whose files these are.
    pub app: String,
    pub files: Globs,
    pub schedule: Schedule,
    pub records_min: Option<u64>,
    pub settings: settings::ArrivalContract,
}

impl ArrivalContract {
    /// Identifies which files are expected when: if this changes, it is another contract, whatever its name is.
    pub fn terms(&self) -> String {
        let settings::ArrivalContract { files, by, zone, every, on, .. } = &self.settings;
        let on = serde_json::to_string(&on.as_ref().map(|on| on.iter().collect::<BTreeSet<_>>()));
        format!("{} {files:?} {by} {zone} {every} {}", self.app, on.unwrap_or_default())
    }
}

/// Compiles the contracts of a client's apps, in their order.
pub(super) fn compile(
    problems: &mut Problems<'_>,
    path: &Path,
    apps: &[settings::App],
) -> Vec<ArrivalContract> {
    let mut contracts = Vec::new();
    let mut paths = Vec::new();
    for (index, app) in apps.iter().enumerate() {
        for (number, contract) in app.expect.iter().enumerate() {
            let path = path.index(index).key("expect").index(number);
            if contract.name.is_none() && app.expect.len() > 1 {
                let message =
                    format!("app {:?} has several contracts: expected a name for each of them", app.name);
                problems.value(&path, message);
                continue;
            }
            contracts.push(self::contract(problems, &path, app, contract));
            paths.push(path);
        }
    }
    unique(problems, paths.iter().zip(contracts.iter().map(|contract| contract.name.as_str())), "name");
    contracts
}

fn contract(
    problems: &mut Problems<'_>,
    path: &Path,
    app: &settings::App,
    contract: &settings::ArrivalContract,
) -> ArrivalContract {
    ArrivalContract {
        name: contract.name.clone().unwrap_or_else(|| app.name.clone()),
        app: app.name.clone(),
        files: Globs::one(problems, &path.key("files"), &contract.files),
        schedule: Schedule {
            by: time(&contract.by),
            zone: zone(problems, &path.key("zone"), &contract.zone),
            every: interval(problems, path, contract),
        },
        records_min: contract.records_min,
        settings: contract.clone(),
    }
}

/// The schema allows only times that exist.
fn time(by: &str) -> Time {
    let parsed = by
        .split_once(':')
        .and_then(|(hour, minute)| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok());
    parsed.unwrap_or(Time::midnight())
}

fn zone(problems: &mut Problems<'_>, path: &Path, name: &str) -> TimeZone {
    // Not those of the machine, so that a config is due at the same times on each.
    let zones = TimeZoneDatabase::bundled();
    zones.get(name).unwrap_or_else(|_| {
        let similar = zones
            .available()
            .map(|known| (strsim::jaro_winkler(&name.to_lowercase(), &known.as_str().to_lowercase()), known))
            .filter(|(similarity, _)| *similarity > 0.85)
            .max_by(|(one, _), (other, _)| one.total_cmp(other));
        let hint =
            similar.map_or_else(String::new, |(_, known)| format!(", did you mean {:?}?", known.as_str()));
        let allowed = "expected an IANA name, such as \"Europe/Helsinki\" or \"UTC\"";
        let separator = if hint.is_empty() { ":" } else { "" };
        problems.value(path, format!("unknown time zone {name:?}{hint}{separator} {allowed}"));
        TimeZone::UTC
    })
}

fn interval(problems: &mut Problems<'_>, path: &Path, contract: &settings::ArrivalContract) -> Interval {
    let every = contract.every.duration();
    let days = u32::try_from(every.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX);
    let is_whole_days = days > 0 && DAY.checked_mul(days) == Some(every);
    let on = contract.on.as_deref();
    if is_whole_days && days <= DAYS_MAX {
        return match on {
            None => Interval::Days(days),
            Some(on) => weekdays(problems, &path.key("on"), contract.every, days, on),
        };
    }
    if on.is_some() {
        refuse_days(problems, &path.key("on"), contract.every);
    }
    let divides = every >= MINUTE && every < DAY && DAY.as_nanos().is_multiple_of(every.as_nanos());
    if divides && let Ok(every) = SignedDuration::try_from(every) {
        return Interval::Within(every);
    }
    let allowed = format!(
        "expected whole days up to {DAYS_MAX}d, or 1m or more that divides a day, such as \"15m\", \"1h\" or \"12h\""
    );
    problems
        .value(&path.key("every"), format!("{} is not an interval of due times: {allowed}", contract.every));
    Interval::Days(1)
}

fn weekdays(
    problems: &mut Problems<'_>,
    path: &Path,
    every: Period,
    days: u32,
    on: &[WeekdayName],
) -> Interval {
    let weeks = match days {
        1 => 1,
        days if days.is_multiple_of(7) && days / 7 <= WEEKS_MAX => days / 7,
        _ => {
            refuse_days(problems, path, every);
            1
        }
    };
    Interval::Weekdays { weeks, on: on.iter().map(|day| Day::from(weekday(*day))).collect() }
}

fn refuse_days(problems: &mut Problems<'_>, path: &Path, every: Period) {
    let message = format!("is not allowed with every {every}: expected every of 1d, 7d, 14d, 21d or 28d");
    problems.value(path, message);
}

fn weekday(name: WeekdayName) -> Weekday {
    match name {
        WeekdayName::Mon => Weekday::Monday,
        WeekdayName::Tue => Weekday::Tuesday,
        WeekdayName::Wed => Weekday::Wednesday,
        WeekdayName::Thu => Weekday::Thursday,
        WeekdayName::Fri => Weekday::Friday,
        WeekdayName::Sat => Weekday::Saturday,
        WeekdayName::Sun => Weekday::Sunday,
    }
}
