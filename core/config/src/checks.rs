//! Checks that several parts of a config share.

use mysimbdp_model::units::Period;
use regex::Regex;

use super::location::Path;
use super::problems::Problems;

/// Compiles a regular expression that the whole name must match.
pub(super) fn pattern(problems: &mut Problems<'_>, path: &Path, pattern: &str) -> Regex {
    // First as it is written: `a)|(b` is invalid, but its parentheses would match up in the anchored form.
    let compiled = Regex::new(pattern).and_then(|_| Regex::new(&format!(r"\A(?:{pattern})\z")));
    compiled.unwrap_or_else(|error| {
        let text = error.to_string();
        // The library's message points at the position over several lines; only the last one says what is wrong.
        let what = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        problems.value(path, format!("invalid regular expression {pattern:?}: {what}"));
        never()
    })
}

/// Matches no text: a placeholder for an expression that could not be compiled.
fn never() -> Regex {
    Regex::new(r"[^\s\S]").expect("an empty class is a valid expression")
}

pub(super) fn not_zero(problems: &mut Problems<'_>, path: &Path, period: Period) {
    if period.duration().is_zero() {
        problems.value(path, "must be longer than 0");
    }
}

/// Requires that the values of `key` are unique among `parts`; the second of two equal ones is reported.
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
                    format!("{name:?} is already the {} of {first}", key.replace('_', " ")),
                );
            }
            None => seen.push((path, name)),
        }
    }
}
