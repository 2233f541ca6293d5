//! The type of the values of a CSV column: decided once for each file, from all values of the column.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The type of a value in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnType {
    /// Text, unchanged.
    #[default]
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    Double,
    /// `true` or `false`.
    Bool,
    /// RFC 3339, to the millisecond, such as `2013-01-01T06:00:00Z`. Never inferred.
    Date,
}

/// What was found in all values of a column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnValues {
    /// The type of all values, other than empty ones and those in `except`.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// The few words that are not of this type. An app may use the type only if it reads each of them, such as `NA`, as
    /// "no value"; otherwise the column is text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// A column of a file, as its manifest and its history describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(flatten)]
    pub values: ColumnValues,
}

impl ColumnValues {
    /// The most columns that get a type; the columns after them are text. This bounds what an app receives about a file.
    pub const COLUMNS_MAX: usize = 1_000;

    /// The one type of all values, if the words in `nulls` stand for "no value".
    pub fn type_without(&self, nulls: &[String]) -> ColumnType {
        if self.except.iter().all(|word| nulls.contains(word)) { self.kind } else { ColumnType::String }
    }
}

impl Column {
    /// The types that an app receives, by position, because the header line has the names. A column that is not listed is text.
    pub fn values_of(columns: &[Self]) -> Vec<ColumnValues> {
        let is_text = |column: &Self| column.values.kind == ColumnType::String;
        let typed = columns.iter().rposition(|column| !is_text(column)).map_or(0, |last| last + 1);
        columns[..typed].iter().map(|column| column.values.clone()).collect()
    }
}

/// The text is not the name of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid type {0:?}: expected string, int, long, double, bool or date")]
pub struct ColumnTypeError(String);

impl FromStr for ColumnType {
    type Err = ColumnTypeError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "string" => Self::String,
            "int" => Self::Int,
            "long" => Self::Long,
            "double" => Self::Double,
            "bool" => Self::Bool,
            "date" => Self::Date,
            _ => return Err(ColumnTypeError(name.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnType, except: &[&str]) -> Column {
        let values = ColumnValues { kind, except: except.iter().map(ToString::to_string).collect() };
        Column { name: "a".to_owned(), values }
    }

    #[test]
    fn words_that_stand_for_no_value_do_not_make_a_column_text() {
        let temperature = column(ColumnType::Double, &["NA", "-"]).values;
        let nulls = ["-", "NA", "?"].map(str::to_owned);
        assert_eq!(temperature.type_without(&nulls), ColumnType::Double);
        assert_eq!(temperature.type_without(&nulls[1..]), ColumnType::String);
        assert_eq!(column(ColumnType::Int, &[]).values.type_without(&[]), ColumnType::Int);
    }

    #[test]
    fn an_app_receives_no_more_types_than_it_needs() {
        let columns = [
            column(ColumnType::String, &[]),
            column(ColumnType::Int, &["NA"]),
            column(ColumnType::String, &[]),
        ];
        let json = serde_json::to_string(&Column::values_of(&columns)).expect("JSON");
        assert_eq!(json, r#"[{"type":"string"},{"type":"int","except":["NA"]}]"#);
        assert_eq!(Column::values_of(&columns[..1]), []);
        let json = serde_json::to_string(&columns[1]).expect("JSON");
        assert_eq!(json, r#"{"name":"a","type":"int","except":["NA"]}"#);
    }
}
