//! The same list as JSON, as NDJSON (an object per line) or as CSV (a row per line), as the request's `Accept` asks.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use mysimbdp_model::error_chain;
use mysimbdp_query::QueryError;
use serde::Serialize;
use serde_json::Value;

use crate::page::Page;
use crate::problem::{Problem, ProblemCode};
use crate::server::Server;

pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const CSV: &str = "text/csv";
const CSV_WITH_HEADER: &str = "text/csv; charset=utf-8; header=present";
const JSON: &str = "application/json";

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    Ndjson,
    Csv,
}

/// How the list of this request is to be written.
#[derive(Debug)]
pub(crate) struct Representation {
    pub(crate) media_type: MediaType,
    uri: Uri,
}

/// What a list consists of.
pub(crate) trait Item: Serialize {
    /// The columns of its CSV form: names of its fields.
    const COLUMNS: &'static [&'static str];
}

impl FromRequestParts<Arc<Server>> for Representation {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Problem> {
        let accepted = parts.headers.get_all(header::ACCEPT).iter();
        let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
        let media_type = negotiated(&accepted.join(",")).ok_or_else(|| {
            let expected = format!("expected {JSON}, {NDJSON} or {CSV}");
            Problem::new(
                ProblemCode::NotAcceptable,
                format!("none of the accepted media types is available: {expected}"),
            )
        })?;
        Ok(Self { media_type, uri: parts.uri.clone() })
    }
}

/// Returns the first of the available media types with the greatest weight in an `Accept` header.
fn negotiated(accept: &str) -> Option<MediaType> {
    if accept.trim().is_empty() {
        return Some(MediaType::Json);
    }
    let ranges = || {
        accept.split(',').map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let range = parts.next().unwrap_or_default();
            let weight =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |text| text.parse().ok());
            (range, weight.filter(|weight: &f64| (0.0..=1.0).contains(weight)).unwrap_or(0.0))
        })
    };
    // The most specific range that matches a type decides its weight.
    let weight = |name: &str| {
        let kind = format!("{}/*", name.split('/').next().unwrap_or_default());
        [name, &kind, "*/*"].into_iter().find_map(|wanted| {
            ranges().find(|(range, _)| range.eq_ignore_ascii_case(wanted)).map(|(_, weight)| weight)
        })
    };
    let available = [(MediaType::Json, JSON), (MediaType::Ndjson, NDJSON), (MediaType::Csv, CSV)];
    let mut best = None;
    for (media_type, name) in available {
        let weight = weight(name).unwrap_or(0.0);
        if weight > best.map_or(0.0, |(_, best)| best) {
            best = Some((media_type, weight));
        }
    }
    best.map(|(media_type, _)| media_type)
}

impl Representation {
    /// Writes a page. In the forms that have no place for it, the address of the next page is in a `Link` header.
    pub(crate) fn page<T: Item>(&self, page: Page<T>) -> Result<Response, Problem> {
        let next = page.next.as_deref().map(|cursor| self.link(cursor));
        let mut response = match self.media_type {
            MediaType::Json => axum::Json(page).into_response(),
            MediaType::Ndjson => with_type(ndjson(&page.items).map_err(internal)?, NDJSON),
            MediaType::Csv => with_type(csv(&page.items)?, CSV_WITH_HEADER),
        };
        if let Some(link) = next.and_then(|link| HeaderValue::try_from(link).ok()) {
            response.headers_mut().insert(header::LINK, link);
        }
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        Ok(response)
    }

    /// Writes what is already in this form.
    pub(crate) fn of_bytes(&self, body: Body) -> Response {
        let name = match self.media_type {
            MediaType::Json => JSON,
            MediaType::Ndjson => NDJSON,
            MediaType::Csv => CSV_WITH_HEADER,
        };
        ([(header::CONTENT_TYPE, name), (header::VARY, "accept")], body).into_response()
    }

    /// What a page begins with, in front of items that have been written in this form.
    pub(crate) fn begin_page(&self) -> Vec<u8> {
        match self.media_type {
            MediaType::Json => b"{\"items\":[".to_vec(),
            MediaType::Ndjson | MediaType::Csv => Vec::new(),
        }
    }

