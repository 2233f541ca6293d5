//! Locates each value in the text of a config.
//!
//! The values themselves come from `serde_json`; this parser only remembers locations and finds duplicate keys, of which
//! `serde_json` silently keeps one.

use std::fmt;

use jsonc_parser::ast::{ObjectProp, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::Fault;

/// JSON without extensions: whether a file is valid must not depend on the parser that reads it.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
};

/// Keys and indices from the root to a value; displayed as `clients[0].apps[1].command`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    pub(super) fn new(steps: impl IntoIterator<Item = String>) -> Self {
        Self(steps.into_iter().collect())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(key.to_owned());
        Self(steps)
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.key(&index.to_string())
    }

    pub(super) fn steps(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            let is_index = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
            match (is_index, position) {
                (true, _) => write!(f, "[{step}]")?,
                (false, 0) => write!(f, "{}", step.escape_debug())?,
                (false, _) => write!(f, ".{}", step.escape_debug())?,
            }
        }
        Ok(())
    }
}

/// Line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceLocation {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl SourceLocation {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// The text of a config that is well-formed JSON.
pub(super) struct ConfigText<'a> {
    text: &'a str,
    /// Byte offset of each line's first character.
    lines: Vec<usize>,
    root: Value<'a>,
}

impl<'a> ConfigText<'a> {
    /// Parses `text`; stops at the first syntax error, as what follows cannot be trusted.
    pub(super) fn parse(text: &'a str) -> Result<Self, Fault> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        match parse_to_ast(text, &CollectOptions::default(), &STRICT) {
            Ok(parsed) => match parsed.value {
                Some(root) => Ok(Self { text, lines, root }),
                None => Err(Fault::new(
                    SourceLocation::START,
                    &Path::default(),
                    "is empty: expected a JSON object",
                )),
            },
            Err(error) => {
                let location = location(text, &lines, error.range().start);
                let message = error.kind().to_string();
                let mut letters = message.chars();
                let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                let message: String = first.into_iter().chain(letters).collect();
                Err(Fault::new(location, &Path::default(), format!("is not valid JSON: {message}")))
            }
        }
    }

    pub(super) fn text(&self) -> &str {
        self.text
    }

    /// Where the value at `path` begins; if there is none, the nearest value that encloses it.
    pub(super) fn value(&self, path: &Path) -> SourceLocation {
        self.location(self.find(path).0.start())
    }

    /// Where the last key of `path` begins; for an element of an array, where the element begins.
    pub(super) fn key(&self, path: &Path) -> SourceLocation {
        let (value, property) = self.find(path);
        self.location(property.map_or_else(|| value.start(), |property| property.name.start()))
    }

    /// Every duplicate key of an object, at its second occurrence.
    pub(super) fn duplicate_keys(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.duplicates_below(&self.root, &Path::default(), &mut faults);
        faults
    }

    fn duplicates_below(&self, value: &Value<'_>, path: &Path, faults: &mut Vec<Fault>) {
        match value {
            Value::Object(object) => {
                for (position, property) in object.properties.iter().enumerate() {
                    let name = property.name.as_str();
                    let path = path.key(name);
                    let first =
                        object.properties[..position].iter().find(|earlier| earlier.name.as_str() == name);
                    if let Some(first) = first {
                        let line = self.location(first.name.start()).line;
                        let location = self.location(property.name.start());
                        faults.push(Fault::new(
                            location,
                            &path,
                            format!("is given twice, first in line {line}"),
                        ));
                    }
                    self.duplicates_below(&property.value, &path, faults);
                }
            }
            Value::Array(array) => {
                for (index, element) in array.elements.iter().enumerate() {
                    self.duplicates_below(element, &path.index(index), faults);
                }
            }
            _ => {}
        }
    }

    /// The deepest value that exists along `path`, and the property that holds it.
    fn find(&self, path: &Path) -> (&Value<'a>, Option<&ObjectProp<'a>>) {
        let mut value = &self.root;
        let mut property = None;
        for step in path.steps() {
            let next = match value {
                // The last of equal keys, as in `serde_json`.
                Value::Object(object) => {
                    let found =
                        object.properties.iter().rev().find(|property| property.name.as_str() == step);
                    found.map(|found| (&found.value, Some(found)))
                }
                Value::Array(array) => step
                    .parse()
                    .ok()
                    .and_then(|index: usize| array.elements.get(index))
                    .map(|element| (element, None)),
                _ => None,
            };
            match next {
                Some(found) => (value, property) = found,
                None => break,
            }
        }
        (value, property)
    }

    fn location(&self, offset: usize) -> SourceLocation {
        location(self.text, &self.lines, offset)
    }
}

