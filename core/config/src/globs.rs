//! Globs for file names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::location::Path;
use super::problems::Problems;

/// A set of globs. A name matches if one of the globs matches the whole name.
#[derive(Clone, Debug, Default)]
pub struct Globs(GlobSet);

impl Globs {
    /// Always returns a set: a glob that does not compile is reported to `problems`, and the set is then not used.
    pub(super) fn compile(problems: &mut Problems<'_>, path: &Path, texts: &[String]) -> Self {
        let mut set = GlobSetBuilder::new();
        for (index, text) in texts.iter().enumerate() {
            add(&mut set, problems, &path.index(index), text);
        }
        Self(set.build().unwrap_or_else(|error| {
            problems.value(path, format!("cannot be compiled: {}", error.kind()));
            GlobSet::empty()
        }))
    }

    /// Like [`Globs::compile`], for the glob at `path` alone.
    pub(super) fn one(problems: &mut Problems<'_>, path: &Path, text: &str) -> Self {
        let mut set = GlobSetBuilder::new();
        add(&mut set, problems, path, text);
        Self(set.build().unwrap_or_else(|_| GlobSet::empty()))
    }

    /// Returns whether a glob matches. The extension is compared without case, like those of `files.extensions`: the name
    /// also matches if it would with its extension in lower or in upper case.
    pub fn is_match(&self, name: impl AsRef<OsStr>) -> bool {
        let name = name.as_ref();
        let matches = |name: &OsStr| self.0.is_match(name);
        matches(name) || other_cases(name.as_bytes()).iter().any(|name| matches(OsStr::from_bytes(name)))
    }
}

fn add(set: &mut GlobSetBuilder, problems: &mut Problems<'_>, path: &Path, text: &str) {
    // File names contain no separator: a glob with one would silently never match.
    if text.contains('/') || text.is_empty() {
        let expected = "expected a glob without /, such as \"*.csv\"";
        return problems.value(path, format!("{text:?} matches no file name: {expected}"));
    }
    match glob(text) {
        Ok(glob) => _ = set.add(glob),
        Err(error) => problems.value(path, format!("invalid glob {text:?}: {}", error.kind())),
    }
}

/// A name has no separator. That `*` may match one keeps `*.csv` out of a regex, of 0.8 KiB in place of 6.
fn glob(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(false).build()
}

/// The name with its extension in lower and in upper case; nothing if the extension has no letter.
fn other_cases(name: &[u8]) -> Vec<Vec<u8>> {
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return Vec::new() };
    let (stem, extension) = name.split_at(dot);
    if !extension.iter().any(u8::is_ascii_alphabetic) {
        return Vec::new();
    }
    [extension.to_ascii_lowercase(), extension.to_ascii_uppercase()]
        .map(|extension| [stem, &extension].concat())
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(text: &str) -> Globs {
        Globs(GlobSetBuilder::new().add(glob(text).expect("a glob")).build().expect("a set"))
    }

    #[test]
    fn a_glob_matches_the_whole_name_whatever_bytes_it_has() {
        let not_utf8 = OsStr::from_bytes(b"2-\xff.csv");
        for (glob, name) in [
            ("*", ""),
            ("*.csv", ".csv"),
            ("*.csv", "a\n.csv"),
            ("2-*.csv", "2-.csv"),
            ("a?c", "a\nc"),
            ("*.tar.*", "a.tar.gz"),
            ("weather*", "weather"),
            ("[ab]*.{csv,json}", "b1.json"),
            ("a\\*", "a*"),
            ("a.", "a."),
        ] {
            assert!(globs(glob).is_match(name), "{glob} {name:?}");
        }
        assert!(globs("2-*.csv").is_match(not_utf8) && globs("*.csv").is_match(not_utf8));
        for (glob, name) in [
            ("*.csv", "a.csv.gz"),
            ("2-*.csv", "12-a.csv"),
            ("a?c", "ac"),
            ("weather", "weather1"),
            ("a\\*", "ab"),
        ] {
            assert!(!globs(glob).is_match(name), "{glob} {name:?}");
        }
    }

    #[test]
    fn an_extension_matches_in_either_case_and_a_stem_only_in_its_own() {
        for (glob, name) in
            [("*.csv", "a.CSV"), ("*.CSV", "a.csv"), ("a?.csv", "ab.Csv"), ("{*.CSV,*.json}", "a.csv")]
        {
            assert!(globs(glob).is_match(name), "{glob} {name}");
        }
        for (glob, name) in
            [("A*.csv", "a.csv"), ("*.csv", "a.csv.gz"), ("README", "readme"), ("*.c", "a.CC")]
        {
            assert!(!globs(glob).is_match(name), "{glob} {name}");
        }
    }
}
