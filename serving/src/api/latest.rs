//! The latest record of each source.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mysimbdp_config::View;
use mysimbdp_query::records::{self, SourceKey};
use mysimbdp_telemetry::metrics::metrics;
use serde::Deserialize;
use utoipa::IntoParams;

use super::records::{RecordItem, RecordPage, indexed, source, view};
use crate::extract::{Path, Query, Read, Tenant, number};
use crate::page::{self, cursor, position};
use crate::problem::{Problem, ProblemCode, Result};
use crate::representation::{MediaType, Representation};
use crate::server::Server;

/// How many records of a page are read from the store at the same time.
const READS_MAX: usize = 8;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// The name of a view of the client that has a field for the source. Required.
    #[param(required = true)]
    view: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParameters {
    /// The name of a view of the client that has a field for the source. Required.
    #[param(required = true)]
    view: Option<String>,
    /// Records in the page.
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// A record, and how long ago it became known to be the latest one.
struct Latest {
    json: Bytes,
    age: Duration,
}

/// The latest record of a source
///
/// The last one in the order of `/api/clients/{client}/records`. It is answered from memory where that is certain to be up to
/// date; `Age` says for how many seconds it has been the latest one there.
#[utoipa::path(
    get,
    path = "/api/clients/{client}/latest/{source}",
    operation_id = "get_latest",
    tag = "records",
    params(("client" = String, Path), ("source" = String, Path, description = "A value of the view's source field"), Parameters),
    responses(
        (status = 200, description = "The record", body = RecordItem, headers(("Age" = u64, description = "Seconds since it was read from the store, or announced as stored"))),
        Problem,
    )
)]
pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    tenant: Tenant<Read>,
    Path((_, given)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Result<Response> {
    let view = with_source(&tenant, parameters.view.as_deref())?;
    let value = source(view, &given)?;
    let unknown = || {
        let detail = format!("view {} has no record of source {given:?}", view.name);
        Problem::not_found(detail)
    };
    let source = SourceKey::of(&value, view.source_type).ok_or_else(unknown)?;
    let Latest { json, age } = latest(&server, &tenant, view, source).await?.ok_or_else(unknown)?;
    let age = HeaderValue::from(age.as_secs());
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json")), (header::AGE, age)], json)
        .into_response())
}

/// The latest record of each source
///
/// In the order of the sources. `Age` is that of the record that has been the latest one for the longest time.
#[utoipa::path(
    get,
    path = "/api/clients/{client}/latest",
    operation_id = "list_latest",
    tag = "records",
    params(("client" = String, Path), ListParameters),
    responses(
        (status = 200, description = "The records", content(
            (RecordPage = "application/json"),
            (String = "application/x-ndjson"),
        )),
        Problem,
    )
)]
pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    tenant: Tenant<Read>,
    Query(parameters): Query<ListParameters>,
    representation: Representation,
) -> Result<Response> {
    let view = with_source(&tenant, parameters.view.as_deref())?;
    let limit = page::limit(parameters.limit)?;
    if representation.media_type == MediaType::Csv {
        let detail = "records have no common columns: expected application/json or application/x-ndjson";
        return Err(Problem::new(ProblemCode::NotAcceptable, detail));
    }
    let after: Option<SourceKey> = parameters.cursor.as_deref().map(position).transpose()?;
    let store = server.database(tenant.client()).await?;
    indexed(&server, &store, &tenant.client().database, view, true).await?;
    let mut sources = records::sources(store.as_ref(), view, after.as_ref(), limit + 1).await?;
    let next = (sources.len() > limit).then(|| {
        sources.truncate(limit);
        sources.last().map(cursor)
    });
    let reads = stream::iter(sources).map(|source| latest(&server, &tenant, view, source));
    let found: Vec<Option<Latest>> = reads.buffered(READS_MAX).try_collect().await?;
    let found: Vec<Latest> = found.into_iter().flatten().collect();
    let age = found.iter().map(|latest| latest.age).max().unwrap_or_default();
    let mut response =
        representation.of_objects(found.iter().map(|latest| &latest.json), next.flatten().as_deref());
    response.headers_mut().insert(header::AGE, HeaderValue::from(age.as_secs()));
    Ok(response)
}

fn with_source<'t>(tenant: &'t Tenant<Read>, name: Option<&str>) -> Result<&'t View> {
    let view = view(tenant, name)?;
    match view.source {
        Some(_) => Ok(view),
        None => {
            Err(Problem::invalid(format!("invalid view {:?}: it has no field for the source", view.name)))
        }
    }
}

/// Returns the latest record of a source, from memory if it is certain to be up to date there.
async fn latest(
    server: &Server,
    tenant: &Tenant<Read>,
    view: &View,
    source: SourceKey,
) -> Result<Option<Latest>> {
    let layers = || view.batch.iter().chain(&view.stream);
    let is_announced =
        || layers().all(|layer| server.stored.is_complete(&tenant.config, &tenant.id, &layer.collection));
    let answered = &metrics().latest_answers;
    let key = (tenant.id.clone(), view.name.clone(), source.clone());
    if is_announced()
        && let Some(known) = server.latest.get(&key)
    {
        answered.with([tenant.id.as_str(), "memory"]).inc();
        return Ok(Some(Latest { json: known.json, age: known.since.elapsed() }));
    }
    let store = server.database(tenant.client()).await?;
    indexed(server, &store, &tenant.client().database, view, true).await?;
    answered.with([tenant.id.as_str(), "store"]).inc();
    let reading = server.latest.read(key);
    let names = Arc::clone(&server.sources);
    let Some(record) = records::latest(store, &tenant.id, view, &source, names).await? else {
        return Ok(None);
    };
    // It may be kept only if all changes since the read began are announced.
    let json = if is_announced() { reading.finish(record) } else { record.json.into() };
    Ok(Some(Latest { json, age: Duration::ZERO }))
}
