//! Turns a file into a [`Config`], or into the list of everything that is wrong with it.
//!
//! 1. syntax: parsing stops at the first fault, as nothing after it can be trusted;
//! 2. [`structure`]: keys, types and ranges are checked against the schema;
//! 3. [`semantics`]: of all parts that satisfy the schema, whatever is wrong with the others.

use std::path::Path as FilePath;

use mysimbdp_platform::files::{self, FileError};

use super::location::{ConfigText, Path, SourceLocation};
use super::problems::Problems;
use super::{Config, Fault, Faults, schema, semantics, structure};

pub(super) fn load(file: &FilePath, variable: impl Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let text = files::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    parse(file, &text, variable)
}

pub(super) fn unreadable(file: &FilePath, error: &FileError) -> Faults {
    let fault = Fault::new(SourceLocation::START, &Path::default(), mysimbdp_model::error_chain(error));
    Faults::new(file, vec![fault])
}

/// Validates `text`, which has been read from `file`.
pub(super) fn parse(
    file: &FilePath,
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Faults> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => FilePath::new("."),
    };
    check(text, semantics::DataRoot::Beside(folder), variable).map_err(|faults| Faults::new(file, faults))
}

/// Validates the text that the processes with this data root run on; `None` if it has faults.
pub(super) fn parse_in_use(
    text: &str,
    data_root: &FilePath,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<Config> {
    check(text, semantics::DataRoot::Known(data_root), variable).ok()
}

fn check(
    text: &str,
    data_root: semantics::DataRoot<'_>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Fault>> {
    let source = ConfigText::parse(text).map_err(|fault| vec![fault])?;
    let value = serde_json::from_str(text).map_err(|error| {
        // The error's own text repeats the location, which is already in front of the message.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        let location = SourceLocation { line: error.line().max(1), column: error.column().max(1) };
        vec![Fault::new(location, &Path::default(), format!("is not valid JSON: {message}"))]
    })?;
    let mut problems = Problems::new(&source);
    let readable = structure::check(&mut problems, &schema::schema(), &value);
    match readable.map(|readable| semantics::compile(&mut problems, readable, data_root, variable)) {
        Some(config) => problems.into_result(config),
        // Nothing of it could be read, and the cause has been reported; if it ever was not, this is still an error.
        None => problems.into_result(()).and_then(|()| {
            Err(vec![Fault::new(
                SourceLocation::START,
                &Path::default(),
                "is not an object: expected a JSON object",
            )])
        }),
    }
}
