//! The latest record of each source: from the store, and from documents of the speed layer as they are stored.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use bson::raw::RawBsonRef;
use bson::{Bson, RawDocument};
use mysimbdp_config::View;
use mysimbdp_config::settings::{SourceType, TimeType};
use mysimbdp_model::client::ClientId;
use mysimbdp_store::{Coredms, Order};
use serde::{Deserialize, Serialize};

use super::time::RecordTime;
use super::write::Record;
use super::{Layer, RecordFields, RecordForm, Records, RecordsQuery, SourceNames, origin};
use crate::error::QueryError;

/// A value of a view's source field. Numbers are equal if their values are, whatever their types.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceKey {
    Text(String),
    Integer(i64),
    /// The bits of a number that is no integer of 64 bits.
    Float(u64),
}

/// The latest record of a source, and its time.
#[derive(Clone, Debug)]
pub struct LatestRecord {
    time: RecordTime,
    /// A JSON object, as in the answer to a query of records.
    pub json: Vec<u8>,
}

/// How a record that was stored compares with the one that was the latest before.
#[derive(Debug)]
pub enum Stored {
    /// It is the latest one now.
    Later(LatestRecord),
    /// It is not.
    Earlier,
    /// Only the store tells.
    Unknown,
}

impl LatestRecord {
    /// A record of this time, in seconds.
    pub fn at(seconds: i64, json: Vec<u8>) -> Self {
        Self { time: RecordTime::Integer(seconds), json }
    }
}

impl SourceKey {
    /// The key of a value; `None` if the view's sources cannot have it.
    pub fn of(value: &Bson, source_type: SourceType) -> Option<Self> {
        match (source_type, value) {
            (SourceType::Text, Bson::String(text) | Bson::Symbol(text)) => Some(Self::Text(text.clone())),
            (SourceType::Number, Bson::Int32(number)) => Some(Self::Integer((*number).into())),
            (SourceType::Number, Bson::Int64(number)) => Some(Self::Integer(*number)),
            (SourceType::Number, Bson::Double(number)) => Self::of_float(*number),
            (SourceType::Number, Bson::Decimal128(number)) => {
                Self::of_float(number.to_string().parse().ok()?)
            }
            _ => None,
        }
    }

    fn of_float(number: f64) -> Option<Self> {
        // 2^63 is no longer one.
        let is_integer = number.fract() == 0.0 && (-(2_f64.powi(63))..2_f64.powi(63)).contains(&number);
        match number {
            _ if number.is_nan() => None,
            _ if is_integer => Some(Self::Integer(number as i64)),
            _ => Some(Self::Float(number.to_bits())),
        }
    }

    /// The order of the values in the store.
    fn compare(&self, other: &Self) -> Ordering {
        let number = |key: &Self| match key {
            Self::Text(_) => f64::NAN,
            // An integer that is rounded is beyond all other numbers that are not integers.
            Self::Integer(number) => *number as f64,
            Self::Float(bits) => f64::from_bits(*bits),
        };
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Integer(one), Self::Integer(other)) => one.cmp(other),
            (one, other) => number(one).total_cmp(&number(other)),
        }
    }

    /// The value that a query of records compares with.
    pub fn value(&self) -> Bson {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Integer(number) => (*number).into(),
            Self::Float(bits) => f64::from_bits(*bits).into(),
        }
    }
}

/// Returns the sources of a view in order, at most `limit`, from the first one that is not before `from`.
///
/// # Errors
///
/// [`QueryError::Store`].
pub async fn sources(
    store: &dyn Coredms,
    view: &View,
    after: Option<&SourceKey>,
    limit: usize,
) -> Result<Vec<SourceKey>, QueryError> {
    let Some(field) = &view.source else { return Ok(Vec::new()) };
    let least = match view.source_type {
        SourceType::Text => Bson::from(""),
        SourceType::Number => f64::NEG_INFINITY.into(),
    };
    let from = after.map_or(Bound::Included(least), |after| Bound::Excluded(after.value()));
    let layers = view.batch.iter().chain(&view.stream);
    let values = layers.map(|layer| store.distinct(&layer.collection, field, from.clone(), limit));
    let values = futures::future::try_join_all(values).await?;
    let found = values.iter().flatten().filter_map(|value| SourceKey::of(value, view.source_type));
    let mut sources: Vec<SourceKey> = found.collect();
    sources.sort_by(SourceKey::compare);
    sources.dedup();
    sources.truncate(limit);
    Ok(sources)
}

/// Reads the latest record of a source: the first one in descending order.
///
/// # Errors
///
/// [`QueryError::Store`].
pub async fn latest(
    store: Arc<dyn Coredms>,
    client: &ClientId,
    view: &View,
    source: &SourceKey,
    sources: Arc<SourceNames>,
) -> Result<Option<LatestRecord>, QueryError> {
    let query = RecordsQuery {
        client: client.clone(),
        view: view.clone(),
        from: None,
        until: None,
        source: Some(source.value()),
        order: Order::Descending,
        fields: RecordFields::Stored,
        after: None,
        expected: 1,
    };
    let mut records = Records::open(store, query, sources).await?;
    let Some(time) = records.next_time().await? else { return Ok(None) };
    let mut json = Vec::new();
    records.append_next(&mut json, RecordForm::Object).await?;
    Ok(Some(LatestRecord { time, json }))
}

/// Whose latest record a stored document may be.
#[derive(Debug, PartialEq)]
pub enum Concerns {
    Nobody,
    Source(SourceKey),
    /// Several: there is a list on the way to the source, of which a query finds each element.
    Anybody,
}

