//! The source that a series of windows belongs to.

use std::cmp::Ordering;
use std::sync::Arc;

use bson::raw::RawBsonRef;
use mysimbdp_config::settings::SourceType;
use serde_json::Value;

/// The value of a view's source field. A value that does not have the view's type counts as none.
#[derive(Clone, Debug)]
pub enum WindowSource {
    None,
    Integer(i64),
    /// Not a whole number, or one that exceeds 64 bits.
    Float(f64),
    Text(Arc<str>),
}

/// The same, as it is in a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RecordSource<'r> {
    None,
    Integer(i64),
    Float(f64),
    Text(&'r str),
}

impl<'r> RecordSource<'r> {
    pub(super) fn of(value: Option<RawBsonRef<'r>>, source_type: SourceType) -> Self {
        match (value, source_type) {
            (Some(RawBsonRef::String(text)), SourceType::Text) => Self::Text(text),
            (Some(RawBsonRef::Int32(number)), SourceType::Number) => Self::Integer(number.into()),
            (Some(RawBsonRef::Int64(number)), SourceType::Number) => Self::Integer(number),
            (Some(RawBsonRef::Double(number)), SourceType::Number) => Self::number(number),
            // A decimal that is not whole equals no double.
            (Some(RawBsonRef::Decimal128(number)), SourceType::Number) => {
                match number.to_string().parse::<f64>() {
                    Ok(number) if number.fract() == 0.0 => Self::number(number),
                    _ => Self::None,
                }
            }
            _ => Self::None,
        }
    }

    fn number(number: f64) -> Self {
        // 2^63, which is the first double beyond the integers.
        const END: f64 = 9_223_372_036_854_775_808.0;
        match number {
            whole if whole.fract() == 0.0 && (-END..END).contains(&whole) => Self::Integer(whole as i64),
            number if number.is_finite() => Self::Float(number),
            _ => Self::None,
        }
    }
}

impl WindowSource {
    /// `null`, a number or a text.
    pub fn to_json(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Integer(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Text(text) => (**text).into(),
        }
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::None),
            Value::Number(number) => {
                number.as_i64().map(Self::Integer).or_else(|| number.as_f64().map(Self::Float))
            }
            Value::String(text) => Some(Self::Text(text.as_str().into())),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 0,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Integer(_) | Self::Float(_) => 1,
            Self::Text(_) => 2,
        }
    }
}

impl Ord for WindowSource {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Integer(one), Self::Integer(other)) => one.cmp(other),
            (Self::Float(one), Self::Float(other)) => one.total_cmp(other),
            // They never are equal, and a double that is not whole is exact beside its neighbours.
            (Self::Integer(one), Self::Float(other)) => (*one as f64).total_cmp(other),
            (Self::Float(one), Self::Integer(other)) => one.total_cmp(&(*other as f64)),
            (one, other) => one.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for WindowSource {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for WindowSource {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for WindowSource {}

#[cfg(test)]
mod tests {
    use bson::{Bson, Decimal128, rawdoc};

    use super::*;

    fn of(value: impl Into<Bson>, source_type: SourceType) -> String {
        let raw = bson::RawDocumentBuf::try_from(&bson::doc! { "s": value.into() }).expect("a document");
        format!("{:?}", RecordSource::of(raw.get("s").expect("valid"), source_type))
    }

    #[test]
    fn equal_numbers_are_one_source_whatever_their_type() {
        let decimal = |text: &str| text.parse::<Decimal128>().expect("a decimal");
        for five in [Bson::from(5_i32), 5_i64.into(), 5.0.into(), decimal("5.0").into()] {
            assert_eq!(of(five, SourceType::Number), "Integer(5)");
        }
        assert_eq!(of(-0.0, SourceType::Number), "Integer(0)");
        assert_eq!(of(2.5, SourceType::Number), "Float(2.5)");
        assert_eq!(of(1e300, SourceType::Number), "Float(1e300)");
        for none in [Bson::from(f64::NAN), decimal("2.5").into(), "5".into(), Bson::Null] {
            assert_eq!(of(none, SourceType::Number), "None");
        }
        assert_eq!(of("a", SourceType::Text), "Text(\"a\")");
        assert_eq!(of(5, SourceType::Text), "None");
        let missing = rawdoc! {};
        assert_eq!(RecordSource::of(missing.get("s").expect("valid"), SourceType::Text), RecordSource::None);
    }

    #[test]
    fn sources_are_in_order_and_read_as_they_were_written() {
        use WindowSource::{Float, Integer, None, Text};
        let ordered = [
            None,
            Float(-1e300),
            Integer(-1),
            Float(-0.5),
            Integer(i64::MAX - 1),
            Integer(i64::MAX),
            Float(1e300),
            Text("".into()),
            Text("a".into()),
            Text("b".into()),
        ];
        assert!(ordered.is_sorted_by(|one, other| one < other));
        for source in ordered {
            assert_eq!(WindowSource::from_json(&source.to_json()), Some(source));
        }
    }
}
