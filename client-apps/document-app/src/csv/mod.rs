//! CSV: one record per row, with its fields named by the header.

mod columns;
mod rows;

use std::io::BufRead;

use mysimbdp_sdk::batch::{BatchAppSettings, Sink};
use mysimbdp_sdk::record::{Fields, RECORD_BYTES_MAX};
use mysimbdp_sdk::{Encoding, Failure, UnitHeader};

use crate::arguments::Arguments;
use columns::Columns;
use rows::{COLUMNS_MAX, Row, Rows};

/// What describes a unit and how to read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnitContext<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) header: &'a UnitHeader,
    pub(crate) settings: &'a BatchAppSettings,
}

/// Stores the rows of `input`; the first row is the header.
pub(crate) fn convert(
    context: &UnitContext<'_>,
    encoding: Encoding,
    input: &mut impl BufRead,
    sink: &mut Sink<'_>,
) -> Result<(), Failure> {
    let mut rows = Rows::new(input);
    let columns = match rows.next()? {
        Some(Row::Fields(header)) => Columns::of_header(context, encoding, header)?,
        Some(Row::TooLarge | Row::TooMany) => {
            let limits = format!("{COLUMNS_MAX} columns and {RECORD_BYTES_MAX} bytes");
            return Err(Failure::Data(format!("CSV header is too large: the limits are {limits}")));
        }
        None => return Err(Failure::Data("CSV has no header".to_owned())),
    };
    if context.header.batch_index == 0 {
        columns.log_missing(context.arguments);
    }
    rows.limit_fields(columns.len());
    let mut fields = Fields::new();
    while let Some(row) = rows.next()? {
        let written = match row {
            Row::Fields(row) => columns.write(encoding, row, &mut fields),
            Row::TooMany => {
                Err(format!("row has more than the {} fields of the header", columns.len()).into())
            }
            Row::TooLarge => Err(format!("row is longer than {RECORD_BYTES_MAX} bytes").into()),
        };
        match written {
            Ok(()) => sink.record(&fields)?,
            Err(reason) => sink.reject(reason)?,
        }
    }
    Ok(())
}
