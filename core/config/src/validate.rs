//! From a file to a [`Config`], or to everything that is wrong with it.
//!
//! 1. syntax: the first fault ends it, as nothing behind it can be trusted;
//! 2. [`structure`]: keys, types, ranges, as the schema has them;
//! 3. [`semantics`]: of all that has the right shape, whatever was found elsewhere.

use std::path::Path as FilePath;

use mysimbdp_platform::files::{self, FileError};

use super::place::{Path, Place, Source};
use super::problems::Problems;
use super::{Config, Fault, Faults, schema, semantics, structure};

pub(super) fn load(file: &FilePath, variable: impl Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let text = files::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    parse(file, &text, variable)
}

pub(super) fn unreadable(file: &FilePath, error: &FileError) -> Faults {
    let fault = Fault::new(Place::START, &Path::default(), mysimbdp_model::error_chain(error));
    Faults::new(file, vec![fault])
}

/// What `file` has been read to be.
pub(super) fn parse(
    file: &FilePath,
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Faults> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => FilePath::new("."),
    };
    check(text, folder, variable).map_err(|faults| Faults::new(file, faults))
}

fn check(
    text: &str,
    folder: &FilePath,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Fault>> {
    let source = Source::parse(text).map_err(|fault| vec![fault])?;
    let value = serde_json::from_str(text).map_err(|error| {
        // Its own text repeats the place, which stands in front already.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        let place = Place { line: error.line().max(1), column: error.column().max(1) };
        vec![Fault::new(place, &Path::default(), format!("is no valid JSON: {message}"))]
    })?;
    let mut problems = Problems::new(&source);
    let readable = structure::check(&mut problems, &schema::schema(), &value);
    match readable.map(|readable| semantics::compile(&mut problems, readable, folder, variable)) {
        Some(config) => problems.into_result(config),
        // Unreadable as a whole, and why has been found; still an error if ever it was not.
        None => problems.into_result(()).and_then(|()| {
            Err(vec![Fault::new(Place::START, &Path::default(), "is no object: expected is a JSON object")])
        }),
    }
}
