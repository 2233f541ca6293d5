//! Globs for file names.
//!
//! A compiled glob is a regex of about 20 KiB. Most globs consist only of text, `*` and `?`: these are matched without
//! compiling them, so that thousands of clients need little memory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::location::Path;
use super::problems::Problems;

/// A set of globs. A name matches if one of the globs matches the whole name.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    plain: Vec<Box<str>>,
    compiled: Option<GlobSet>,
}

impl Globs {
    /// Always returns a set: a glob that does not compile is reported to `problems`, and the set is then not used.
    pub(super) fn compile(problems: &mut Problems<'_>, path: &Path, texts: &[String]) -> Self {
        let (mut plain, mut uncompiled) = (Vec::new(), GlobSetBuilder::new());
        let mut is_plain = true;
        for (index, text) in texts.iter().enumerate() {
            let path = path.index(index);
            // File names contain no separator: a glob with one would silently never match.
            if text.contains('/') || text.is_empty() {
                problems.value(
                    &path,
                    format!("{text:?} matches no file name: expected a glob without /, such as \"*.csv\""),
                );
            } else if can_be_plain(text) {
                plain.push(text.as_str().into());
            } else {
                match GlobBuilder::new(text).literal_separator(true).build() {
                    Ok(glob) => {
                        uncompiled.add(glob);
                        is_plain = false;
                    }
                    Err(error) => problems.value(&path, format!("invalid glob {text:?}: {}", error.kind())),
                }
            }
        }
        let compiled = (!is_plain).then(|| {
            uncompiled.build().unwrap_or_else(|error| {
                problems.value(path, format!("cannot be compiled: {}", error.kind()));
                GlobSet::empty()
            })
        });
        Self { plain, compiled }
    }

    /// Returns whether a glob matches. The extension is compared without case, like those of `files.extensions`: the name
    /// also matches if it would with its extension in lower or in upper case.
    pub fn is_match(&self, name: impl AsRef<OsStr>) -> bool {
        let name = name.as_ref().as_bytes();
        self.is_match_exactly(name) || other_cases(name).iter().any(|name| self.is_match_exactly(name))
    }

    fn is_match_exactly(&self, name: &[u8]) -> bool {
        self.plain.iter().any(|glob| matches(glob.as_bytes(), name))
            || self.compiled.as_ref().is_some_and(|compiled| compiled.is_match(OsStr::from_bytes(name)))
    }
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

/// Whether `*` and `?` are the only special characters. A dot at the end is special to compiled globs.
fn can_be_plain(glob: &str) -> bool {
    !glob.contains(['[', ']', '{', '}', ',', '!', '\\']) && !glob.contains("**") && !glob.ends_with('.')
}

/// Matches a plain glob. `?` is one byte, as in compiled globs. Backtracking is limited to the last `*`: what earlier ones
/// have matched need not change.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // The positions after the last `*` in the glob, and in the name after what it has matched so far.
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        match glob.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, read));
            }
            Some(byte) if *byte == name[read] || *byte == b'?' && name[read] != b'/' => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((behind, taken)) if name[taken] != b'/' => {
                    star = Some((behind, taken + 1));
                    (at, read) = (behind, taken + 1);
                }
                _ => return false,
            },
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compiled(glob: &str) -> GlobSet {
        let glob = GlobBuilder::new(glob).literal_separator(true).build().expect("a glob");
        GlobSetBuilder::new().add(glob).build().expect("a set")
    }

    proptest! {
        #[test]
        fn a_plain_glob_matches_like_a_compiled_one(glob in "[ab.ü*?-]{1,8}", names in prop::collection::vec("[ab.ü\n/-]{0,10}", 20)) {
            prop_assume!(can_be_plain(&glob));
            let compiled = compiled(&glob);
            for name in names.iter().chain([&glob]) {
                prop_assert_eq!(matches(glob.as_bytes(), name.as_bytes()), compiled.is_match(name), "{:?} {:?}", glob, name);
            }
        }
    }

    #[test]
    fn an_extension_matches_in_either_case_and_a_stem_only_in_its_own() {
        let globs = |glob: &str| match can_be_plain(glob) {
            true => Globs { plain: vec![glob.into()], compiled: None },
            false => Globs { plain: Vec::new(), compiled: Some(compiled(glob)) },
        };
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

    #[test]
    fn only_text_stars_and_question_marks_are_plain() {
        for glob in ["*", "2-*.csv", "weather.csv", "a?c", "*.tar.*"] {
            assert!(can_be_plain(glob), "{glob}");
        }
        for glob in ["**", "a**b", "[ab]*", "*.{csv,json}", "a\\*", "a."] {
            assert!(!can_be_plain(glob), "{glob}");
        }
    }
}
