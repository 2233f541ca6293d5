//! The columns of a CSV file, and rows under them.

use std::collections::HashSet;

use mysimbdp_sdk::Failure;
use mysimbdp_sdk::record::{Fields, check_name};

use super::{rows, value};
use crate::arguments::{Arguments, Empty, Kind};
use crate::text::Encoding;

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
    /// Without one, each value decides for itself.
    kind: Option<Kind>,
}

impl Columns {
    /// # Errors
    ///
    /// [`Failure::Data`] where a name is empty, there twice or not allowed, or a column that has a type is missing.
    pub(crate) fn of_header(
        arguments: &Arguments,
        encoding: Encoding,
        header: rows::Fields<'_>,
    ) -> Result<Self, Failure> {
        let types = arguments.types_by_column();
        let mut columns = Vec::with_capacity(header.len());
        let mut seen = HashSet::new();
        for (position, field) in header.iter().enumerate() {
            let fault = |what: &str| Failure::Data(format!("CSV header: column {} {what}", position + 1));
            let name = encoding.to_text(field).ok_or_else(|| fault("is not UTF-8"))?;
            let name = arguments.renamed(&name);
            if name.is_empty() {
                return Err(fault("has no name; --rename =NAME gives it one"));
            }
            check_name(name)
                .map_err(|reason| fault(&format!("has a {reason}; --rename gives it another")))?;
            if !seen.insert(name.to_owned()) {
                return Err(fault(&format!("has the name {name:?}, which is there before")));
            }
            columns.push(Column { name: name.to_owned(), kind: types.get(name).copied() });
        }
        if let Some(missing) = types.keys().find(|name| !seen.contains(**name)) {
            return Err(Failure::Data(format!(
                "CSV header: column {missing:?}, which has a --type, is missing"
            )));
        }
        Ok(Self { columns, nulls: arguments.nulls.clone(), empty: arguments.empty })
    }

    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// Writes a row into `fields`, which it empties first.
    ///
    /// # Errors
    ///
    /// The reason for the record's reject, which names the column.
    pub(crate) fn write(
        &self,
        encoding: Encoding,
        row: rows::Fields<'_>,
        fields: &mut Fields,
    ) -> Result<(), String> {
        if row.len() != self.columns.len() {
            return Err(format!("row has {} fields, the header has {}", row.len(), self.columns.len()));
        }
        fields.clear();
        for (column, bytes) in self.columns.iter().zip(row.iter()) {
            let name = column.name.as_str();
            let text = encoding.to_text(bytes).ok_or_else(|| format!("column {name:?} is not UTF-8"))?;
            if self.nulls.iter().any(|null| *null == text) {
                fields.null(name);
                continue;
            }
            match (text.is_empty(), self.empty) {
                (true, Empty::Null) => fields.null(name),
                (true, Empty::Omit) => {}
                (true, Empty::String) | (false, _) => match column.kind {
                    None => value::infer(name, &text, fields),
                    Some(kind) => value::convert(kind, name, &text, fields)?,
                },
            }
        }
        Ok(())
    }
}
