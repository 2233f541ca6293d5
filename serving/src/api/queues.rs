//! The queues of staged files.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::clock;
use mysimbdp_query::queues::{self, Queue};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::extract::{Allowed, Query, Read};
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::representation::{Item, Representation};
use crate::server::Server;

/// The staged files of a client in one lane.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueItem {
    client: String,
    /// live, backfill or retry.
    #[schema(value_type = String)]
    lane: Lane,
    files: u64,
    /// Files of which a micro-batch was begun.
    begun: u64,
    bytes: u64,
    records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_staged_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_seconds: Option<f64>,
    /// Why the oldest one is not ingested, if its last attempt failed or waits for something.
    #[serde(skip_serializing_if = "Option::is_none")]
    head_waits_for: Option<String>,
    /// Runs that the following times are from: of the client's latest 1000 those of this lane.
    wait_runs: u64,
    /// Half of the runs took at most this long from staging to their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_p50_seconds: Option<f64>,
    /// 99 of 100 runs took at most this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_p99_seconds: Option<f64>,
}

impl Item for QueueItem {
    const COLUMNS: &'static [&'static str] = &[
        "client",
        "lane",
        "files",
        "begun",
        "bytes",
        "records",
        "oldest_staged_at",
        "oldest_seconds",
        "head_waits_for",
        "wait_runs",
        "wait_p50_seconds",
        "wait_p99_seconds",
    ];
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// Only the queues of this client.
    client: Option<String>,
}

/// The queues
///
/// How many files of each client are staged in each lane, since when, and what the oldest one waits for; and how long the latest
/// files took from staging to their end.
#[utoipa::path(
    get,
    path = "/api/queues",
    operation_id = "list_queues",
    tag = "queues",
    params(Parameters),
    responses(
        (status = 200, description = "The queues", content(
            (Page<QueueItem> = "application/json"),
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
    let queues = queues::queues(&allowed.config, server.history().await?, only.as_ref()).await?;
    representation.page(Page { items: queues.into_iter().map(item).collect(), next: None })
}

fn item(queue: Queue) -> QueueItem {
    let age = |since: Timestamp| clock::now().duration_since(since).as_secs_f64().max(0.0);
    QueueItem {
        client: queue.client.to_string(),
        lane: queue.lane,
        files: queue.files as u64,
        begun: queue.begun as u64,
        bytes: queue.bytes,
        records: queue.records,
        oldest_staged_at: queue.oldest_staged_at,
        oldest_seconds: queue.oldest_staged_at.map(age),
        head_waits_for: queue.head_waits_for,
        wait_runs: queue.wait.map_or(0, |wait| wait.runs as u64),
        wait_p50_seconds: queue.wait.map(|wait| wait.median.as_secs_f64()),
        wait_p99_seconds: queue.wait.map(|wait| wait.p99.as_secs_f64()),
    }
}
