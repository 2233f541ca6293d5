//! Objects: files that are stored as a whole.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use mysimbdp_model::app::Ids;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_store::{CHUNK_BYTES, CommittedObject, Coredms, CoredmsError, committed_object};

use crate::api::Binary;
use crate::api::clients::NoParameters;
use crate::api::ingestions::parse;
use crate::api::rejected::attachment;
use crate::extract::{Path, Query, Read, Tenant};
use crate::problem::{Problem, ProblemCode, Result};
use crate::server::Server;

/// How much of an object is in memory at a time.
const PIECE_BYTES: u64 = 4 * CHUNK_BYTES as u64;

/// A file that is stored as a whole
///
/// Its bytes, or a range of them. The `ETag` is the ingestion, which stands for the content.
#[utoipa::path(
    get,
    path = "/api/clients/{client}/objects/{ingestion}",
    operation_id = "get_object",
    tag = "objects",
    params(
        ("client" = String, Path),
        ("ingestion" = String, Path, description = "The ingestion, 32 hexadecimal digits"),
        ("Range" = Option<String>, Header, description = "One range of bytes (RFC 9110); several are answered with the whole object"),
    ),
    responses(
        (status = 200, description = "The object", body = Binary, content_type = "application/octet-stream"),
        (status = 206, description = "The range", body = Binary, content_type = "application/octet-stream"),
        (status = 304, description = "The object is the one of `If-None-Match`"),
        Problem,
    )
)]
pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    tenant: Tenant<Read>,
    Path((_, id)): Path<(String, String)>,
    Query(NoParameters {}): Query<NoParameters>,
    headers: HeaderMap,
) -> Result<Response> {
    let ingestion = parse(&id)?;
    let store = server.database(tenant.client()).await?;
    let apps = tenant.client().apps.iter().filter(|app| app.settings.ids == Ids::Object);
    let mut found = None;
    for app in apps {
        if let Some(object) = committed_object(store.as_ref(), &app.collection, ingestion).await? {
            found = Some((app.collection.clone(), object));
            break;
        }
    }
    let (bucket, CommittedObject { object, .. }) = found
        .ok_or_else(|| Problem::not_found(format!("client {} has no object of ingestion {id}", tenant.id)))?;
    let tag = format!("\"{id}\"");
    let value = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if value(header::IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|other| matches(other, &tag))) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let may_have_range = value(header::IF_RANGE).is_none_or(|other| other == tag);
    let range = value(header::RANGE).filter(|_| may_have_range).map(|range| requested(range, object.bytes));
    let (status, range) = match range.unwrap_or(Requested::All) {
        Requested::All => (StatusCode::OK, 0..object.bytes),
        Requested::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Requested::None => return Ok(not_satisfiable(object.bytes)),
    };
    let length = range.end - range.start;
    let content_range = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), object.bytes);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_LENGTH, length.into()),
        (header::CONTENT_DISPOSITION, attachment(&object.name)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
    ];
    // The first piece decides about the status: what is missing in the store is not a success.
    let mut pieces = Box::pin(pieces(store, bucket, ingestion, range));
    let first = pieces.try_next().await?;
    let body = Body::from_stream(stream::iter(first.map(Ok)).chain(pieces));
    let mut response = (status, headers, [(header::ETAG, tag)], body).into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::try_from(content_range)
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// Whether a member of `If-None-Match` is this tag; a weak one is as good.
fn matches(member: &str, tag: &str) -> bool {
    let member = member.trim();
    member == "*" || member.strip_prefix("W/").unwrap_or(member) == tag
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Requested {
    /// Everything: it has several ranges, another unit, or is malformed, and may be ignored.
    All,
    Part(Range<u64>),
    /// Nothing that the object has.
    None,
}

fn requested(header: &str, bytes: u64) -> Requested {
    let Some(range) = header.strip_prefix("bytes=").filter(|ranges| !ranges.contains(',')) else {
        return Requested::All;
    };
    let Some((first, last)) = range.trim().split_once('-') else { return Requested::All };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number beyond all objects is larger than this one.
        is_number.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(bytes),
        (Some(first), None) if last.is_empty() => first..bytes,
        (None, Some(count)) if first.is_empty() => bytes.saturating_sub(count)..bytes,
        _ => return Requested::All,
    };
    if part.start < part.end { Requested::Part(part) } else { Requested::None }
}

fn not_satisfiable(bytes: u64) -> Response {
    let detail = format!("the range is not within the object, which has {bytes} bytes");
    let mut response = Problem::new(ProblemCode::RangeNotSatisfiable, detail).into_response();
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{bytes}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

fn pieces(
    store: Arc<dyn Coredms>,
    bucket: String,
    id: IngestionId,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, CoredmsError>> + Send {
    stream::try_unfold((store, bucket, range), move |(store, bucket, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        // The next piece ends with a chunk, so that no chunk is read twice.
        let end = ((range.start / PIECE_BYTES + 1) * PIECE_BYTES).min(range.end);
        let incomplete = CoredmsError::Incomplete { id, found: range.start, expected: range.end };
        match store.read_object(&bucket, id, range.start..end).await? {
            Some(piece) if !piece.is_empty() => {
                let next = range.start + piece.len() as u64..range.end;
                Ok(Some((piece, (store, bucket, next))))
            }
            _ => Err(incomplete),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_standard_defines_it() {
        for (header, expected) in [
            ("bytes=0-0", Requested::Part(0..1)),
            ("bytes=2-5", Requested::Part(2..6)),
            ("bytes=2-", Requested::Part(2..10)),
            ("bytes=8-99", Requested::Part(8..10)),
            ("bytes=0-18446744073709551615", Requested::Part(0..10)),
            ("bytes=-3", Requested::Part(7..10)),
            ("bytes=-99", Requested::Part(0..10)),
            ("bytes=-0", Requested::None),
            ("bytes=10-", Requested::None),
            ("bytes=99999999999999999999999-", Requested::None),
            ("bytes=5-2", Requested::All),
            ("bytes=0-1,3-4", Requested::All),
            ("bytes=a-b", Requested::All),
            ("bytes=-", Requested::All),
            ("lines=0-1", Requested::All),
        ] {
            assert_eq!(requested(header, 10), expected, "{header}");
        }
        assert_eq!(requested("bytes=0-", 0), Requested::None);
    }
}
