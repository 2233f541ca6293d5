//! An arrival contract: which files are expected when.

use mysimbdp_model::units::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file that is expected again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArrivalContract {
    /// Unique among the client's contracts; the label of its metrics. By default the name of the app, if that has only one contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,31}$"),
        extend("patternErrorMessage" = "1 to 32 characters of a-z, 0-9, - and _, the first a letter or a digit")
    )]
    pub name: Option<String>,
    /// A glob of the names of the files, which are files of this app.
    pub files: String,
    /// The local time at which a file must have arrived.
    #[schemars(
        regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"),
        extend("patternErrorMessage" = "a time from \"00:00\" to \"23:59\"")
    )]
    pub by: String,
    /// The time zone of `by`, by its IANA name, such as `Europe/Helsinki`.
    #[serde(default = "ArrivalContract::utc")]
    pub zone: String,
    /// Whole days up to `31d`, counted from Monday, 5 January 1970; or a part of a day, `1m` or more, that divides it: then a file is due
    /// at `by` and each time this much later.
    #[serde(default = "ArrivalContract::day")]
    pub every: Period,
    /// Only on these days. With `every` of `1d`, or of one to four weeks (`7d` to `28d`): then on these days of each such week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub on: Option<Vec<WeekdayName>>,
    /// The least number of records of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub records_min: Option<u64>,
}

impl ArrivalContract {
    fn utc() -> String {
        "UTC".to_owned()
    }

    fn day() -> Period {
        Period::seconds(24 * 60 * 60)
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WeekdayName {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}
