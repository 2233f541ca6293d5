//! Where a page of windows begins: after a window, source and field.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mysimbdp_model::ingestion::Hasher;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::WindowsQuery;
use super::source::WindowSource;
use crate::error::QueryError;

/// A position in the answer to one query.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowsPosition {
    /// Identifies the query.
    query: String,
    pub(super) start: i64,
    pub(super) source: WindowSource,
    /// The number of the field in the query.
    pub(super) field: usize,
}

#[derive(Serialize, Deserialize)]
struct Written(String, i64, Value, usize);

impl WindowsPosition {
    pub fn new(query: &WindowsQuery, start: i64, source: WindowSource, field: usize) -> Self {
        Self { query: fingerprint(query), start, source, field }
    }

    /// Returns the text that stands for the position.
    pub fn to_text(&self) -> String {
        let written = Written(self.query.clone(), self.start, self.source.to_json(), self.field);
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&written).expect("it has no maps"))
    }

    /// Reads the text of a position in the answer to this query.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidRequest`]: it is not one, or one of another query.
    pub fn parse(query: &WindowsQuery, text: &str) -> Result<Self, QueryError> {
        let invalid = |reason: &str| QueryError::InvalidRequest(format!("invalid cursor: {reason}"));
        let position = read(text).ok_or_else(|| invalid("expected next of an earlier page of this query"))?;
        if position.query != fingerprint(query) {
            return Err(invalid(
                "it belongs to a query with another view, size, fields, source, from or until",
            ));
        }
        Ok(position)
    }

    /// Whether this source and field of this window come after it.
    pub(super) fn is_before(&self, start: i64, source: &WindowSource, field: usize) -> bool {
        (self.start, &self.source, self.field) < (start, source, field)
    }
}

fn read(text: &str) -> Option<WindowsPosition> {
    let Written(query, start, source, field) =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    Some(WindowsPosition { query, start, source: WindowSource::from_json(&source)?, field })
}

fn fingerprint(query: &WindowsQuery) -> String {
    let mut hasher = Hasher::new();
    hasher.update(&query.identity());
    hasher.update(format!("{:?}", query.starts()).as_bytes());
    hasher.finalize().as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
