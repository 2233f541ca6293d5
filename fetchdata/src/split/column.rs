//! What the values of a column have in common.
//!
//! A column is numeric only if writing each number gives the text of the file again: there is one way to write an integer, and
//! for a double it is the shortest decimal that reads as the same, without an exponent. So codes that merely look like numbers
//! (`007`, `1E2`, `1.10`, `+49`) make their column text, and no two texts become equal. Whole numbers in a column of doubles may
//! be written `5` or `5.0`, but all of them in the same way.

use mysimbdp_core::column::{ColumnType, ColumnValues};

/// Longer than any number that is told from text here: an integer of 64 bits has 20 characters, a double of 17 digits with a
/// sign, a point and zeros in front hardly more.
pub(super) const NUMBER_BYTES_MAX: usize = 24;

/// Words that may stand for "no value" in one column. Files have one, at times two or three ways to say it.
const WORDS_MAX: usize = 4;
/// `not available` is one of the longest.
const WORD_BYTES_MAX: usize = 16;

/// Kinds of values that a column has been seen to hold, as bits.
type Seen = u8;

/// An integer of 32 bits.
const INT: Seen = 1;
/// One that needs 64.
const LONG: Seen = 1 << 1;
/// An integer that no double gives again.
const WIDE: Seen = 1 << 2;
/// A double such as `5.0`.
const WHOLE: Seen = 1 << 3;
/// A double such as `0.5`.
const FRACTION: Seen = 1 << 4;
const BOOL: Seen = 1 << 5;
const TEXT: Seen = 1 << 6;

/// Looks at the values of one column.
#[derive(Debug, Default)]
pub(super) struct ColumnScan {
    seen: Seen,
    /// What is not a number and may be a word for "no value".
    words: Vec<String>,
}

impl ColumnScan {
    /// A value that was not quoted.
    #[inline]
    pub(super) fn value(&mut self, value: &[u8]) {
        // What is text stays text: such columns cost nothing more.
        if self.seen == TEXT || value.is_empty() {
            return;
        }
        match kinds(value) {
            0 => self.word(value),
            kinds if kinds & !self.seen == 0 => {}
            kinds => self.add(kinds),
        }
    }

    /// Quotes around a value say that it is text: programs that quote nothing else mean that, and for those that quote
    /// everything text is never wrong.
    pub(super) fn quoted(&mut self) {
        self.add(TEXT);
    }

    pub(super) fn values(&self) -> ColumnValues {
        let kind = type_of(self.seen);
        let except = if kind == ColumnType::String { Vec::new() } else { self.words.clone() };
        ColumnValues { kind, except }
    }

    fn add(&mut self, kinds: Seen) {
        self.seen |= kinds;
        if type_of(self.seen) == ColumnType::String {
            (self.seen, self.words) = (TEXT, Vec::new());
        }
    }

    fn word(&mut self, value: &[u8]) {
        if self.words.iter().any(|word| word.as_bytes() == value) {
            return;
        }
        // `01234` or `+49` is a value that is not a number, and nobody's word for none.
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

fn type_of(seen: Seen) -> ColumnType {
    let has = |kinds: Seen| seen & kinds != 0;
    if seen == 0 || has(TEXT) || (has(BOOL) && seen != BOOL) {
        return ColumnType::String;
    }
    match (has(BOOL), has(WHOLE | FRACTION), has(LONG)) {
        (true, ..) => ColumnType::Bool,
        (_, false, true) => ColumnType::Long,
        (_, false, false) => ColumnType::Int,
        // `5` and `5.0` would become one, and so would integers that are rounded.
        (_, true, _) if has(WIDE) || (has(WHOLE) && has(INT | LONG)) => ColumnType::String,
        (_, true, _) => ColumnType::Double,
    }
}

/// What a value is, as bits; none where it is text.
fn kinds(value: &[u8]) -> Seen {
    match value {
        [b'-' | b'0'..=b'9', ..] if value.len() <= NUMBER_BYTES_MAX => number(value),
        b"true" | b"false" => BOOL,
        _ => 0,
    }
}

fn number(value: &[u8]) -> Seen {
    let unsigned = value.strip_prefix(b"-").unwrap_or(value);
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(unsigned);
    if whole == 0 || (whole > 1 && unsigned[0] == b'0') {
        return 0;
    }
    match &unsigned[whole..] {
        // There is no integer -0.
        [] if unsigned == b"0" && unsigned.len() < value.len() => 0,
        [] => integer(value, whole),
        [b'.', fraction @ ..] if !fraction.is_empty() && digits(fraction) == fraction.len() => {
            let (kind, shortest) = match fraction {
                b"0" => (WHOLE, &value[..value.len() - 2]),
                [.., b'0'] => return 0,
                _ => (FRACTION, value),
            };
            if whole + fraction.len() <= DIGITS_SAFE || is_given_again(shortest) { kind } else { 0 }
        }
        _ => 0,
    }
}

/// Any decimal of so many digits comes back from a double.
const DIGITS_SAFE: usize = 15;

fn integer(value: &[u8], digits: usize) -> Seen {
    if digits <= 9 {
        return INT;
    }
    let Some(number) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()) else {
        return 0;
    };
    let wide = if digits <= DIGITS_SAFE || is_given_again(value) { 0 } else { WIDE };
    if i32::try_from(number).is_ok() { INT } else { LONG | wide }
}

/// Whether the double that `decimal` reads as is written so, as short as it can be.
fn is_given_again(decimal: &[u8]) -> bool {
    let text = std::str::from_utf8(decimal).unwrap_or_default();
    text.parse::<f64>().is_ok_and(|double| double.to_string() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> ColumnValues {
        let mut scan = ColumnScan::default();
        values.iter().for_each(|value| scan.value(value.as_bytes()));
        let mut backwards = ColumnScan::default();
        values.iter().rev().for_each(|value| backwards.value(value.as_bytes()));
        assert_eq!(scan.values().kind, backwards.values().kind, "the order of {values:?} matters");
        scan.values()
    }

    /// Where no word stands for "no value".
    fn kind_of(values: &[&str]) -> ColumnType {
        of(values).type_without(&[])
    }

    #[test]
    fn a_column_is_numeric_only_if_each_value_is_given_again() {
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
            // What a number would not give again, each beside one that is.
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
    fn few_words_beside_numbers_are_listed_and_many_make_the_column_text() {
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
    fn quotes_make_a_column_text_wherever_they_come() {
        let mut scan = ColumnScan::default();
        scan.value(b"1");
        scan.quoted();
        scan.value(b"2");
        assert_eq!(scan.values(), ColumnValues::default());
    }

    proptest! {
        #[test]
        fn a_number_alone_is_one_only_if_writing_it_gives_its_text(text in "[-+]?[0-9]{0,22}[.]?[0-9]{0,22}(e[0-9])?") {
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
        fn every_number_that_a_program_prints_is_one(int in any::<i64>(), double in -1e12..1e12f64) {
            prop_assert!(matches!(kind_of(&[&int.to_string()]), ColumnType::Int | ColumnType::Long));
            let text = format!("{double:?}");
            prop_assume!(text.len() <= NUMBER_BYTES_MAX && !text.contains('e'));
            prop_assert_eq!(kind_of(&[&text]), ColumnType::Double, "{}", text);
        }
    }
}
