//! One ingestion: everything about it, and its retry.

use std::path::Component;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::{Format, Lane, Manifest, MicroBatch};
use mysimbdp_model::outcome::{Outcome, Run};
use mysimbdp_model::reason::ReasonCode;
use mysimbdp_platform::files;
use mysimbdp_query::QueryError;
use mysimbdp_query::file_list::FileState;
use mysimbdp_query::ingestion::{self, IngestionDetails};
use mysimbdp_query::notify_staged::RestagedNotifier;
use mysimbdp_query::retry::{self, Retried};
use mysimbdp_spool::staging::Attempt;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::FileStateSchema;
use crate::api::clients::NoParameters;
use crate::extract::{Allowed, Operate, Path, Query, Read};
use crate::problem::{Problem, Result};
use crate::server::Server;

/// Everything about an ingestion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ingestion {
    ingestion: String,
    client: String,
    #[schema(value_type = FileStateSchema)]
    state: FileState,
    /// What the file was split into; only while it is staged or held.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<ManifestItem>,
    /// Why it is held.
    reasons: Vec<String>,
    /// The kind of each reason, for programs.
    #[schema(value_type = Vec<String>)]
    codes: Vec<ReasonCode>,
    /// What is damaged on disk, and needs a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
    /// Its runs that have ended, the latest first.
    runs: Vec<RunItem>,
}

/// What a staged or held file was split into.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ManifestItem {
    file: String,
    bytes: u64,
    records: u64,
    /// The hash of the content, hexadecimal.
    blake3: String,
    #[schema(value_type = String)]
    format: Format,
    app: String,
    /// The queue: live, backfill or retry.
    #[schema(value_type = String)]
    lane: Lane,
    /// Whether it replaces what earlier runs of the content have stored.
    replace: bool,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    staged_at: Timestamp,
    micro_batches: Vec<MicroBatchItem>,
}

/// A micro-batch, and what is known about its ingestion. If the app's unit is the file, the first one stands for all.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MicroBatchItem {
    index: u32,
    /// The number of its first record in the file, from 0.
    first_record: u64,
    records: u64,
    bytes: u64,
    is_done: bool,
    /// Attempts so far, and how many of them failed because of the app.
    attempts: u32,
    failures: u32,
    /// Why the last attempt failed, or what the next one waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<u64>,
    /// The time that its last attempt took.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

/// A run that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunItem {
    id: String,
    #[schema(value_type = FileStateSchema)]
    state: FileState,
    file: String,
    bytes: u64,
    app: String,
    /// The queue: live, backfill or retry.
    #[schema(value_type = String)]
    lane: Lane,
    /// The collection of its records; absent from runs of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<String>,
    /// Whether it replaced what earlier runs of the content had stored.
    replace: bool,
    micro_batches: u32,
    received: u64,
    stored: u64,
    /// Records that were already stored before.
    duplicates: u64,
    rejected: u64,
    /// Whether the stored records were counted in the store.
    audited: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    staged_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    seconds: SecondsByStage,
    /// Why it was held.
    reasons: Vec<String>,
    /// The kind of each reason, for programs.
    #[schema(value_type = Vec<String>)]
    codes: Vec<ReasonCode>,
}

/// Where the time of a run went, in seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecondsByStage {
    /// From the arrival in the drop directory until it was staged: settling, validation, splitting.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<f64>,
    /// From then to the end: waiting for the app, ingestion, audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    ingest: Option<f64>,
    /// From the time that it had settled to the end.
    total: f64,
}

/// An ingestion
///
/// Manifest and progress while it is staged or held, and all its runs.
#[utoipa::path(
    get,
    path = "/api/ingestions/{ingestion}",
    operation_id = "get_ingestion",
    tag = "ingestions",
    params(("ingestion" = String, Path, description = "The ingestion, 32 hexadecimal digits")),
    responses(
        (status = 200, description = "The ingestion", body = Ingestion),
        Problem,
    )
)]
pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    allowed: Allowed<Read>,
    Path(id): Path<String>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Json<Ingestion>> {
    let ingestion = parse(&id)?;
    let details = match ingestion::find(&allowed.config, server.history().await?, ingestion).await {
        Ok(details) if allowed.may_see(&details.client) => details,
        // The same answer for what another client has, and for what nobody has.
        Ok(_) => return Err(unknown(&id)),
        Err(QueryError::NotFound(_)) if allowed.caller.only_client().is_some() => return Err(unknown(&id)),
        Err(error) => return Err(error.into()),
    };
    Ok(Json(item(details)))
}

/// Where a retried file is now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetriedFile {
    /// The ingestion that is staged again; of a held file.
    #[serde(skip_serializing_if = "Option::is_none")]
    ingestion: Option<String>,
    /// The paths in the drop directory, from where it is taken again; of a discarded file.
    dropped_at: Vec<String>,
}

