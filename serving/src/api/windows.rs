//! Windows over a view: a page, or a long list that is written while it is computed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use mysimbdp_model::error_chain;
use mysimbdp_query::QueryError;
use mysimbdp_query::records::{RecordForm, append_header};
use mysimbdp_query::windows::{
    ReadAhead, WINDOW_COLUMNS, WindowItem, WindowItems, WindowsPosition, WindowsQuery,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};
use utoipa::{IntoParams, ToSchema};

use crate::api::records;
use crate::extract::{Query, Read, Tenant, number, time};
use crate::page;
use crate::problem::{Problem, Result};
use crate::representation::{MediaType, Representation};
use crate::server::Server;

/// The most items of a list that is written while it is computed.
const LIST_ITEMS_MAX: u32 = 1_000_000;
/// What is written at a time.
const PIECE_BYTES: usize = 64 << 10;
/// What there is after this time is written: the next window may need many records.
const PIECE_WITHIN: Duration = Duration::from_secs(1);

/// Which windows are returned.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// The name of a view of the client. Required.
    #[param(required = true)]
    view: Option<String>,
    /// The size of a window: a whole number and ms, s, m, h or d, such as `1m`; `1s` to `366d`. Required.
    #[param(required = true, pattern = "^[0-9]{1,9}(ms|s|m|h|d)$")]
    size: Option<String>,
    /// 1 to 20 names of fields with commas between them, such as `temp,meta.x`; their numbers are counted. Required.
    #[param(required = true)]
    fields: Option<String>,
    /// Only records of this source, if the view has a field for it.
    source: Option<String>,
    /// Only windows that begin at this time or later.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Only windows that begin before this time.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Items in the answer; more than 1000 only as NDJSON or CSV.
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 1_000_000, default = 1000)]
    limit: Option<u32>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// The numbers of a field of a source in a window.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WindowItem)]
pub(crate) struct WindowSchema {
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// Exclusive.
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
    /// A text or a number; null if the view has no field for it, or the record does not have it.
    #[schema(value_type = Value)]
    source: serde_json::Value,
    field: String,
    count: u64,
    min: f64,
    max: f64,
    /// Null if it exceeds the range of a double.
    mean: Option<f64>,
    /// The standard deviation of the population; null if it exceeds the range of a double.
    stddev: Option<f64>,
    /// open: more records are expected; closed: those that still come are late, and change it all the same.
    #[schema(pattern = "^(open|closed)$")]
    state: String,
}

/// A page of windows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WindowPage {
    items: Vec<WindowSchema>,
    /// The `cursor` of the next page; absent if this is the last one.
    next: Option<String>,
}

/// Windows over a view
///
/// Count, least, greatest, mean and standard deviation of the numbers that fields have in windows of time, by source; in the
/// order of time, source and field as in `fields`. Windows begin at multiples of their size since 1970 and are always whole. A window of a source without a
/// number in the field is not in the list. Up to 1000 items are a page; up to 1,000,000 are written while they are computed, as
/// NDJSON or CSV, and end without a cursor. If the store fails meanwhile, the answer breaks off.
#[utoipa::path(
    get,
    path = "/api/clients/{client}/windows",
    operation_id = "list_windows",
    tag = "records",
    params(("client" = String, Path), Parameters),
    responses(
        (status = 200, description = "Windows", content(
            (WindowPage = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        Problem,
    )
)]
pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    tenant: Tenant<Read>,
    Query(parameters): Query<Parameters>,
    representation: Representation,
) -> Result<Response> {
    let view = records::view(&tenant, parameters.view.as_deref())?;
    let missing =
        |name: &str, expected: &str| Problem::invalid(format!("{name} is missing: expected {expected}"));
    let size = parameters.size.as_deref().ok_or_else(|| missing("size", "a duration such as 1m"))?;
    let fields =
        parameters.fields.as_deref().ok_or_else(|| missing("fields", "names such as temp,meta.x"))?;
    let media_type = representation.media_type;
    let limit = page::long_limit(parameters.limit, media_type, LIST_ITEMS_MAX)?;
    let query = WindowsQuery {
        client: tenant.id.clone(),
        size: WindowsQuery::parse_size(view, size)?,
        fields: WindowsQuery::parse_fields(fields)?,
        source: parameters.source.as_deref().map(|source| records::source(view, source)).transpose()?,
        from: parameters.from,
        until: parameters.until,
        view: view.clone(),
    };
    let after = parameters.cursor.as_deref().map(|text| WindowsPosition::parse(&query, text)).transpose()?;
    let within = server.config().settings.serving.query_timeout.duration();
    let store = server.database(tenant.client()).await?;
    let database = &tenant.client().database;
    records::indexed(&server, &store, database, view, query.source.is_some()).await?;
    let is_page = limit <= page::LIMIT_MAX;
    let ahead = if is_page { ReadAhead::Page } else { ReadAhead::List };
    let reader =
        server.windows.open(&server, tenant.client(), Arc::new(query), ahead, after.as_ref()).await?;
    let items = WindowItems::new(reader, after);
    let mut begin = representation.begin_page();
    if media_type == MediaType::Csv {
        append_header(&mut begin, &WINDOW_COLUMNS.map(str::to_owned));
    }
    let writer = Writer { items, media_type, remaining: limit, within };
    if is_page {
        writer.page(&representation, begin).await
    } else {
        writer.list(&representation, begin).await
    }
}

