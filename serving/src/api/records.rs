//! The records of a view: a page, or a long list that is written while it is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bson::Bson;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use mysimbdp_config::View;
use mysimbdp_config::settings::SourceType;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_query::QueryError;
use mysimbdp_query::records::{self, RecordFields, RecordForm, Records, RecordsPosition, RecordsQuery};
use mysimbdp_store::{Coredms, Order};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use crate::extract::{Query, Read, Tenant, number, time};
use crate::page;
use crate::problem::{Problem, ProblemCode, Result};
use crate::representation::{MediaType, Representation};
use crate::server::Server;
use crate::turns::ListTurn;

/// A page of large records ends with the one that exceeds this.
const PAGE_BYTES: usize = 8 << 20;
/// The most records of a list that is written while it is read.
const LIST_RECORDS_MAX: u32 = 100_000;
/// What is written at a time: large enough that its costs do not count, small enough that the first records arrive at once.
const PIECE_BYTES: usize = 64 << 10;

/// Which records are returned, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// The name of a view of the client. Required.
    #[param(required = true)]
    view: Option<String>,
    /// Only records of this time or later.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Only records before this time.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only records of this source, if the view has a field for it.
    source: Option<String>,
    /// The order of time.
    #[serde(default)]
    #[param(value_type = String, pattern = "^(asc|desc)$", default = "asc")]
    order: Direction,
    /// Names of fields with commas between them, such as `a,b.c`; only these are returned. `_origin` says where a record is
    /// from, `_cursor` is the `cursor` of what follows it, `*` stands for all fields.
    fields: Option<String>,
    /// Records in the answer; more than 1000 only as NDJSON or CSV.
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 100_000, default = 1000)]
    limit: Option<u32>,
    /// `next` of the previous page, or `_cursor` of a record.
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    #[default]
    Asc,
    Desc,
}

/// A record: its own fields, with `_id`, and `_origin`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordItem {
    _origin: RecordOrigin,
    #[serde(flatten)]
    #[schema(additional_properties = true)]
    fields: BTreeMap<String, serde_json::Value>,
}

/// Where a record is from, as far as it is known.
#[derive(Debug, Serialize, ToSchema)]
struct RecordOrigin {
    /// batch or stream; absent if apps of both layers write to the collection and the record does not tell.
    layer: Option<String>,
    /// The ingestion of its file; known with ids `key`.
    ingestion: Option<String>,
    /// The first 16 digits of the ingestion of its file; known with ids `platform`.
    ingestion_prefix: Option<String>,
    /// Its number in the file, from 0.
    record: Option<u64>,
    /// The source of a numbered message.
    source: Option<String>,
    /// The numbering of the source, an unsigned 64-bit number in digits.
    epoch: Option<String>,
    /// The number of the message.
    seq: Option<u64>,
    /// When its file was dropped, or its message arrived; known with ids `key`.
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
}

/// A page of records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordPage {
    items: Vec<RecordItem>,
    /// The `cursor` of the next page; absent if this is the last one.
    next: Option<String>,
}

/// The records of a view
///
/// In the order of time; at the same time first those of the batch layer, then by `_id`. In a view of the kind `override` a
/// record of the speed layer is left out if the batch layer has one with the same key, at whatever time. Up to 1000 records
/// are a page (a page of large records ends after 8 MiB); up to 100,000 are written while they are read, as NDJSON or CSV,
/// and end without a cursor: ask for the field `_cursor` to continue after any record. If the store fails meanwhile, the
/// answer breaks off. CSV requires `fields`.
#[utoipa::path(
    get,
    path = "/api/clients/{client}/records",
    operation_id = "list_records",
    tag = "records",
    params(("client" = String, Path), Parameters),
    responses(
        (status = 200, description = "Records", content(
            (RecordPage = "application/json"),
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
    let view = view(&tenant, parameters.view.as_deref())?;
    let media_type = representation.media_type;
    let limit = page::long_limit(parameters.limit, media_type, LIST_RECORDS_MAX)?;
    let fields = parameters.fields.as_deref().map(RecordFields::parse).transpose()?.unwrap_or_default();
    let columns = match (media_type, fields.columns()) {
        (MediaType::Csv, Some(columns)) => Some(columns.to_vec()),
        (MediaType::Csv, None) => {
            return Err(Problem::invalid(
                "invalid fields: CSV has a column for each field, expected their names, such as fields=_id,a,b.c",
            ));
        }
        (MediaType::Json | MediaType::Ndjson, _) => None,
    };
    let query = RecordsQuery {
        client: tenant.id.clone(),
        view: view.clone(),
        from: parameters.from,
        until: parameters.until,
        source: parameters.source.as_deref().map(|source| self::source(view, source)).transpose()?,
        order: match parameters.order {
            Direction::Asc => Order::Ascending,
            Direction::Desc => Order::Descending,
        },
        fields,
        after: parameters.cursor.as_deref().map(RecordsPosition::parse).transpose()?,
        expected: limit,
    };
    let within = server.config().settings.serving.query_timeout.duration();
    let store = server.database(tenant.client()).await?;
    indexed(&server, &store, &tenant.client().database, view, query.source.is_some()).await?;
    let turn = if limit > page::LIMIT_MAX { Some(turn(&server, &tenant.id).await?) } else { None };
    let records = Records::open(store, query, Arc::clone(&server.sources)).await?;
    let writer = Writer { records, media_type, remaining: limit, within, _turn: turn };
    let mut begin = representation.begin_page();
    if let Some(columns) = columns {
        records::append_header(&mut begin, &columns);
    }
    if limit <= page::LIMIT_MAX {
        writer.page(&representation, begin).await
    } else {
        writer.list(&representation, begin).await
    }
}

/// Waits until another long list may be written, for half of the time that a query has.
async fn turn(server: &Server, client: &ClientId) -> Result<ListTurn> {
    let within = server.config().settings.serving.query_timeout.duration() / 2;
    timeout(within, server.list_turns.take(client)).await.map_err(|_| {
        let detail = format!(
            "too many lists of more than {} records are being read: try again later",
            page::LIMIT_MAX
        );
        Problem::new(ProblemCode::Unavailable, detail)
    })
}

pub(super) fn view<'t>(tenant: &'t Tenant<Read>, name: Option<&str>) -> Result<&'t View> {
    let views = &tenant.client().views;
    name.and_then(|name| views.get(name)).ok_or_else(|| {
        let expected = match views.keys().map(String::as_str).collect::<Vec<_>>().join(", ") {
            names if names.is_empty() => {
                format!("client {} has no views: config.json defines them", tenant.id)
            }
            names => format!("expected one of {names}"),
        };
        Problem::invalid(match name {
            Some(name) => format!("invalid view {name:?}: {expected}"),
            None => format!("view is missing: {expected}"),
        })
    })
}