/// Returns whose latest record a document of the view may be.
pub fn concerns(document: &RawDocument, view: &View) -> Concerns {
    let Some(path) = view.source.as_ref().filter(|_| time_of(document, view).is_some()) else {
        return Concerns::Nobody;
    };
    let mut value = RawBsonRef::Document(document);
    for name in path.split('.') {
        let RawBsonRef::Document(document) = value else { return Concerns::Nobody };
        value = match document.get(name) {
            Ok(Some(RawBsonRef::Array(_))) => return Concerns::Anybody,
            Ok(Some(found)) => found,
            Ok(None) => return Concerns::Nobody,
            // Whatever it is, the store knows.
            Err(_) => return Concerns::Anybody,
        };
    }
    let key = Bson::try_from(value).ok().and_then(|value| SourceKey::of(&value, view.source_type));
    key.map_or(Concerns::Nobody, Concerns::Source)
}

/// Compares a document that a stream has stored in one of the view's collections with the latest record of its source.
pub fn compare_stored(
    document: &RawDocument,
    collection: &str,
    client: &ClientId,
    view: &View,
    before: &LatestRecord,
    sources: &SourceNames,
) -> Stored {
    let written_by = view.stream.as_ref().filter(|layer| layer.collection == collection);
    let (Some(time), Some(written_by)) = (time_of(document, view), written_by) else {
        return Stored::Unknown;
    };
    match time.compare(&before.time) {
        Ordering::Less => return Stored::Earlier,
        // The `_id` decides.
        Ordering::Equal => return Stored::Unknown,
        // The batch layer may have the key.
        Ordering::Greater if !view.key.is_empty() => return Stored::Unknown,
        Ordering::Greater => {}
    }
    let sources = sources.known(client);
    let prefix = origin::record_id(document, written_by).and_then(|id| id.0.first_chunk::<8>().copied());
    if prefix.is_some_and(|prefix| !sources.contains_key(&prefix)) {
        return Stored::Unknown;
    }
    let record = Record { document, layer: Layer::Stream, written_by, sources: &sources };
    let mut json = Vec::new();
    match record.append(&mut json, &RecordFields::Stored, RecordForm::Object, None) {
        Ok(()) => Stored::Later(LatestRecord { time, json }),
        Err(_) => Stored::Unknown,
    }
}

/// The time of a document; `None` if it is not of the view's type.
fn time_of(document: &RawDocument, view: &View) -> Option<RecordTime> {
    let time = RecordTime::of(document, &view.time)?;
    let is_of_type = match (&time, view.time_type) {
        (RecordTime::Date(_), TimeType::Date) | (RecordTime::Text(_), TimeType::Text) => true,
        (RecordTime::Integer(_), TimeType::Seconds | TimeType::Milliseconds) => true,
        (RecordTime::Float(number), TimeType::Seconds | TimeType::Milliseconds) => !number.is_nan(),
        _ => false,
    };
    is_of_type.then_some(time)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use bson::{doc, rawdoc};
    use mysimbdp_config::ViewWindows;

    use super::*;

    #[test]
    fn a_list_on_the_way_to_the_source_concerns_anybody() {
        let view = View {
            name: "v".to_owned(),
            batch: None,
            stream: None,
            time: "at".to_owned(),
            time_type: TimeType::Seconds,
            source: Some("in.station".to_owned()),
            source_type: SourceType::Text,
            key: Vec::new(),
            windows: ViewWindows { lateness: Duration::ZERO, idle: Duration::ZERO, publish: BTreeMap::new() },
        };
        let a = Concerns::Source(SourceKey::Text("a".to_owned()));
        for (document, expected) in [
            (rawdoc! { "at": 1, "in": { "station": "a" } }, a),
            (rawdoc! { "at": 1, "in": { "station": ["a", "b"] } }, Concerns::Anybody),
            (rawdoc! { "at": 1, "in": [{ "station": "a" }] }, Concerns::Anybody),
            (rawdoc! { "at": 1, "in": { "station": 5 } }, Concerns::Nobody),
            (rawdoc! { "at": 1, "in": "a" }, Concerns::Nobody),
            (rawdoc! { "at": "1", "in": { "station": "a" } }, Concerns::Nobody),
        ] {
            assert_eq!(concerns(&document, &view), expected, "{document:?}");
        }
    }

    #[test]
    fn numbers_of_equal_value_are_one_source() {
        let key = |value: Bson| SourceKey::of(&value, SourceType::Number);
        let five = Some(SourceKey::Integer(5));
        let decimal: bson::Decimal128 = "5.0".parse().expect("a number");
        for value in [Bson::Int32(5), 5_i64.into(), 5.0.into(), decimal.into()] {
            assert_eq!(key(value.clone()), five, "{value}");
        }
        assert_eq!(key((-0.0).into()), Some(SourceKey::Integer(0)));
        assert_eq!(key(2_f64.powi(63).into()), Some(SourceKey::Float(2_f64.powi(63).to_bits())));
        for none in [Bson::Null, "5".into(), f64::NAN.into(), doc! {}.into()] {
            assert_eq!(key(none.clone()), None, "{none}");
        }
        assert_eq!(SourceKey::of(&5.into(), SourceType::Text), None);
        let mut sources = [5.5.into(), i64::MAX.into(), 5.into(), (-1).into(), (i64::MAX - 1).into()]
            .map(|value: Bson| key(value).expect("a source"));
        sources.sort_by(SourceKey::compare);
        let values = sources.map(|source| source.value());
        assert_eq!(
            values,
            [(-1_i64).into(), 5_i64.into(), 5.5.into(), (i64::MAX - 1).into(), i64::MAX.into()]
        );
    }
}
