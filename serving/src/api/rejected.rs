//! The rejected records of a file: listed, or in the form of the file.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{self, Stream};
use mysimbdp_config::Config;
use mysimbdp_model::manifest::Format;
use mysimbdp_query::QueryError;
use mysimbdp_query::rejected::{self, RejectedExport, RejectedRecord, RejectedRecords};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Binary;
use crate::api::clients::NoParameters;
use crate::api::ingestions::{parse, unknown};
use crate::extract::{Allowed, Path, Query, Read};
use crate::page::Page;
use crate::percent_encoded;
use crate::problem::{Problem, Result};
use crate::representation::{Item, Representation};

/// A rejected record.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RejectedItem {
    /// Its number in the file, from 0.
    record: u64,
    reason: String,
    /// The record, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// The record in Base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<String>,
}

impl Item for RejectedItem {
    const COLUMNS: &'static [&'static str] = &["record", "reason", "content", "content_base64"];
}

/// The rejected records of a file
///
/// Number, reason and content of each. If somebody has removed some of them from the store, the answer breaks off. A
/// `Warning` header says that a later run was held whose rejected records cannot be shown.
#[utoipa::path(
    get,
    path = "/api/ingestions/{ingestion}/rejected",
    operation_id = "list_rejected",
    tag = "ingestions",
    params(("ingestion" = String, Path, description = "The ingestion, 32 hexadecimal digits")),
    responses(
        (status = 200, description = "The rejected records", content(
            (Page<RejectedItem> = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        Problem,
    )
)]
pub(crate) async fn list(
    allowed: Allowed<Read>,
    Path(id): Path<String>,
    Query(NoParameters {}): Query<NoParameters>,
    representation: Representation,
) -> Result<Response> {
    let records = open(&allowed, &id).await?;
    let warning = warning(&records);
    let items = stream::try_unfold(Some(records), async |records| {
        let Some(mut records) = records else { return Ok::<_, QueryError>(None) };
        match records.next().await? {
            Some(record) => Ok(Some((item(record), Some(records)))),
            None => {
                records.finish().await?;
                Ok(None)
            }
        }
    });
    let mut response = representation.stream(items);
    response.headers_mut().extend(warning);
    Ok(response)
}

/// The rejected records, in the form of their file
///
/// The header line of a CSV file, then its rejected rows; lines, or an array of JSON values. Repair it and drop it again. If
/// some records are missing, the answer breaks off.
#[utoipa::path(
    get,
    path = "/api/ingestions/{ingestion}/rejected/content",
    operation_id = "export_rejected",
    tag = "ingestions",
    params(("ingestion" = String, Path, description = "The ingestion, 32 hexadecimal digits")),
    responses(
        (status = 200, description = "A file with the rejected records", content(
            (String = "text/csv"),
            (String = "application/x-ndjson"),
            (Vec<Object> = "application/json"),
            (Binary = "application/octet-stream"),
        )),
        Problem,
    )
)]
pub(crate) async fn content(
    allowed: Allowed<Read>,
    Path(id): Path<String>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Response> {
    let records = open(&allowed, &id).await?;
    let warning = warning(&records);
    let media_type = match records.format() {
        Format::Csv => "text/csv; header=present",
        Format::Ndjson => "application/x-ndjson",
        Format::Json => "application/json",
        Format::Binary => "application/octet-stream",
    };
    let name = attachment(&format!("rejected-{}", records.file()));
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(media_type)), (header::CONTENT_DISPOSITION, name)];
    let mut response = (headers, Body::from_stream(exported(records))).into_response();
    response.headers_mut().extend(warning);
    Ok(response)
}

async fn open(allowed: &Allowed<Read>, id: &str) -> Result<RejectedRecords> {
    let ingestion = parse(id)?;
    let config: &Arc<Config> = &allowed.config;
    match rejected::open(config, ingestion).await {
        Ok(records) if allowed.may_see(records.client().as_str()) => Ok(records),
        // A caller for one client learns nothing about the files of others.
        Ok(_) => Err(unknown(id)),
        Err(QueryError::Store(error)) => Err(error.into()),
        Err(_) if allowed.caller.only_client().is_some() && !allowed.owns(ingestion) => Err(unknown(id)),
        Err(error) => Err(error.into()),
    }
}

fn warning(records: &RejectedRecords) -> Option<(header::HeaderName, HeaderValue)> {
    let text = records.warning()?.replace(['"', '\\'], "'");
    Some((header::WARNING, HeaderValue::try_from(format!("199 mysimbdp \"{text}\"")).ok()?))
}

fn item(record: RejectedRecord) -> RejectedItem {
    let (content, content_base64) = match record.content.map(String::from_utf8) {
        None => (None, None),
        Some(Ok(text)) => (Some(text), None),
        Some(Err(error)) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    RejectedItem { record: record.record, reason: record.reason, content, content_base64 }
}

/// The pieces of the file. It ends only once all records are known to be in it.
fn exported(records: RejectedRecords) -> impl Stream<Item = Result<Bytes, QueryError>> + Send {
    struct State {
        records: Option<RejectedRecords>,
        export: Option<RejectedExport>,
        ready: VecDeque<Bytes>,
    }
    let export = RejectedExport::new(records.format());
    let ready = export.begin(records.prefix()).map(Bytes::copy_from_slice).into();
    stream::try_unfold(State { records: Some(records), export: Some(export), ready }, async |mut state| {
        loop {
            if let Some(piece) = state.ready.pop_front() {
                return Ok(Some((piece, state)));
            }
            let (Some(mut records), Some(mut export)) = (state.records.take(), state.export.take()) else {
                return Ok(None);
            };
            match records.next().await? {
                Some(RejectedRecord { content: Some(content), .. }) => {
                    let frame = export.next_frame();
                    state.ready.extend([
                        Bytes::from_static(frame.before),
                        content.into(),
                        Bytes::from_static(frame.after),
                    ]);
                }
                Some(RejectedRecord { record, .. }) => {
                    return Err(QueryError::InvalidData(format!(
                        "record {record} was listed by a version that did not keep its bytes"
                    )));
                }
                None => {
                    records.finish().await?;
                    state.ready.push_back(Bytes::from_static(export.end()));
                    continue;
                }
            }
            (state.records, state.export) = (Some(records), Some(export));
        }
    })
}

/// A `Content-Disposition` that makes browsers save the answer under this name (RFC 6266).
pub(crate) fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|character| match character {
            ' '..='~' if !matches!(character, '"' | '\\' | '%') => character,
            _ => '_',
        })
        .collect();
    let encoded = percent_encoded(name.as_bytes());
    HeaderValue::try_from(format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"))
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_a_valid_header() {
        for (name, expected) in [
            ("a b.csv", "attachment; filename=\"a b.csv\"; filename*=UTF-8''a%20b.csv"),
            ("ä\"\r\n.csv", "attachment; filename=\"____.csv\"; filename*=UTF-8''%C3%A4%22%0D%0A.csv"),
        ] {
            assert_eq!(attachment(name), expected);
        }
    }
}