/// Writes items into one buffer.
struct Writer {
    items: WindowItems,
    media_type: MediaType,
    remaining: u32,
    /// How long the next window may take.
    within: Duration,
}

impl Drop for Writer {
    fn drop(&mut self) {
        crate::windows::count(self.items.reader());
    }
}

impl Writer {
    /// Returns the next item; `None` if there is none, or it is not wanted.
    async fn next(&mut self) -> Result<Option<WindowItem>, QueryError> {
        if self.remaining == 0 {
            return Ok(None);
        }
        let within = self.within;
        let item = timeout(within, self.items.next()).await.unwrap_or_else(|_| {
            Err(QueryError::NoAnswer(format!("no window could be computed within {within:?}")))
        })?;
        self.remaining -= 1;
        Ok(item)
    }

    fn append(&mut self, buffer: &mut Vec<u8>, item: &WindowItem) {
        let form = match self.media_type {
            MediaType::Csv => RecordForm::Row,
            MediaType::Json | MediaType::Ndjson => RecordForm::Object,
        };
        self.items.append(buffer, form, item);
        if self.media_type == MediaType::Ndjson {
            buffer.push(b'\n');
        }
    }

    async fn page(mut self, representation: &Representation, mut buffer: Vec<u8>) -> Result<Response> {
        let is_json = self.media_type == MediaType::Json;
        let mut last = None;
        while let Some(item) = self.next().await? {
            if is_json && last.is_some() {
                buffer.extend_from_slice(b",\n");
            }
            self.append(&mut buffer, &item);
            last = Some(item);
        }
        let next = match last {
            Some(last) if self.items.has_next().await? => Some(self.items.position_after(&last).to_text()),
            _ => None,
        };
        Ok(representation.end_page(buffer, next.as_deref()))
    }

    /// Appends items until there are no more of them, the buffer is full or some time has passed; returns whether there may be more.
    async fn append_piece(&mut self, buffer: &mut Vec<u8>) -> Result<bool, QueryError> {
        // Whoever cannot read anything gets an error.
        let Some(first) = self.next().await? else { return Ok(false) };
        self.append(buffer, &first);
        let deadline = Instant::now() + PIECE_WITHIN;
        while buffer.len() < PIECE_BYTES && self.remaining > 0 {
            match timeout_at(deadline, self.items.next()).await {
                Ok(Ok(Some(item))) => {
                    self.remaining -= 1;
                    self.append(buffer, &item);
                }
                Ok(Ok(None)) => return Ok(false),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(true),
            }
        }
        Ok(self.remaining > 0)
    }

    async fn list(mut self, representation: &Representation, mut begin: Vec<u8>) -> Result<Response> {
        let has_more = self.append_piece(&mut begin).await?;
        let pieces = self.pieces(Bytes::from(begin), has_more);
        Ok(representation.of_bytes(Body::from_stream(pieces)))
    }

    fn pieces(self, first: Bytes, has_more: bool) -> impl Stream<Item = Result<Bytes, QueryError>> + Send {
        let rest = stream::try_unfold(Some(self).filter(|_| has_more), async |writer| {
            let Some(mut writer) = writer else { return Ok(None) };
            let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
            let has_more = writer.append_piece(&mut piece).await.inspect_err(|error| {
                tracing::warn!(error = error_chain(error), "an answer breaks off");
            })?;
            Ok(Some((Bytes::from(piece), Some(writer).filter(|_| has_more))))
        });
        stream::once(std::future::ready(Ok(first))).chain(rest)
    }
}
