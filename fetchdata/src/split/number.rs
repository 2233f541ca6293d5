//! Recognizes a single value: a number that round-trips, a truth value, or neither.
//!
//! A file has millions of values and hardly more time than a copy takes. So a short number is recognized from its
//! bytes, eight at a time, and only a decimal of more than fifteen digits is read as a double and written again, and
//! not each time that it occurs.

/// Longer than any number that is recognized here: an integer of 64 bits has 20 characters; a double of 17 digits
/// with a sign, a point and leading zeros has hardly more.
pub(super) const NUMBER_BYTES_MAX: usize = 24;

/// Any decimal with this many digits round-trips through a double.
const DIGITS_SAFE: usize = 15;
/// Any integer up to this round-trips through a double.
const INTEGER_SAFE: u64 = 1 << 53;

/// Kinds of values, as bits.
pub(super) type Kinds = u8;

/// An integer of 32 bits.
pub(super) const INT: Kinds = 1;
/// One that needs 64.
pub(super) const LONG: Kinds = 1 << 1;
/// An integer that does not round-trip through a double.
pub(super) const WIDE: Kinds = 1 << 2;
/// A double such as `5.0`.
pub(super) const WHOLE: Kinds = 1 << 3;
/// A double such as `0.5`.
pub(super) const FRACTION: Kinds = 1 << 4;
pub(super) const BOOL: Kinds = 1 << 5;

/// How many bytes are inspected at a time: fields are short.
pub(super) const WORD: usize = size_of::<u64>();

/// The unsigned number before the first comma of eight bytes, and its length: the same as [`of_digits`] finds in more
/// time.
#[inline]
pub(super) fn before_comma(bytes: [u8; WORD]) -> Option<(Kinds, usize)> {
    let word = u64::from_le_bytes(bytes);
    let byte = |at: usize| (word >> (8 * at)) as u8;
    let others = not_digits(word);
    if others == 0 {
        return None;
    }
    let whole = others.trailing_zeros() as usize / 8;
    if whole == 0 || (byte(0) == b'0' && whole > 1) {
        return None;
    }
    if byte(whole) == b',' {
        return Some((INT, whole));
    }
    let others = others & (others - 1);
    if byte(whole) != b'.' || others == 0 {
        return None;
    }
    let length = others.trailing_zeros() as usize / 8;
    match (byte(length - 1), length - whole) {
        _ if byte(length) != b',' => None,
        (b'.', _) => None,
        (b'0', 2) => Some((WHOLE, length)),
        (b'0', _) => None,
        _ => Some((FRACTION, length)),
    }
}

/// The same for one with a sign.
#[cold]
pub(super) fn negative_before_comma(bytes: [u8; WORD]) -> Option<(Kinds, usize)> {
    let [b'-', digits @ ..] = bytes else { return None };
    let mut word = [0; WORD];
    word[..digits.len()].copy_from_slice(&digits);
    // There is no integer -0.
    let is_zero = |kind| kind == INT && word[0] == b'0';
    before_comma(word).filter(|(kind, _)| !is_zero(*kind)).map(|(kind, length)| (kind, 1 + length))
}

/// The position of the first comma in eight bytes.
#[inline]
pub(super) fn comma(bytes: [u8; WORD]) -> Option<usize> {
    let others = u64::from_le_bytes(bytes) ^ in_each(b',');
    // The lowest bit that is set is the high bit of the first comma; those above it mean nothing.
    let commas = others.wrapping_sub(in_each(1)) & !others & in_each(0x80);
    (commas != 0).then_some(commas.trailing_zeros() as usize / 8)
}

/// The high bits of those bytes that are not digits.
#[inline]
fn not_digits(word: u64) -> u64 {
    let digits = word ^ in_each(b'0');
    (((digits & in_each(0x7f)) + in_each(0x80 - 10)) | digits) & in_each(0x80)
}

const fn in_each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; WORD])
}

/// The kind of a value that begins with a digit or a sign; no bit if it is text.
pub(super) fn of_digits(value: &[u8]) -> Kinds {
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
            if whole + fraction.len() <= DIGITS_SAFE || round_trips(shortest) { kind } else { 0 }
        }
        _ => 0,
    }
}

fn integer(value: &[u8], digits: usize) -> Kinds {
    if digits <= 9 {
        return INT;
    }
    let Some(number) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()) else {
        return 0;
    };
    if i32::try_from(number).is_ok() {
        return INT;
    }
    let round_trips = number.unsigned_abs() <= INTEGER_SAFE || round_trips(value);
    if round_trips { LONG } else { LONG | WIDE }
}

