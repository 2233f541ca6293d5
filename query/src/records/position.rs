//! Where a page of records begins: after the last record of each layer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::{Bson, Document, RawDocumentBuf, doc};
use mysimbdp_model::ingestion::Hasher;
use mysimbdp_store::{Order, Position};

use super::RecordsQuery;
use crate::error::QueryError;

/// A position in the records of one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordsPosition {
    /// The query, see [`fingerprint`].
    pub(super) fingerprint: [u8; 8],
    pub(super) batch: Option<Position>,
    pub(super) stream: Option<Position>,
}

impl RecordsPosition {
    /// Returns the text that stands for the position.
    pub fn to_text(&self) -> String {
        let query =
            bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: self.fingerprint.to_vec() };
        let mut document = doc! { "query": query };
        for (name, position) in [("batch", &self.batch), ("stream", &self.stream)] {
            if let Some(Position { value, id }) = position {
                document.insert(name, doc! { "time": value, "id": id });
            }
        }
        // Values and ids were parts of documents, so they are valid in this one.
        let raw = RawDocumentBuf::try_from(&document).map(RawDocumentBuf::into_bytes);
        URL_SAFE_NO_PAD.encode(raw.unwrap_or_default())
    }

    /// Reads the text of a position.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidRequest`]: it is not one.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        read(text).ok_or_else(|| {
            QueryError::InvalidRequest(
                "invalid cursor: expected next of an earlier page of this query, or _cursor of a record"
                    .to_owned(),
            )
        })
    }
}

fn read(text: &str) -> Option<RecordsPosition> {
    let raw = RawDocumentBuf::from_bytes(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let document = Document::try_from(raw.as_ref()).ok()?;
    let position = |name| match document.get(name) {
        None => Some(None),
        Some(Bson::Document(position)) => {
            let (value, id) = (position.get("time")?.clone(), position.get("id")?.clone());
            Some(Some(Position { value, id }))
        }
        Some(_) => None,
    };
    Some(RecordsPosition {
        fingerprint: document.get_binary_generic("query").ok()?.as_slice().try_into().ok()?,
        batch: position("batch")?,
        stream: position("stream")?,
    })
}

/// Identifies everything that decides which records a query has, and their order.
pub(super) fn fingerprint(query: &RecordsQuery) -> [u8; 8] {
    let view = &query.view;
    let collection = |layer: &Option<mysimbdp_config::ViewLayer>| {
        layer.as_ref().map(|layer| layer.collection.clone()).unwrap_or_default()
    };
    let time = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    let texts = [
        query.client.to_string(),
        view.name.clone(),
        collection(&view.batch),
        collection(&view.stream),
        view.time.clone(),
        format!("{:?} {:?}", view.time_type, query.order == Order::Ascending),
        format!("{:?}", view.key),
        format!("{:?} {:?}", view.source, query.source),
        time(query.from),
        time(query.until),
    ];
    let mut hasher = Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    let mut fingerprint = [0; 8];
    fingerprint.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_nothing_else_is_one() {
        let id: Bson = doc! { "a": 1.5, "$date": "x" }.into();
        let position = RecordsPosition {
            fingerprint: [7; 8],
            batch: Some(Position { value: bson::DateTime::from_millis(5).into(), id }),
            stream: None,
        };
        assert_eq!(RecordsPosition::parse(&position.to_text()).expect("a position"), position);
        let half = URL_SAFE_NO_PAD.encode(doc! { "query": 1 }.to_vec().expect("bytes"));
        for wrong in ["", "x", "%", &half, &position.to_text()[..20]] {
            let error = RecordsPosition::parse(wrong).expect_err("not a position").to_string();
            assert!(error.contains("invalid cursor: expected next"), "{error}");
        }
    }
}
