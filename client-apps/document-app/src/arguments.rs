//! The app's arguments in the client's `command`: how values are read.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use mysimbdp_sdk::ColumnType;

/// `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

/// Stores the records of csv, ndjson and json files as documents.
///
/// A CSV column whose values are all numbers, or all true or false, is stored with that type, if writing the values gives the
/// same text again; every other column is text. So 39.02 and 7 become numbers, while a column with 007, 1.10 or 1E2 is text.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "document-app", version)]
pub(crate) struct Arguments {
    /// Type of a CSV column; a record is rejected if its value does not fit the type exactly. May be repeated.
    #[arg(long = "type", value_name = "COLUMN=string|int|long|double|bool|date")]
    pub(crate) types: Vec<Assignment<ColumnType>>,
    /// Type of a CSV column that has no --type.
    #[arg(long = "types", value_enum, default_value_t, value_name = "inferred|text")]
    pub(crate) types_of_others: Types,
    /// A CSV value that means null, such as NA. May be repeated.
    #[arg(long = "null", value_name = "TEXT")]
    pub(crate) nulls: Vec<String>,
    /// What an empty CSV value becomes.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) empty: Empty,
    /// Another name for a CSV column, for example if its name is empty or contains a dot. May be repeated.
    #[arg(long = "rename", value_name = "COLUMN=NAME")]
    pub(crate) renames: Vec<Assignment<String>>,
}

/// How the type of a column without an argument is determined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Types {
    /// By all values of the column in the whole file.
    #[default]
    Inferred,
    /// All values are text.
    Text,
}

/// What an empty value becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Empty {
    #[default]
    Null,
    /// An empty string.
    String,
    /// The field is left out.
    Omit,
}

/// `column=value`.
#[derive(Clone, Debug)]
pub(crate) struct Assignment<T> {
    pub(crate) column: String,
    pub(crate) value: T,
}

impl Arguments {
    /// Returns the declared types by column.
    pub(crate) fn types_by_column(&self) -> BTreeMap<&str, ColumnType> {
        self.types.iter().map(|assignment| (assignment.column.as_str(), assignment.value)).collect()
    }

    /// Returns the name under which the column `name` is stored.
    pub(crate) fn renamed<'a>(&'a self, name: &'a str) -> &'a str {
        let rename = self.renames.iter().find(|rename| rename.column == name);
        rename.map_or(name, |rename| rename.value.as_str())
    }
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for Assignment<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Split at the last =: types and field names contain none, but column names may.
        let (column, value) = text.rsplit_once('=').ok_or("expected COLUMN=VALUE")?;
        let value = value.parse().map_err(|error: T::Err| error.to_string())?;
        Ok(Self { column: column.to_owned(), value })
    }
}

/// Prints what is wrong with the arguments, or the help that they ask for.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    // Nothing can be done if even this cannot be printed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}
