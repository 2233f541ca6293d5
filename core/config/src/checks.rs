//! Checks that several parts of a config have in common.

use mysimbdp_model::units::Period;
use regex::Regex;

use super::place::Path;
use super::problems::Problems;

/// A regular expression that the whole name must match.
pub(super) fn pattern(problems: &mut Problems<'_>, path: &Path, pattern: &str) -> Regex {
    // First as it is written: in `a)|(b` the parentheses of the anchored form would match up.
    let compiled = Regex::new(pattern).and_then(|_| Regex::new(&format!(r"\A(?:{pattern})\z")));
    compiled.unwrap_or_else(|error| {
        let text = error.to_string();
        // The library draws where it happened, over several lines; the last says what.
        let what = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        problems.value(path, format!("{pattern:?} is no regular expression: {what}"));
        never()
    })
}

/// Matches no text: stands in for what could not be compiled.
fn never() -> Regex {
    Regex::new(r"[^\s\S]").expect("an empty class is a valid expression")
}

pub(super) fn not_zero(problems: &mut Problems<'_>, path: &Path, period: Period) {
    if period.duration().is_zero() {
        problems.value(path, "must be longer than 0");
    }
}

/// What is said of each of `parts` under `key` must be said of no other; reports the second.
pub(super) fn unique<'a>(
    problems: &mut Problems<'_>,
    parts: impl IntoIterator<Item = (&'a Path, &'a str)>,
    key: &str,
) {
    let mut seen: Vec<(&Path, &str)> = Vec::new();
    for (path, name) in parts {
        match seen.iter().find(|(_, earlier)| *earlier == name) {
            Some((first, _)) => {
                problems.value(
                    &path.key(key),
                    format!("{name:?} is the {} of {first} already", key.replace('_', " ")),
                );
            }
            None => seen.push((path, name)),
        }
    }
}
