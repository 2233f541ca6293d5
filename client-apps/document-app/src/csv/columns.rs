//! The columns of a CSV file, and the conversion of rows.

use std::collections::HashSet;

use mysimbdp_sdk::Rejection;
use mysimbdp_sdk::record::{Fields, check_name, column};
use mysimbdp_sdk::{ColumnType, Encoding, Failure, Ids};

use super::{UnitContext, rows};
use crate::arguments::{Arguments, Empty, Types};

/// What the header and the arguments say about each column.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    nulls: Vec<String>,
    empty: Empty,
}

#[derive(Debug)]
struct Column {
    name: String,
    typing: Typing,
}

/// How the type of a value is determined.
#[derive(Clone, Copy, Debug)]
enum Typing {
    /// By an argument.
    Declared(ColumnType),
    /// By all values of the column in the file.
    Inferred(ColumnType),
    /// By the value alone: the column is a field of the key.
    ByValue,
}

impl Columns {
    /// # Errors
    ///
    /// [`Failure::Data`] if a name is empty, duplicate or not allowed.
    pub(crate) fn of_header(
        context: &UnitContext<'_>,
        encoding: Encoding,
        header: rows::Fields<'_>,
    ) -> Result<Self, Failure> {
        let arguments = context.arguments;
        let types = arguments.types_by_column();
        let mut columns = Vec::with_capacity(header.len());
        let mut seen = HashSet::new();
        for (position, field) in header.iter().enumerate() {
            let problem = |what: &str| Failure::Data(format!("CSV header: column {} {what}", position + 1));
            let name = encoding.to_text(field).ok_or_else(|| problem(&not_text(encoding)))?;
            let name = arguments.renamed(&name);
            if name.is_empty() {
                return Err(problem("has no name; --rename =NAME gives it one"));
            }
            check_name(name).map_err(|reason| {
                problem(&format!("is refused: {reason}; --rename gives it another name"))
            })?;
            if !seen.insert(name.to_owned()) {
                return Err(problem(&format!("has the name {name:?}, which an earlier column has")));
            }
            let typing = match (types.get(name), arguments.types_of_others) {
                (Some(declared), _) => Typing::Declared(*declared),
                (None, Types::Text) => Typing::Inferred(ColumnType::String),
                (None, Types::Inferred) if is_key(context, name) => Typing::ByValue,
                (None, Types::Inferred) => {
                    let found = context.header.columns.get(position);
                    let kind = found.map(|values| values.type_without(&arguments.nulls));
                    Typing::Inferred(kind.unwrap_or_default())
                }
            };
            columns.push(Column { name: name.to_owned(), typing });
        }
        Ok(Self { columns, nulls: arguments.nulls.clone(), empty: arguments.empty })
    }

    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// Logs each declared type whose column this file does not have, so that the client can find a wrong name. A file without
    /// the column is valid all the same.
    pub(crate) fn log_missing(&self, arguments: &Arguments) {
        for name in arguments.types_by_column().keys() {
            if !self.columns.iter().any(|column| column.name == *name) {
                eprintln!("CSV header has no column {name:?}, which has a --type");
            }
        }
    }

    /// Writes a row into `fields`, after clearing them.
    ///
    /// # Errors
    ///
    /// The reason for the record's reject, which names the column.
    pub(crate) fn write(
        &self,
        encoding: Encoding,
        row: rows::Fields<'_>,
        fields: &mut Fields,
    ) -> Result<(), Rejection> {
        if row.len() != self.columns.len() {
            return Err(format!("row has {} fields, the header has {}", row.len(), self.columns.len()).into());
        }
        fields.clear();
        for (column, bytes) in self.columns.iter().zip(row.iter()) {
            let name = column.name.as_str();
            let text =
                encoding.to_text(bytes).ok_or_else(|| format!("column {name:?} {}", not_text(encoding)))?;
            if self.nulls.iter().any(|null| *null == text) {
                fields.null(name);
                continue;
            }
            match (text.is_empty(), self.empty) {
                (true, Empty::Null) => fields.null(name),
                (true, Empty::Omit) => {}
                (true, Empty::String) | (false, _) => match column.typing {
                    Typing::Declared(kind) => column::append(fields, name, &text, kind)?,
                    Typing::Inferred(_) if text.is_empty() => fields.string(name, &text),
                    Typing::Inferred(kind) => column::append(fields, name, &text, kind)?,
                    Typing::ByValue => column::append_untyped(fields, name, &text),
                },
            }
        }
        Ok(())
    }
}

fn is_key(context: &UnitContext<'_>, name: &str) -> bool {
    context.settings.ids == Ids::Key && context.settings.record_key.iter().any(|field| field == name)
}

fn not_text(encoding: Encoding) -> String {
    match encoding {
        Encoding::Utf8 => "is not UTF-8".to_owned(),
        other => format!("is not {}", other.as_str()),
    }
}