    /// Ends a page whose items have been appended to [`Representation::begin_page`].
    pub(crate) fn end_page(&self, mut page: Vec<u8>, next: Option<&str>) -> Response {
        if self.media_type == MediaType::Json {
            page.push(b']');
            if let Some(next) = next {
                page.extend_from_slice(b",\"next\":\"");
                page.extend_from_slice(next.as_bytes());
                page.push(b'"');
            }
            page.push(b'}');
        }
        let mut response = self.of_bytes(Body::from(page));
        if self.media_type != MediaType::Json
            && let Some(link) = next.and_then(|next| HeaderValue::try_from(self.link(next)).ok())
        {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }

    /// Writes a page of what is JSON already.
    pub(crate) fn of_objects<'o>(
        &self,
        objects: impl Iterator<Item = &'o Bytes>,
        next: Option<&str>,
    ) -> Response {
        let mut page = self.begin_page();
        for (index, object) in objects.enumerate() {
            if self.media_type == MediaType::Json && index > 0 {
                page.extend_from_slice(b",\n");
            }
            page.extend_from_slice(object);
            if self.media_type == MediaType::Ndjson {
                page.push(b'\n');
            }
        }
        self.end_page(page, next)
    }

    /// Writes items as they come. If one of them fails, the answer breaks off, so that its reader notices.
    pub(crate) fn stream<T: Item + Send + 'static>(
        &self,
        items: impl Stream<Item = Result<T, QueryError>> + Send + 'static,
    ) -> Response {
        let media_type = self.media_type;
        let (begin, end, name): (Vec<u8>, &'static str, _) = match media_type {
            MediaType::Json => (b"{\"items\":[".to_vec(), "]}", JSON),
            MediaType::Ndjson => (Vec::new(), "", NDJSON),
            MediaType::Csv => (row(T::COLUMNS), "", CSV_WITH_HEADER),
        };
        let mut is_first = true;
        let items = items.map(move |item| {
            let item = item.inspect_err(|error| {
                tracing::warn!(error = error_chain(error), "an answer breaks off");
            })?;
            let line = match media_type {
                MediaType::Csv => csv_line(&item)?,
                MediaType::Ndjson => ndjson(&[item])?,
                MediaType::Json => {
                    let separator: &[u8] = if std::mem::take(&mut is_first) { b"\n" } else { b",\n" };
                    [separator, &serde_json::to_vec(&item)?].concat()
                }
            };
            Ok::<_, axum::BoxError>(line)
        });
        let pieces = stream::once(std::future::ready(Ok(begin)))
            .chain(items)
            .chain(stream::once(std::future::ready(Ok(end.into()))));
        ([(header::CONTENT_TYPE, name), (header::VARY, "accept")], Body::from_stream(pieces)).into_response()
    }

    /// The request's own address with this cursor.
    pub(crate) fn link(&self, cursor: &str) -> String {
        let query = self.uri.query().unwrap_or_default();
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
        let cursor = format!("cursor={cursor}");
        let query = kept.chain([cursor.as_str()]).collect::<Vec<_>>().join("&");
        format!("<{}?{query}>; rel=\"next\"", self.uri.path())
    }
}

fn with_type(content: Vec<u8>, media_type: &'static str) -> Response {
    ([(header::CONTENT_TYPE, media_type)], Body::from(content)).into_response()
}

fn ndjson<T: Item>(items: &[T]) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for item in items {
        serde_json::to_writer(&mut lines, item)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn csv<T: Item>(items: &[T]) -> Result<Vec<u8>, Problem> {
    let mut rows = row(T::COLUMNS);
    for item in items {
        rows.extend(csv_line(item).map_err(internal)?);
    }
    Ok(rows)
}

fn csv_line<T: Item>(item: &T) -> serde_json::Result<Vec<u8>> {
    let item = serde_json::to_value(item)?;
    let cells: Vec<String> = T::COLUMNS.iter().map(|column| cell(&item[*column])).collect();
    Ok(row(&cells))
}

fn row(cells: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).expect("a vector takes all bytes");
    writer.into_inner().expect("a vector takes all bytes")
}

/// Texts as they are, lists with `; ` between their elements, nothing for null.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

fn internal(error: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemCode::Internal, format!("the answer cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_weight_decides() {
        for (accept, expected) in [
            ("", Some(MediaType::Json)),
            ("*/*", Some(MediaType::Json)),
            ("text/csv", Some(MediaType::Csv)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some(MediaType::Json)),
            ("text/*", Some(MediaType::Csv)),
            ("application/json;q=0.5, application/x-ndjson", Some(MediaType::Ndjson)),
            ("application/json;q=0, */*", Some(MediaType::Ndjson)),
            ("text/html", None),
            ("text/csv;q=0", None),
        ] {
            assert_eq!(negotiated(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_next_page_has_the_same_parameters() {
        let uri = "/api/files?state=held&cursor=old&limit=5".parse().expect("an address");
        let representation = Representation { media_type: MediaType::Csv, uri };
        assert_eq!(representation.link("new"), "</api/files?state=held&limit=5&cursor=new>; rel=\"next\"");
    }
}
