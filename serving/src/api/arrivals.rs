//! Arrival contracts, and what became of their due times.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use mysimbdp_model::arrival::ArrivalOutcome;
use mysimbdp_model::reason::ReasonCode;
use mysimbdp_query::arrivals::{self, ContractPosition, ContractStatus};
use mysimbdp_store::arrivals::{ArrivalRecord, DiscardedFile};
use mysimbdp_store::date::time;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use crate::extract::{Allowed, Query, Read, number};
use crate::page::{self, Page};
use crate::problem::{Problem, Result};
use crate::representation::{Item, Representation};
use crate::server::Server;

/// An arrival contract, and what became of its latest due times.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArrivalItem {
    client: String,
    /// Its name, unique among the client's contracts.
    contract: String,
    /// The app whose files are expected.
    app: String,
    /// A glob of their names.
    files: String,
    /// The time zone of `by`.
    zone: String,
    /// The local time at which a file is due.
    by: String,
    /// How far due times are apart.
    every: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    records_min: Option<u64>,
    /// What became of `due`: expected (nothing has arrived, or it has not been judged yet), on_time, late, missing, too_small, repeated.
    #[schema(schema_with = states)]
    state: ArrivalOutcome,
    /// The due time that matters now: the last one until half of the way to the next, or, if no file came for it, until one comes for
    /// the next; else the next one.
    #[schema(value_type = String, format = DateTime)]
    due: Timestamp,
    /// Since when it has this state; absent if nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    next_due: Timestamp,
    #[serde(flatten)]
    arrived: Arrived,
    /// The last file that was discarded, if none has satisfied `due`.
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<DiscardedItem>,
    /// The latest due times for which there is something to tell, the latest first.
    recent: Vec<DueItem>,
}

/// What became of a due time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DueItem {
    #[schema(value_type = String, format = DateTime)]
    due: Timestamp,
    #[schema(schema_with = states)]
    state: ArrivalOutcome,
    #[serde(flatten)]
    arrived: Arrived,
}

/// The file that decided what became of a due time; of a repeated one the last one.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Arrived {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// waiting, staged, held, ingested or discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_state: Option<String>,
    /// Identifies its content; absent if that has not been read.
    #[serde(skip_serializing_if = "Option::is_none")]
    ingestion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
    /// Absent until it is ingested.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
}

/// A file that was discarded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiscardedItem {
    file: String,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    reasons: Vec<String>,
    /// The kind of each reason, for programs.
    #[schema(value_type = Vec<String>)]
    codes: Vec<ReasonCode>,
}

impl Item for ArrivalItem {
    const COLUMNS: &'static [&'static str] = &[
        "client",
        "contract",
        "app",
        "files",
        "zone",
        "by",
        "every",
        "records_min",
        "state",
        "due",
        "since",
        "next_due",
        "file",
        "file_state",
        "ingestion",
        "received_at",
        "records",
    ];
}

fn states() -> RefOr<Schema> {
    let names = ArrivalOutcome::ALL.map(ArrivalOutcome::as_str);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).into()
}

/// Which contracts are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// Only the contracts of this client.
    client: Option<String>,
    /// Contracts in a page.
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// Arrival contracts
///
/// Which files are expected when, and whether they came, in the order of clients and names.
#[utoipa::path(
    get,
    path = "/api/arrivals",
    operation_id = "list_arrivals",
    tag = "arrivals",
    params(Parameters),
    responses(
        (status = 200, description = "A page of contracts", content(
            (Page<ArrivalItem> = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        Problem,
    )
)]
pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    allowed: Allowed<Read>,
    Query(parameters): Query<Parameters>,
    representation: Representation,
) -> Result<Response> {
    let only = allowed.client(parameters.client.as_deref())?;
    let limit = page::limit(parameters.limit)?;
    let after = parameters.cursor.as_deref().map(page::position::<ContractPosition>).transpose()?;
    let history = server.history().await?;
    let page = arrivals::page(&allowed.config, history, only.as_ref(), after.as_ref(), limit).await?;
    representation.page(Page {
        items: page.contracts.into_iter().map(item).collect(),
        next: page.next.as_ref().map(page::cursor),
    })
}

pub(crate) fn item(status: ContractStatus) -> ArrivalItem {
    let ContractStatus { client, contract, app, settings, state, due, next_due, record, recent } = status;
    ArrivalItem {
        client: client.to_string(),
        contract,
        app,
        files: settings.files,
        zone: settings.zone,
        by: settings.by,
        every: settings.every.to_string(),
        records_min: settings.records_min,
        state,
        due,
        since: record.as_ref().map(|record| time(record.changed_at)),
        next_due,
        arrived: record.as_ref().map(arrived).unwrap_or_default(),
        discarded: record.and_then(|record| record.discarded).map(discarded),
        recent: recent.iter().map(due_item).collect(),
    }
}

fn due_item(record: &ArrivalRecord) -> DueItem {
    DueItem { due: time(record.due), state: record.state, arrived: arrived(record) }
}

fn arrived(record: &ArrivalRecord) -> Arrived {
    let Some(arrived) = &record.arrived else { return Arrived::default() };
    Arrived {
        file: Some(arrived.file.clone()),
        file_state: Some(arrived.state.clone()),
        ingestion: arrived.ingestion.clone(),
        received_at: Some(time(arrived.received_at)),
        records: arrived.records.and_then(|records| u64::try_from(records).ok()),
    }
}

fn discarded(file: DiscardedFile) -> DiscardedItem {
    let DiscardedFile { file, received_at, reasons, codes } = file;
    DiscardedItem { file, received_at: time(received_at), reasons, codes }
}
