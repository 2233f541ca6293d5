//! Numbers as MongoDB compares them: by value, to 34 decimal digits, whether they are integers, doubles or Decimal128.
//!
//! A key is a class (NaN, -∞, negative, zero, positive, ∞), then for the finite ones a decimal exponent and 34 digits.

use bson::{Bson, Decimal128};

/// The digits of a Decimal128.
const DIGITS: usize = 34;
const DIGITS_MIN: u128 = 10_u128.pow(DIGITS as u32 - 1);

/// A finite number other than zero: `digits`·10^`exponent`.
#[derive(Clone, Copy)]
struct Finite {
    is_negative: bool,
    digits: u128,
    exponent: i32,
}

enum Number {
    NaN,
    Infinite { is_negative: bool },
    Zero,
    Finite(Finite),
}

/// Appends a number; a value of another type is encoded as NaN.
pub(super) fn append(key: &mut Vec<u8>, value: &Bson) {
    let number = match value {
        Bson::Int32(number) => of_integer(i64::from(*number)),
        Bson::Int64(number) => of_integer(*number),
        Bson::Double(number) => of_double(*number),
        Bson::Decimal128(number) => of_decimal(*number),
        _ => Number::NaN,
    };
    match number {
        Number::NaN => key.push(0),
        Number::Infinite { is_negative: true } => key.push(1),
        Number::Finite(number) if number.is_negative => {
            key.push(2);
            key.extend(number.magnitude().map(|byte| !byte));
        }
        Number::Zero => key.push(3),
        Number::Finite(number) => {
            key.push(4);
            key.extend(number.magnitude());
        }
        Number::Infinite { is_negative: false } => key.push(5),
    }
}

impl Finite {
    /// Returns bytes that compare like the absolute value.
    fn magnitude(self) -> [u8; 18] {
        let Self { mut digits, mut exponent, .. } = self;
        while digits < DIGITS_MIN {
            digits *= 10;
            exponent -= 1;
        }
        let mut bytes = [0; 18];
        // The exponents of a Decimal128 are within ±6,200.
        bytes[..2].copy_from_slice(&((exponent + 0x8000) as u16).to_be_bytes());
        bytes[2..].copy_from_slice(&digits.to_be_bytes());
        bytes
    }
}

fn finite(is_negative: bool, digits: u128, exponent: i32) -> Number {
    if digits == 0 { Number::Zero } else { Number::Finite(Finite { is_negative, digits, exponent }) }
}

fn of_integer(number: i64) -> Number {
    finite(number < 0, u128::from(number.unsigned_abs()), 0)
}

fn of_double(number: f64) -> Number {
    if number.fract() == 0.0 && number.abs() < i64::MAX as f64 {
        return of_integer(number as i64);
    }
    if !number.is_finite() {
        return of_text(&number.to_string());
    }
    // The formatting of the standard library is exact.
    of_text(&format!("{number:.33e}"))
}

fn of_decimal(number: Decimal128) -> Number {
    of_text(&number.to_string())
}

/// Reads what `Display` of a double or of a Decimal128 writes.
fn of_text(text: &str) -> Number {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    if text.starts_with(['i', 'I']) {
        return Number::Infinite { is_negative };
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    match (format!("{whole}{fraction}").parse(), exponent.parse::<i32>()) {
        (Ok(digits), Ok(exponent)) => finite(is_negative, digits, exponent - fraction.len() as i32),
        _ => Number::NaN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: impl Into<Bson>) -> Vec<u8> {
        let mut key = Vec::new();
        append(&mut key, &value.into());
        key
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().expect("a decimal"))
    }

    #[test]
    fn numbers_of_all_types_sort_by_value() {
        let ascending = [
            decimal("NaN"),
            decimal("-Infinity"),
            decimal("-9.999E+6144"),
            f64::MIN.into(),
            i64::MIN.into(),
            decimal("-9223372036854775807.5"),
            (i64::MIN + 1).into(),
            decimal("-1.5"),
            (-1).into(),
            (-f64::MIN_POSITIVE).into(),
            decimal("-1E-6176"),
            0.into(),
            decimal("1E-6176"),
            5e-324.into(),
            decimal("0.1"),
            // The double is slightly more.
            0.1.into(),
            decimal("0.10000000000000001"),
            1.into(),
            decimal("1.000000000000000000000000000000001"),
            ((1_i64 << 53) + 1).into(),
            9_007_199_254_740_994.0.into(),
            decimal("9223372036854775806.9"),
            i64::MAX.into(),
            9_223_372_036_854_775_808.0.into(),
            f64::MAX.into(),
            decimal("1E+6144"),
            f64::INFINITY.into(),
        ];
        for pair in ascending.windows(2) {
            assert!(key(pair[0].clone()) < key(pair[1].clone()), "{pair:?}");
        }
    }

    #[test]
    fn equal_numbers_have_equal_keys_whatever_their_type() {
        for equal in [
            vec![5.into(), 5_i64.into(), 5.0.into(), decimal("5"), decimal("5.000"), decimal("0.5E+1")],
            vec![0.into(), (-0.0).into(), decimal("0E+3"), decimal("-0")],
            vec![(-0.5).into(), decimal("-0.50")],
            vec![1e22.into(), decimal("1E+22")],
            vec![f64::NAN.into(), decimal("NaN")],
            vec![f64::NEG_INFINITY.into(), decimal("-Infinity")],
        ] {
            for pair in equal.windows(2) {
                assert_eq!(key(pair[0].clone()), key(pair[1].clone()), "{pair:?}");
            }
        }
    }
}
