//! Decides which numbers can be stored exactly as they are written.
//!
//! A number is stored exactly or not at all; it is never changed silently:
//!
//! - an integer must fit 64 bits;
//! - a decimal becomes the nearest double; written with as many digits, the double must give the same digits again. So
//!   `0.1` and `0.10000000000000001` are accepted, `1.00000000000000000001` and `1e400` are not.

/// A number as it can be stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExactNumber {
    /// Written without a point and an exponent.
    Int(i64),
    /// Any other number; always finite.
    Double(f64),
}

/// No double has more significant digits (the smallest one, written out, has this many), so a longer decimal is never exact.
const DIGITS_MAX: usize = 767;

/// Decimals of up to this many significant digits are exact in a double, if the double is a normal one.
const DIGITS_SAFE: usize = 15;

/// Parses `text` by the grammar of JSON: `-5`, `0.25`, `1e-7` are numbers; `007`, `+1`, `.5`, `NaN` are not.
///
/// Returns `None` if it is not a number or cannot be stored exactly; [`is_number`] tells the two apart.
pub fn exact(text: &str) -> Option<ExactNumber> {
    let parts = Parts::of(text.as_bytes())?;
    // `-0` is a double: integers have no negative zero.
    if parts.is_integer && text != "-0" {
        return text.parse().ok().map(ExactNumber::Int);
    }
    let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
    is_exact(text, value, parts.mantissa).then_some(ExactNumber::Double(value))
}

/// Whether `text` is a number by the grammar of JSON.
pub fn is_number(text: &str) -> bool {
    Parts::of(text.as_bytes()).is_some()
}

struct Parts<'a> {
    is_integer: bool,
    /// The part before the exponent, with sign and point.
    mantissa: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = usize::from(text.first() == Some(&b'-'));
        let whole = digits(end);
        if whole == 0 || (whole > 1 && text[end] == b'0') {
            return None;
        }
        end += whole;
        let mut is_integer = true;
        if text.get(end) == Some(&b'.') {
            is_integer = false;
            let fraction = digits(end + 1);
            if fraction == 0 {
                return None;
            }
            end += 1 + fraction;
        }
        let mantissa = &text[..end];
        if matches!(text.get(end), Some(b'e' | b'E')) {
            is_integer = false;
            end += 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end);
            if exponent == 0 {
                return None;
            }
            end += exponent;
        }
        (end == text.len()).then_some(Self { is_integer, mantissa })
    }
}

/// Whether `value`, written with as many significant digits as `text`, gives the same digits again.
fn is_exact(text: &str, value: f64, mantissa: &[u8]) -> bool {
    let is_zero = mantissa.iter().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
    if value == 0.0 || is_zero {
        return is_zero;
    }
    let significant =
        mantissa.iter().filter(|byte| byte.is_ascii_digit()).skip_while(|&&byte| byte == b'0').count();
    if significant <= DIGITS_SAFE && value.is_normal() {
        return true;
    }
    if significant > DIGITS_MAX {
        return false;
    }
    let is_same = |written: String| {
        written.split_once('e').is_some_and(|(digits, exponent)| {
            same_digits(digits.as_bytes(), mantissa) && exponent.parse::<i64>().ok() == decimal_exponent(text)
        })
    };
    // Both spellings are accepted, because programs print either: the value rounded to this many digits (ties to even),
    // and the shortest text that parses to the same double.
    is_same(format!("{value:.*e}", significant - 1)) || is_same(format!("{value:e}"))
}

fn same_digits(left: &[u8], right: &[u8]) -> bool {
    let digits = |text: &[u8]| -> Vec<u8> {
        text.iter().copied().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0').collect()
    };
    digits(left) == digits(right)
}