/// Retry a held or discarded file
///
/// A held file returns to the queue, a discarded one to the drop directory. `ingestion` is the `id` of the file in
/// `/api/files`.
#[utoipa::path(
    post,
    path = "/api/ingestions/{ingestion}/retry",
    operation_id = "retry_file",
    tag = "ingestions",
    params(("ingestion" = String, Path, description = "The ingestion of a held file, or the id of a discarded one")),
    responses(
        (status = 202, description = "It is processed again", body = RetriedFile),
        Problem,
    )
)]
pub(crate) async fn retry(
    allowed: Allowed<Operate>,
    Path(id): Path<String>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Response> {
    if let Some(client) = allowed.caller.only_client()
        && !is_set_aside(&allowed.config, client, &id)
    {
        return Err(unknown(&id));
    }
    let (config, name) = (Arc::clone(&allowed.config), id);
    let retried = tokio::task::spawn_blocking(move || retry::retry(&config, &name)).await;
    let retried = retried.map_err(|error| QueryError::TryLater(error.to_string()))??;
    Ok(match retried {
        Retried::Staged { ingestion, client } => {
            let mut notifier = RestagedNotifier::new(&allowed.config);
            notifier.notify(&client, ingestion).await;
            notifier.close().await;
            let address = format!("/api/ingestions/{ingestion}");
            let file = RetriedFile { ingestion: Some(ingestion.to_string()), dropped_at: Vec::new() };
            (StatusCode::ACCEPTED, [(header::LOCATION, address)], Json(file)).into_response()
        }
        Retried::DroppedAgain(paths) => {
            let dropped_at = paths.iter().map(ToString::to_string).collect();
            (StatusCode::ACCEPTED, Json(RetriedFile { ingestion: None, dropped_at })).into_response()
        }
    })
}

/// Whether this client has such a held or discarded file.
fn is_set_aside(config: &Config, client: &ClientId, id: &str) -> bool {
    let mut components = std::path::Path::new(id).components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    let roots = [config.layout.held_root(), config.layout.discarded_root()];
    is_name && roots.iter().any(|root| files::exists(&root.join(client.as_str()).join(id)))
}

pub(crate) fn parse(id: &str) -> Result<IngestionId> {
    id.parse::<IngestionId>().map_err(|error| Problem::not_found(error.to_string()))
}

/// Answers a caller for one client about what is not there, or belongs to another one.
pub(crate) fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("this client has no file with the id {id:?}"))
}

fn item(details: IngestionDetails) -> Ingestion {
    let IngestionDetails { client, ingestion, state, manifest, attempts, outcomes, reason, damage, runs } =
        details;
    let manifest = manifest.map(|manifest| {
        let batches = manifest.micro_batches.iter();
        let micro_batches =
            batches.map(|batch| micro_batch(batch, attempts.get(&batch.index), outcomes.get(&batch.index)));
        let micro_batches = micro_batches.collect();
        let Manifest { file, bytes, records, blake3, format, app, lane, replace, .. } = manifest;
        let (received_at, staged_at) = (manifest.received_at, manifest.staged_at);
        ManifestItem {
            file,
            bytes,
            records,
            blake3,
            format,
            app,
            lane,
            replace,
            received_at,
            staged_at,
            micro_batches,
        }
    });
    let (reasons, codes) = reason.map(|reason| (reason.reasons, reason.codes)).unwrap_or_default();
    Ingestion {
        ingestion: ingestion.to_string(),
        client,
        state,
        manifest,
        reasons,
        codes,
        damage,
        runs: runs.into_iter().map(run).collect(),
    }
}

fn micro_batch(batch: &MicroBatch, attempt: Option<&Attempt>, outcome: Option<&Outcome>) -> MicroBatchItem {
    let counts = outcome.map(|outcome| outcome.counts);
    MicroBatchItem {
        index: batch.index,
        first_record: batch.first_record,
        records: batch.records,
        bytes: batch.length,
        is_done: outcome.is_some(),
        attempts: outcome.map(|outcome| outcome.attempt).or(attempt.map(|one| one.attempt)).unwrap_or(0),
        failures: attempt.map_or(0, |attempt| attempt.failures),
        reason: attempt.and_then(|attempt| attempt.reason.clone()).filter(|_| outcome.is_none()),
        stored: counts.map(|counts| counts.stored),
        duplicates: counts.map(|counts| counts.duplicates),
        rejected: counts.map(|counts| counts.rejected),
        seconds: outcome.map(|outcome| outcome.seconds),
    }
}

fn run(run: Run) -> RunItem {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let at = |time: bson::DateTime| Timestamp::from_millisecond(time.timestamp_millis()).ok();
    let seconds = |from: bson::DateTime, to: bson::DateTime| {
        let millis = to.timestamp_millis().checked_sub(from.timestamp_millis())?;
        Some(millis.max(0) as f64 / 1e3)
    };
    RunItem {
        state: ingestion::state_of(run.state),
        app: run.app,
        lane: run.lane,
        file: run.file,
        bytes: run.bytes,
        collection: run.collection,
        replace: run.replace,
        micro_batches: run.micro_batches,
        received: count(run.received),
        stored: count(run.stored),
        duplicates: count(run.duplicates),
        rejected: count(run.rejected),
        audited: run.audited,
        received_at: at(run.received_at),
        staged_at: at(run.staged_at),
        finished_at: at(run.finished_at),
        seconds: SecondsByStage {
            stage: seconds(run.received_at, run.staged_at),
            ingest: seconds(run.staged_at, run.finished_at),
            total: run.seconds,
        },
        reasons: run.reasons,
        codes: run.codes,
        id: run.id,
    }
}
