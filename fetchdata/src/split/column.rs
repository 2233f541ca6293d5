//! Finds what the values of a column have in common.
//!
//! A column is numeric only if each number round-trips, which means that writing it gives the text of the file again:
//! there is one way to write an integer, and a double is written as the shortest decimal that reads as the same,
//! without an exponent. So codes that merely look like numbers (`007`, `1E2`, `1.10`, `+49`) make their column text,
//! and no two texts become equal. Whole numbers in a column of doubles may be written `5` or `5.0`, but all of them
//! in the same way.

use mysimbdp_model::column::{ColumnType, ColumnValues};

use super::number::{self, BOOL, FRACTION, INT, Kinds, LONG, WHOLE, WIDE, WORD};
use super::value_cache::ValueCache;

/// Words that may stand for "no value" in one column. Files have one, at times two or three ways to say it.
const WORDS_MAX: usize = 4;
/// `not available` is one of the longest.
const WORD_BYTES_MAX: usize = 16;

/// A value that is none of [`Kinds`], or an incompatible mix of them.
const TEXT: Kinds = 1 << 7;

/// Scans the values of one column.
#[derive(Debug, Default)]
pub(super) struct ColumnScan {
    seen: Kinds,
    /// Values that are not numbers and may be words for "no value".
    words: Vec<String>,
    /// The most recent of them: it usually comes again.
    last: LastWord,
}

/// A word with a comma after it; no bits if they exceed the bytes that are inspected at a time.
#[derive(Debug, Default)]
struct LastWord {
    bytes: u64,
    bits: u64,
}

impl ColumnScan {
    /// An unquoted value.
    #[inline]
    pub(super) fn value(&mut self, value: &[u8], cache: &mut ValueCache) {
        // A text column stays text, so it costs nothing more.
        if self.seen == TEXT || value.is_empty() {
            return;
        }
        match cache.kinds(value) {
            0 => self.word(value),
            kinds => self.add(kinds),
        }
    }

    /// The length of the field before the first comma, if it tells nothing new and is not an unsigned number.
    #[inline(never)]
    fn length_of_other(&self, bytes: [u8; WORD]) -> Option<usize> {
        if bytes[0] == b',' {
            return Some(0);
        }
        let negative = number::negative_before_comma(bytes).filter(|(kind, _)| self.seen & kind != 0);
        negative.map(|(_, length)| length).or_else(|| self.last.before_comma(bytes))
    }

    /// Quotes around a value mean that it is text: programs that quote nothing else mean that, and for those that
    /// quote everything text is never wrong.
    pub(super) fn quoted(&mut self) {
        self.add(TEXT);
    }

    pub(super) fn values(&self) -> ColumnValues {
        let kind = type_of(self.seen);
        let except = if kind == ColumnType::String { Vec::new() } else { self.words.clone() };
        ColumnValues { kind, except }
    }

    fn add(&mut self, kinds: Kinds) {
        if kinds & !self.seen == 0 {
            return;
        }
        self.seen |= kinds;
        if type_of(self.seen) == ColumnType::String {
            (self.seen, self.words) = (TEXT, Vec::new());
        }
    }

    fn word(&mut self, value: &[u8]) {
        if self.words.iter().any(|word| word.as_bytes() == value) {
            self.last = LastWord::of(value);
            return;
        }
        // `01234` or `+49` is a value that is not a number, and not a word for "no value".
        let is_numeral = matches!(value, [b'0'..=b'9', ..] | [b'+' | b'-' | b'.', b'0'..=b'9' | b'.', ..]);
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        match std::str::from_utf8(value) {
            Ok(word)
                if !is_numeral
                    && self.words.len() < WORDS_MAX
                    && word.len() <= WORD_BYTES_MAX
                    && value.iter().all(is_plain) =>
            {
                self.words.push(word.to_owned());
            }
            _ => self.add(TEXT),
        }
    }
}

impl LastWord {
    fn of(word: &[u8]) -> Self {
        let mut bytes = [0; WORD];
        let Some(target) = bytes.get_mut(..=word.len()) else { return Self::default() };
        target[..word.len()].copy_from_slice(word);
        target[word.len()] = b',';
        Self { bits: u64::MAX >> (u64::BITS as usize - 8 * target.len()), bytes: u64::from_le_bytes(bytes) }
    }

