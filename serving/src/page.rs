//! Lists in pages: a cursor says where the next one begins.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::representation::{CSV, MediaType, NDJSON};

/// The number of items in a page, unless the request says otherwise.
const LIMIT_DEFAULT: u32 = 100;
/// The most items in a page.
pub(crate) const LIMIT_MAX: u32 = 1000;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// The `cursor` of the next page; absent if this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Returns the number of items in a page.
pub(crate) fn limit(asked: Option<u32>) -> Result<usize, Problem> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        other => Err(Problem::invalid(format!("invalid limit {other}: expected 1 to {LIMIT_MAX}"))),
    }
}

/// Returns the number of items in a list that is a page up to [`LIMIT_MAX`], and longer than that only in a form that can be
/// written piece by piece.
pub(crate) fn long_limit(asked: Option<u32>, media_type: MediaType, max: u32) -> Result<u32, Problem> {
    let allowed = match media_type {
        MediaType::Json => LIMIT_MAX,
        MediaType::Ndjson | MediaType::Csv => max,
    };
    match asked.unwrap_or(LIMIT_MAX) {
        limit if (1..=allowed).contains(&limit) => Ok(limit),
        other => Err(Problem::invalid(format!(
            "invalid limit {other}: expected 1 to {LIMIT_MAX}, or up to {max} as {NDJSON} or {CSV}"
        ))),
    }
}

/// Returns the text that stands for a position in a list.
pub(crate) fn cursor(position: &impl Serialize) -> String {
    URL_SAFE_NO_PAD
        .encode(serde_json::to_vec(position).expect("positions have no maps with other keys than strings"))
}

/// Reads what [`cursor`] has returned.
pub(crate) fn position<T: DeserializeOwned>(cursor: &str) -> Result<T, Problem> {
    let json = URL_SAFE_NO_PAD.decode(cursor).ok();
    json.and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(|| {
        Problem::invalid("invalid cursor: expected the value of next in an earlier page of this list")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let position = ("a/b".to_owned(), 7_u64);
        assert_eq!(super::position::<(String, u64)>(&cursor(&position)).expect("a position"), position);
        for wrong in ["", "x", "%", &cursor(&1)] {
            assert!(super::position::<(String, u64)>(wrong).is_err(), "{wrong}");
        }
        assert!(limit(Some(0)).is_err() && limit(Some(LIMIT_MAX + 1)).is_err());
        assert_eq!(limit(None).expect("a limit"), 100);
    }
}