/// Returns the power of ten of the first significant digit: 0 for `5.1`, 2 for `510`, -1 for `0.51`.
fn decimal_exponent(text: &str) -> Option<i64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let mantissa = mantissa.trim_start_matches('-');
    let first = mantissa.find(|c: char| matches!(c, '1'..='9'))? as i64;
    let point = mantissa.find('.').unwrap_or(mantissa.len()) as i64;
    let position = if first < point { point - first - 1 } else { point - first };
    position.checked_add(exponent.trim_start_matches('+').parse().ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_stored_exactly_or_not_at_all() {
        for (text, number) in [
            ("0", ExactNumber::Int(0)),
            ("-5", ExactNumber::Int(-5)),
            ("9223372036854775807", ExactNumber::Int(i64::MAX)),
            ("-9223372036854775808", ExactNumber::Int(i64::MIN)),
            ("39.02", ExactNumber::Double(39.02)),
            ("10.357019999999999", ExactNumber::Double(10.357019999999999)),
            ("0.10000000000000001", ExactNumber::Double(0.1)),
            ("0.1000000000000000055511151231257827021181583404541015625", ExactNumber::Double(0.1)),
            ("1e5", ExactNumber::Double(1e5)),
            ("1E+22", ExactNumber::Double(1e22)),
            ("5e-324", ExactNumber::Double(5e-324)),
            ("0.000", ExactNumber::Double(0.0)),
            ("0e999999999999", ExactNumber::Double(0.0)),
            ("100000000000000000000.0", ExactNumber::Double(1e20)),
        ] {
            assert_eq!(exact(text), Some(number), "{text}");
        }
        assert!(matches!(exact("-0"), Some(ExactNumber::Double(zero)) if zero.is_sign_negative()));
        for changed in [
            "9223372036854775808",
            "18446744073709551617",
            "1e400",
            "-1e400",
            "1e-400",
            "1.5e-324",
            "9007199254740993.0",
            "1.00000000000000000001",
        ] {
            assert_eq!(exact(changed), None, "{changed}");
            assert!(is_number(changed), "{changed}");
        }
        let endless = format!("0.{}", "3".repeat(5_000));
        assert_eq!(exact(&endless), None);
    }

    #[test]
    fn two_decimals_that_are_equally_near_a_double_are_both_accepted() {
        let whole = 1_120_018_142_713_855.0;
        for (text, value) in [
            ("1120018142713855.2", whole + 0.25),
            ("1120018142713855.3", whole + 0.25),
            ("-1.1200181427138552e15", -whole - 0.25),
            ("-1.1200181427138553e15", -whole - 0.25),
            ("1120018142713855.1", whole + 0.125),
        ] {
            assert_eq!(exact(text), Some(ExactNumber::Double(value)), "{text}");
        }
    }

    #[test]
    fn text_that_is_not_a_json_number_is_refused() {
        for text in [
            "", "-", "007", "+1", ".5", "5.", "1e", "1e+", "NaN", "Infinity", " 1", "1 ", "0x10", "1_000",
            "--1", "1.2.3", "٣",
        ] {
            assert!(!is_number(text), "{text:?}");
            assert_eq!(exact(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_double_that_a_program_prints_is_read_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for text in [format!("{value:e}"), format!("{value:.16e}")] {
                match exact(&text) {
                    Some(ExactNumber::Double(read)) => prop_assert_eq!(read.to_bits(), value.to_bits()),
                    Some(ExactNumber::Int(read)) => prop_assert_eq!(read as f64, value),
                    None => prop_assert!(false, "{} was refused", text),
                }
            }
        }

        #[test]
        fn every_integer_of_64_bits_is_exact(value in any::<i64>()) {
            prop_assert_eq!(exact(&value.to_string()), Some(ExactNumber::Int(value)));
        }

        #[test]
        fn no_text_causes_a_panic(text in "[-+0-9.eE]{0,24}") {
            if let Some(ExactNumber::Double(value)) = exact(&text) {
                prop_assert_eq!(Some(value), text.parse::<f64>().ok());
            }
        }
    }
}