pub(super) fn source(view: &View, source: &str) -> Result<Bson> {
    if view.source.is_none() {
        return Err(Problem::invalid(format!("invalid source: view {} has no field for it", view.name)));
    }
    let number = || source.parse::<i64>().map(Bson::from).or_else(|_| source.parse::<f64>().map(Bson::from));
    match view.source_type {
        SourceType::Text => Ok(source.into()),
        SourceType::Number => number().map_err(|_| {
            Problem::invalid(format!("invalid source {source:?}: view {} has numbers there", view.name))
        }),
    }
}

/// Waits for the indexes of a query, for half of the time that it has.
pub(super) async fn indexed(
    server: &Server,
    store: &Arc<dyn Coredms>,
    database: &str,
    view: &View,
    has_source: bool,
) -> Result<()> {
    let within = server.config().settings.serving.query_timeout.duration();
    let all = async {
        for (collection, fields) in records::indexes(view, has_source) {
            server.indexes.ensure(store, database, collection, fields).await;
        }
    };
    timeout(within / 2, all).await.map_err(|_| {
        let detail = format!(
            "an index for view {} is still being built, or the store does not answer: try again later",
            view.name
        );
        Problem::new(ProblemCode::Unavailable, detail)
    })
}

/// Writes records into one buffer.
struct Writer {
    records: Records,
    media_type: MediaType,
    remaining: u32,
    /// How long a piece may take.
    within: Duration,
    /// Of a long list, until its reader has taken all of it.
    _turn: Option<ListTurn>,
}

impl Writer {
    /// Appends records until there is no more of them, or the buffer has this size; returns whether there are more.
    async fn append(&mut self, buffer: &mut Vec<u8>, bytes: usize) -> Result<bool, QueryError> {
        let form = match self.media_type {
            MediaType::Csv => RecordForm::Row,
            MediaType::Json | MediaType::Ndjson => RecordForm::Object,
        };
        let mut is_first = true;
        while self.remaining > 0 {
            if buffer.len() >= bytes {
                return Ok(true);
            }
            let length = buffer.len();
            if self.media_type == MediaType::Json && !std::mem::take(&mut is_first) {
                buffer.extend_from_slice(b",\n");
            }
            if !self.records.append_next(buffer, form).await? {
                buffer.truncate(length);
                return Ok(false);
            }
            if self.media_type == MediaType::Ndjson {
                buffer.push(b'\n');
            }
            self.remaining -= 1;
        }
        Ok(false)
    }

    async fn page(mut self, representation: &Representation, mut buffer: Vec<u8>) -> Result<Response> {
        self.append(&mut buffer, PAGE_BYTES).await?;
        let next = match self.records.has_next().await? {
            true => Some(self.records.position().to_text()),
            false => None,
        };
        Ok(representation.end_page(buffer, next.as_deref()))
    }

    async fn list(mut self, representation: &Representation, mut begin: Vec<u8>) -> Result<Response> {
        // Before the head of the answer: whoever cannot read anything gets an error.
        let has_more = self.append(&mut begin, PIECE_BYTES).await?;
        let pieces = self.pieces(Bytes::from(begin), has_more);
        Ok(representation.of_bytes(Body::from_stream(pieces)))
    }

    fn pieces(self, first: Bytes, has_more: bool) -> impl Stream<Item = Result<Bytes, QueryError>> + Send {
        let rest = stream::try_unfold(Some(self).filter(|_| has_more), async |writer| {
            let Some(mut writer) = writer else { return Ok(None) };
            let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
            let within = writer.within;
            let append = timeout(within, writer.append(&mut piece, PIECE_BYTES)).await;
            let has_more = append
                .unwrap_or_else(|_| {
                    Err(QueryError::NoAnswer(format!("the store has returned nothing within {within:?}")))
                })
                .inspect_err(|error| {
                    tracing::warn!(error = error_chain(error), "an answer breaks off");
                })?;
            Ok(Some((Bytes::from(piece), Some(writer).filter(|_| has_more))))
        });
        stream::once(std::future::ready(Ok(first))).chain(rest)
    }
}