/// Whether the double that `decimal` reads as is written as the same text, in its shortest form.
///
/// Written as `Display` does, which is what apps compare with. Faster libraries choose the other of two decimals that
/// are equally short and equally near.
fn round_trips(decimal: &[u8]) -> bool {
    let text = std::str::from_utf8(decimal).unwrap_or_default();
    text.parse::<f64>().is_ok_and(|double| double.to_string() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::value_cache::ValueCache;
    use super::*;

    /// The same as the rest of this file, written as simply as possible.
    fn expected_kinds(value: &str) -> Kinds {
        let is_plain = value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.'));
        if matches!(value, "true" | "false") {
            return BOOL;
        }
        if !is_plain || value.len() > NUMBER_BYTES_MAX {
            return 0;
        }
        let double = value.parse::<f64>().ok();
        let is_double = double.is_some_and(|double| double.to_string() == value);
        match value.parse::<i64>() {
            Ok(number) if number.to_string() != value => 0,
            Ok(number) if i32::try_from(number).is_ok() => INT,
            Ok(_) if is_double => LONG,
            Ok(_) => LONG | WIDE,
            Err(_) if is_double && value.contains('.') => FRACTION,
            Err(_) if double.is_some_and(|double| format!("{double}.0") == value) => WHOLE,
            Err(_) => 0,
        }
    }

    #[track_caller]
    fn check(value: &str, cache: &mut ValueCache) {
        let found = expected_kinds(value);
        for time in ["first", "second"] {
            assert_eq!(cache.kinds(value.as_bytes()), found, "{value:?}, the {time} time");
        }
        // After the comma comes the next field, or what follows the line.
        for after in ["", ",", "1", "\n2,", "-.", "é,"] {
            let line = format!("{value},{after}\0\0\0\0\0\0\0");
            let word = *line.as_bytes().first_chunk().expect("eight bytes");
            let is_short = value.len() < WORD;
            assert_eq!(comma(word), is_short.then_some(value.len()), "{line:?}");
            let is_number = is_short && !matches!(found, 0 | BOOL);
            let either = before_comma(word).or_else(|| negative_before_comma(word));
            assert_eq!(either, is_number.then_some((found, value.len())), "{line:?}");
        }
    }

    #[test]
    fn a_value_is_a_number_only_if_it_round_trips() {
        let cache = &mut ValueCache::new();
        for text in [
            "0",
            "7",
            "-7",
            "00",
            "-0",
            "-",
            "--1",
            "0.5",
            "-0.5",
            "-0.0",
            "0.0",
            "00.5",
            "5.",
            ".5",
            "-.5",
            "1.10",
            "1.00",
            "1.0.0",
            "1.2.3",
            "1-2",
            "5-",
            "1e5",
            "2147483647",
            "2147483648",
            "-2147483648",
            "-2147483649",
            "999999999",
            "0123456789",
            "123456",
            "1234567",
            "12345678",
            "123456.",
            "12345.6",
            "123456.7",
            "9007199254740992",
            "9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "1152921504606846976",
            "999999999999999",
            "10.357019999999999",
            "-573860143522.1563",
            "-573860143522.1562",
            "0.10000000000000001",
            "9007199254740993.0",
            "1234567890123456.0",
            "123456789012345678.5",
            "0.000000000000000000001",
            "0.0000000000000000000012",
            "0.00000000000000000012",
            "true",
            "false",
            "tru",
            "trues",
            "NA",
            "+1",
            " 1",
            "1 ",
            "٣",
            "ü",
            "\u{b1}1",
            "1\u{b1}",
        ] {
            check(text, cache);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn the_fast_rule_agrees_with_the_simple_one(
            texts in prop::collection::vec("[-+]?[0-9]{0,3}[.,]?[0-9]{0,4}|-?[0-9]{1,20}|-?(0|[1-9][0-9]{0,17})\\.[0-9]{1,20}|[-.0-9eNAtrü ]{1,9}", 1..8),
            double in any::<f64>(), few in -1e6..1e6f64, int in any::<i64>(), bits in 0..63u32,
        ) {
            let cache = &mut ValueCache::new();
            for text in texts.iter().filter(|text| !text.is_empty() && !text.contains(',')) {
                check(text, cache);
            }
            for text in [double.to_string(), few.to_string(), format!("{few:.3}"), format!("{few:?}"), (int >> bits).to_string()] {
                check(&text, cache);
            }
        }
    }
}