fn location(text: &str, lines: &[usize], offset: usize) -> SourceLocation {
    let line = lines.partition_point(|&start| start <= offset);
    let start = lines[line - 1];
    SourceLocation {
        line,
        column: text[start..].char_indices().take_while(|(at, _)| start + at < offset).count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[&str]) -> Path {
        Path::new(steps.iter().map(|step| (*step).to_owned()))
    }

    #[test]
    fn a_value_and_its_key_are_found_by_line_and_character() {
        let text = "{\n  \"ä\": 1, \"b\": [\n    {\"c\": true}\n  ]\n}";
        let source = ConfigText::parse(text).expect("valid JSON");
        let value = |steps: &[&str]| source.value(&path(steps));
        let key = |steps: &[&str]| source.key(&path(steps));
        assert_eq!(value(&[]), SourceLocation { line: 1, column: 1 });
        assert_eq!(value(&["ä"]), SourceLocation { line: 2, column: 8 });
        assert_eq!(key(&["b"]), SourceLocation { line: 2, column: 11 });
        assert_eq!(value(&["b", "0"]), SourceLocation { line: 3, column: 5 });
        assert_eq!(value(&["b", "0", "c"]), SourceLocation { line: 3, column: 11 });
        assert_eq!(key(&["b", "0", "c"]), SourceLocation { line: 3, column: 6 });
        // A missing value is located at the value that would hold it.
        assert_eq!(value(&["b", "0", "missing", "deeper"]), SourceLocation { line: 3, column: 5 });
        assert_eq!(value(&["b", "7"]), SourceLocation { line: 2, column: 16 });
    }

    #[test]
    fn a_path_is_displayed_as_people_write_it() {
        assert_eq!(path(&["clients", "0", "apps", "1", "command"]).to_string(), "clients[0].apps[1].command");
        assert_eq!(path(&["a\nb"]).to_string(), "a\\nb");
    }

    #[test]
    fn duplicate_keys_are_found_at_every_depth() {
        let source = ConfigText::parse("{\"a\": [{\"b\": 1,\n \"b\": 2}],\n\"a\": 3}").expect("valid JSON");
        let found: Vec<_> =
            source.duplicate_keys().iter().map(|f| (f.line, f.column, f.path.clone())).collect();
        assert_eq!(found, [(2, 2, "a[0].b".to_owned()), (3, 1, "a".to_owned())]);
    }

    #[test]
    fn json_extensions_are_refused_at_their_location() {
        for (text, line, column) in [
            ("{\n // why\n}", 2, 2),
            ("{\"a\": 1,\n}", 1, 8),
            ("{a: 1}", 1, 2),
            ("{'a': 1}", 1, 2),
            ("{\"a\": 1 \"b\": 2}", 1, 8),
            ("{\"a\": 0x10}", 1, 7),
            ("{\"a\": +1}", 1, 7),
            ("", 1, 1),
            ("{} {}", 1, 4),
        ] {
            let fault = ConfigText::parse(text).err().expect(text);
            assert_eq!((fault.line, fault.column), (line, column), "{text:?}: {}", fault.message);
        }
    }
}
