//! Reference batch app: stores CSV, NDJSON and JSON arrays as documents.
//!
//! 1. [`arguments`]: how values are read, from the command line in the config;
//! 2. [`csv`], [`lines`], [`elements`]: split the unit's bytes into records, each rejected or stored exactly;
//! 3. the SDK's sink numbers, stores and counts the records.
//!
//! No document is built as a tree of values: each record is converted from the input's bytes to BSON in one step.
//! Memory is bounded, whatever the file holds: a record over [`RECORD_BYTES_MAX`] is rejected without being kept in memory.

mod arguments;
mod csv;
mod elements;
mod lines;
mod text;

use std::io::BufRead;
use std::process::ExitCode;

use clap::Parser;
use mysimbdp_sdk::batch::{self, Sink, Unit};
use mysimbdp_sdk::record::{Fields, RECORD_BYTES_MAX, json};
use mysimbdp_sdk::{Counts, Encoding, EncodingError, Failure, Format};

use arguments::Arguments;

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => batch::run(|unit| convert(&arguments, unit)),
        Err(error) => arguments::report(&error),
    }
}

fn convert(arguments: &Arguments, unit: &mut Unit<'_>) -> Result<Counts, Failure> {
    let header = unit.header;
    let encoding: Encoding =
        header.encoding.parse().map_err(|error: EncodingError| Failure::Config(error.to_string()))?;
    let mut input = text::without_mark(encoding, &mut unit.input)?;
    match header.format {
        Format::Csv => {
            let context = csv::UnitContext { arguments, header, settings: unit.settings };
            csv::convert(&context, encoding, &mut input, &mut unit.sink)?;
        }
        Format::Ndjson => convert_lines(encoding, &mut input, &mut unit.sink)?,
        Format::Json => convert_elements(encoding, &mut input, &mut unit.sink)?,
        Format::Binary => {
            let expected = "expected csv, ndjson or json; object-app stores whole files";
            return Err(Failure::Config(format!("file {:?} is binary: {expected}", unit.header.file)));
        }
    }
    unit.sink.finish()
}

fn convert_lines(encoding: Encoding, input: &mut impl BufRead, sink: &mut Sink<'_>) -> Result<(), Failure> {
    let mut lines = lines::Lines::new(input);
    let mut fields = Fields::new();
    while let Some(line) = lines.next()? {
        store_json(encoding, line, &mut fields, sink)?;
    }
    Ok(())
}

fn convert_elements(
    encoding: Encoding,
    input: &mut impl BufRead,
    sink: &mut Sink<'_>,
) -> Result<(), Failure> {
    let mut elements = elements::Elements::new(input);
    let mut fields = Fields::new();
    while let Some(element) = elements.next()? {
        store_json(encoding, element, &mut fields, sink)?;
    }
    Ok(())
}

/// The text of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record<'a> {
    Text(&'a [u8]),
    /// The record is longer than [`RECORD_BYTES_MAX`] and has been skipped.
    TooLarge,
}

fn store_json(
    encoding: Encoding,
    record: Record<'_>,
    fields: &mut Fields,
    sink: &mut Sink<'_>,
) -> Result<(), Failure> {
    let Record::Text(text) = record else {
        return sink.reject(format!("record is longer than {RECORD_BYTES_MAX} bytes"));
    };
    fields.clear();
    let Some(text) = text::to_utf8(encoding, text) else {
        return sink.reject(format!("record is not {}", encoding.as_str()));
    };
    match json::append_object(fields, &text) {
        Ok(()) => sink.record(fields),
        Err(reason) => sink.reject(reason),
    }
}
