//! The rows of a CSV file, in bounded memory.
//!
//! The parser is that of the `csv` crate, which finds the same ends of rows as the splitter. The reader of that crate,
//! however, keeps every row whole in memory, however large; this one skips rows that are larger than a document.

use std::io::{self, BufRead};

use csv_core::{ReadRecordResult, Reader};
use mysimbdp_sdk::record::RECORD_BYTES_MAX;

/// The most columns of a header. Nobody could read a document of more fields.
pub(crate) const COLUMNS_MAX: usize = 10_000;

/// The rows of an input. Empty lines are not rows.
pub(crate) struct Rows<R> {
    input: R,
    parser: Reader,
    /// The row's fields, one after the other, unquoted.
    content: Vec<u8>,
    /// The end of each field in `content`.
    ends: Vec<usize>,
    has_begun: bool,
}

/// A row, or the reason why it was skipped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Row<'a> {
    Fields(Fields<'a>),
    /// More fields than allowed.
    TooMany,
    /// The row is longer than [`RECORD_BYTES_MAX`].
    TooLarge,
}

/// The fields of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    content: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Fields<'a> {
    pub(crate) fn len(self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(self.ends).map(move |(start, &end)| &self.content[start..end])
    }
}

impl<R: BufRead> Rows<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            parser: Reader::new(),
            content: vec![0; 64 * 1024],
            ends: vec![0; COLUMNS_MAX],
            has_begun: false,
        }
    }

    /// From now on, rows of more than `count` fields are [`Row::TooMany`].
    pub(crate) fn limit_fields(&mut self, count: usize) {
        self.ends.truncate(count);
    }

    /// Returns the next row; `None` after the last one.
    pub(crate) fn next(&mut self) -> io::Result<Option<Row<'_>>> {
        let (mut filled, mut fields) = (0, 0);
        let (mut too_large, mut too_many) = (false, false);
        loop {
            let mut buffer = self.input.fill_buf()?;
            if !std::mem::replace(&mut self.has_begun, true) {
                // The parser does not recognize a byte order mark that it receives byte by byte. The file's own mark has been
                // removed already; a second one is text, as it is for the splitter.
                buffer = &buffer[..buffer.len().min(1)];
            }
            let (result, read, written, ended) =
                self.parser.read_record(buffer, &mut self.content[filled..], &mut self.ends[fields..]);
            self.input.consume(read);
            filled += written;
            fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.content.len() < RECORD_BYTES_MAX => {
                    self.content.resize(self.content.len() * 2, 0);
                }
                // The skipped bytes overwrite the ones that were kept.
                ReadRecordResult::OutputFull => (too_large, filled) = (true, 0),
                ReadRecordResult::OutputEndsFull => (too_many, fields) = (true, 0),
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record if too_large => return Ok(Some(Row::TooLarge)),
                ReadRecordResult::Record if too_many => return Ok(Some(Row::TooMany)),
                ReadRecordResult::Record => {
                    let (content, ends) = (&self.content[..filled], &self.ends[..fields]);
                    return Ok(Some(Row::Fields(Fields { content, ends })));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8], buffer_bytes: usize, fields_max: usize) -> Vec<Vec<String>> {
        let mut rows = Rows::new(io::BufReader::with_capacity(buffer_bytes, text));
        rows.limit_fields(fields_max);
        let mut all = Vec::new();
        while let Some(row) = rows.next().expect("memory can be read") {
            all.push(match row {
                Row::Fields(fields) => {
                    fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect()
                }
                other => vec![format!("{other:?}")],
            });
        }
        all
    }

    #[test]
    fn a_row_with_too_many_fields_does_not_disturb_the_next() {
        let text = b"a,b\n1,2,3,4,5,6,7\n\r\n8,9";
        for buffer_bytes in [1, 4, 100] {
            assert_eq!(all(text, buffer_bytes, 2), [vec!["a", "b"], vec!["TooMany"], vec!["8", "9"]]);
        }
    }

    #[test]
    fn a_row_that_is_too_large_is_skipped_and_the_next_is_read() {
        let mut text = b"a\n\"".to_vec();
        text.resize(RECORD_BYTES_MAX + 100, b'x');
        text.extend_from_slice(b"\"\n1\n");
        assert_eq!(all(&text, 64 * 1024, 2), [["a"], ["TooLarge"], ["1"]]);
    }

    proptest! {
        #[test]
        fn rows_are_the_same_as_those_of_the_csv_crate(text in "[a,\"\r\n ä]{0,60}", buffer_bytes in 1_usize..20) {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
            let expected: Vec<Vec<String>> = reader
                .byte_records()
                .map(|row| row.expect("flexible").iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect())
                .collect();
            prop_assert_eq!(all(text.as_bytes(), buffer_bytes, COLUMNS_MAX), expected);
        }
    }
}
