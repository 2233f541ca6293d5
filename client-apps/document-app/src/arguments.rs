//! How values are read: the app's arguments in the client's `command`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

/// `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

/// Stores the records of csv, ndjson and json files as documents.
///
/// What JSON would read as a number, true or false is stored as such; all else is text. So 39.02 and 7 become numbers,
/// while 007, 1e400 and 18446744073709551617 stay the text they are.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "document-app", version)]
pub(crate) struct Arguments {
    /// Type of a CSV column; a value that does not fit it exactly rejects its record. May be repeated.
    #[arg(long = "type", value_name = "COLUMN=string|int|long|double|bool|date")]
    pub(crate) types: Vec<Assignment<Kind>>,
    /// A CSV value that stands for none, such as NA. May be repeated.
    #[arg(long = "null", value_name = "TEXT")]
    pub(crate) nulls: Vec<String>,
    /// What a CSV value without characters becomes.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) empty: Empty,
    /// Another name for a CSV column, as for one whose name holds a dot or is empty. May be repeated.
    #[arg(long = "rename", value_name = "COLUMN=NAME")]
    pub(crate) renames: Vec<Assignment<String>>,
}

/// The type that a column is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    Double,
    /// `true` or `false`.
    Bool,
    /// RFC 3339, to the millisecond, such as `2013-01-01T06:00:00Z`.
    Date,
}

/// What a value without characters becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Empty {
    #[default]
    Null,
    /// Text without characters.
    String,
    /// The document has no such field.
    Omit,
}

/// `column=value`.
#[derive(Clone, Debug)]
pub(crate) struct Assignment<T> {
    pub(crate) column: String,
    pub(crate) value: T,
}

impl Arguments {
    /// The types by column.
    pub(crate) fn types_by_column(&self) -> BTreeMap<&str, Kind> {
        self.types.iter().map(|assignment| (assignment.column.as_str(), assignment.value)).collect()
    }

    /// The name under which the column `name` is stored.
    pub(crate) fn renamed<'a>(&'a self, name: &'a str) -> &'a str {
        let rename = self.renames.iter().find(|rename| rename.column == name);
        rename.map_or(name, |rename| rename.value.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "string" => Self::String,
            "int" => Self::Int,
            "long" => Self::Long,
            "double" => Self::Double,
            "bool" => Self::Bool,
            "date" => Self::Date,
            _ => {
                return Err(format!(
                    "{name:?} is no type, allowed are string, int, long, double, bool and date"
                ));
            }
        })
    }
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for Assignment<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // From the right: neither types nor names of fields need a =, names of columns may have one.
        let (column, value) = text.rsplit_once('=').ok_or("a column and = are missing")?;
        let value = value.parse().map_err(|error: T::Err| error.to_string())?;
        Ok(Self { column: column.to_owned(), value })
    }
}

/// Prints what is wrong with the arguments, or the help that they ask for.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    // Nothing can be done where even this cannot be printed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}