    /// The length of the word, if `bytes` begin with it and a comma.
    #[inline]
    fn before_comma(&self, bytes: [u8; WORD]) -> Option<usize> {
        let is_it = (u64::from_le_bytes(bytes) ^ self.bytes) & self.bits == 0 && self.bits != 0;
        is_it.then(|| self.bits.trailing_ones() as usize / 8 - 1)
    }
}

/// Counts the leading fields of `line` that tell nothing new about their columns, as nearly all fields of a file do.
/// Returns their number, and their bytes with the comma after each.
pub(super) fn known(columns: &[ColumnScan], line: &[u8]) -> (usize, usize) {
    let mut rest = line;
    for (fields, column) in columns.iter().enumerate() {
        let bytes = line.len() - rest.len();
        let Some(word) = rest.first_chunk() else { return (fields, bytes) };
        let length = if column.seen == TEXT {
            number::comma(*word)
        } else if let Some((kind, length)) = number::before_comma(*word) {
            (column.seen & kind != 0).then_some(length)
        } else {
            column.length_of_other(*word)
        };
        match length {
            Some(length) => rest = &rest[length + 1..],
            None => return (fields, bytes),
        }
    }
    (columns.len(), line.len() - rest.len())
}

fn type_of(seen: Kinds) -> ColumnType {
    let has = |kinds: Kinds| seen & kinds != 0;
    if seen == 0 || has(TEXT) || (has(BOOL) && seen != BOOL) {
        return ColumnType::String;
    }
    match (has(BOOL), has(WHOLE | FRACTION), has(LONG)) {
        (true, ..) => ColumnType::Bool,
        (_, false, true) => ColumnType::Long,
        (_, false, false) => ColumnType::Int,
        // `5` and `5.0` would become equal, and so would integers that are rounded.
        (_, true, _) if has(WIDE) || (has(WHOLE) && has(INT | LONG)) => ColumnType::String,
        (_, true, _) => ColumnType::Double,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::split::number::NUMBER_BYTES_MAX;

    fn of(values: &[&str]) -> ColumnValues {
        let cache = &mut ValueCache::new();
        let mut scan = ColumnScan::default();
        values.iter().for_each(|value| scan.value(value.as_bytes(), cache));
        let mut backwards = ColumnScan::default();
        values.iter().rev().for_each(|value| backwards.value(value.as_bytes(), cache));
        assert_eq!(scan.values().kind, backwards.values().kind, "the order of {values:?} matters");
        scan.values()
    }

    /// The type if no word stands for "no value".
    fn kind_of(values: &[&str]) -> ColumnType {
        of(values).type_without(&[])
    }

    #[test]
    fn a_column_is_numeric_only_if_each_value_round_trips() {
        use ColumnType::{Bool, Double, Int, Long, String};
        for (values, kind) in [
            (&["1", "", "-7", "2147483647", "-2147483648", "0"][..], Int),
            (&["1", "2147483648"], Long),
            (&["9223372036854775807", "-9223372036854775808", "1"], Long),
            (&["9007199254740993"], Long),
            (&["39.02", "-0.5", "10.357019999999999", "0.30000000000000004"], Double),
            (&["1012", "1012.3", "0", "-1"], Double),
            (&["1012.0", "1012.3", "-0.0"], Double),
            (&["9007199254740992", "0.5"], Double),
            (&["true", "", "false"], Bool),
            (&[], String),
            (&["", ""], String),
            // Texts that do not round-trip, each beside a number that does.
            (&["1", "007"], String),
            (&["1.9", "1.10"], String),
            (&["1", "+1"], String),
            (&["1", "-0"], String),
            (&["12E4", "2E10"], String),
            (&["0E0", "0E8", "1E2"], String),
            (&["1e5"], String),
            (&[".5"], String),
            (&["5."], String),
            (&["1.5", "1.00"], String),
            (&["5", "5.0", "0.5"], String),
            (&["5", "5.0"], String),
            (&["0.10000000000000001"], String),
            (&["9007199254740993.0"], String),
            (&["9223372036854775808"], String),
            (&["18446744073709551617"], String),
            (&["9007199254740993", "0.5"], String),
            (&["1152921504606846976", "0.5"], String),
            (&["1.00000000000000000001"], String),
            (&["0.000000000000000000000000000001"], String),
            (&["1", "true"], String),
            (&["TRUE"], String),
            (&["1,5"], String),
            (&[" 5"], String),
            (&["1_000"], String),
            (&["0x10"], String),
            (&["٣"], String),
            (&["--5"], String),
            (&["-"], String),
            (&["2013-01-01"], String),
        ] {
            assert_eq!(kind_of(values), kind, "{values:?}");
        }
    }

    #[test]
    fn a_few_words_among_numbers_are_listed_and_many_make_the_column_text() {
        let found = of(&["1", "NA", "n/a", "NA", "2"]);
        assert_eq!((found.kind, found.except), (ColumnType::Int, vec!["NA".to_owned(), "n/a".to_owned()]));
        for words in [
            &["1", "a", "b", "c", "d", "e"][..],
            &["1", "seventeen letters"],
            &["1", "ä"],
            &["1", "\\N"],
            &["1.5", "1.10"],
            &["1", "01234"],
            &["1", "+49"],
            &["1", "-.5"],
        ] {
            assert_eq!(of(words), ColumnValues::default(), "{words:?}");
        }
        assert_eq!(of(&["a", "b"]), ColumnValues::default());
    }

    #[test]
    fn quotes_anywhere_make_a_column_text() {
        let cache = &mut ValueCache::new();
        let mut scan = ColumnScan::default();
        scan.value(b"1", cache);
        scan.quoted();
        scan.value(b"2", cache);
        assert_eq!(scan.values(), ColumnValues::default());
    }

    /// Checks that inspecting the skipped fields would change nothing.
    fn check_known(rows: &[Vec<String>], cache: &mut ValueCache) {
        let mut columns: Vec<ColumnScan> = rows[0].iter().map(|_| ColumnScan::default()).collect();
        for row in rows {
            let line = format!("{},", row.join(","));
            let (fields, bytes) = known(&columns, line.as_bytes());
            assert_eq!(bytes, row[..fields].iter().map(|field| field.len() + 1).sum::<usize>(), "{line:?}");
            for (field, (value, column)) in row.iter().zip(&mut columns).enumerate() {
                let before = format!("{:?}", (column.seen, &column.words));
                column.value(value.as_bytes(), cache);
                let after = format!("{:?}", (column.seen, &column.words));
                assert!(
                    field >= fields || before == after,
                    "field {field} of {line:?}: {before}, then {after}"
                );
            }
        }
    }

    #[test]
    fn known_fields_are_skipped() {
        let cache = &mut ValueCache::new();
        let row = ["1", "-2.5", "NA", "text", "7.0", ""];
        let mut columns: Vec<ColumnScan> = row.iter().map(|_| ColumnScan::default()).collect();
        columns[3].quoted();
        for _ in 0..2 {
            row.iter().zip(&mut columns).for_each(|(value, column)| column.value(value.as_bytes(), cache));
        }
        let line = row.join(",") + ",the rest";
        assert_eq!(known(&columns, line.as_bytes()), (6, row.join(",").len() + 1));
    }

    proptest! {
        #[test]
        fn a_value_is_a_number_only_if_writing_it_gives_its_text(text in "[-+]?[0-9]{0,22}[.]?[0-9]{0,22}(e[0-9])?") {
            let values = of(&[&text]);
            let written = match values.kind {
                ColumnType::Int => text.parse::<i32>().map(|value| value.to_string()).ok(),
                ColumnType::Long => text.parse::<i64>().map(|value| value.to_string()).ok(),
                ColumnType::Double if text.ends_with(".0") => text.parse::<f64>().map(|value| format!("{value:.1}")).ok(),
                ColumnType::Double => text.parse::<f64>().map(|value| value.to_string()).ok(),
                _ => Some(text.clone()),
            };
            prop_assert_eq!(written, Some(text));
        }

        #[test]
        fn skipped_fields_change_nothing(
            rows in prop::collection::vec(prop::collection::vec("-?[0-9]{0,3}(\\.[0-9]{1,3})?|NA|-|true|[a-c]{0,9}", 3), 1..12),
        ) {
            check_known(&rows, &mut ValueCache::new());
        }

        #[test]
        fn every_number_that_a_program_prints_is_recognized(int in any::<i64>(), double in -1e12..1e12f64) {
            prop_assert!(matches!(kind_of(&[&int.to_string()]), ColumnType::Int | ColumnType::Long));
            let text = format!("{double:?}");
            prop_assume!(text.len() <= NUMBER_BYTES_MAX && !text.contains('e'));
            prop_assert_eq!(kind_of(&[&text]), ColumnType::Double, "{}", text);
        }
    }
}
