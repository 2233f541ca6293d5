//! The streams: their instances, and requests to the stream-manager.

use axum::Json;
use axum::response::Response;
use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_stream_manager::control::client::{self, ControlError};
use mysimbdp_stream_manager::control::{
    Answer, Auto, ControlCommand, DecisionStatus, InstanceStatus, Scale, StreamStatus,
};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use crate::extract::{Allowed, JsonBody, Operate, Path, Query, Read, Tenant, whole_number};
use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::representation::{Item, Representation};

/// A stream and its instances.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamItem {
    client: String,
    stream: String,
    /// How many instances are to run.
    desired: u32,
    /// Whether a person has set `desired`; otherwise the policy decides.
    is_manual: bool,
    min: u32,
    max: u32,
    /// Whether broker and store are available, so that instances can be started.
    is_ready: bool,
    /// Why no instance can be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
    /// Why it is so many, the latest first: the last decision, and the latest ones that changed the number.
    decisions: Vec<DecisionItem>,
    instances: Vec<InstanceItem>,
}

/// A decision about the number of instances, and the load that it was based on. Of one that a person has made, there is no load.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DecisionItem {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// How many instances were to run before.
    before: u32,
    desired: u32,
    /// What the load alone recommends; cooldown and stabilization may keep the number for some time.
    #[serde(skip_serializing_if = "Option::is_none")]
    recommended: Option<u32>,
    reason: String,
    running: u32,
    /// How many of them have reported how busy they are.
    reporting: u32,
    /// The sum over those of the share of time in which each was storing.
    busy: f64,
    /// The mean time from a message's arrival to its acknowledgement.
    processing_seconds: f64,
    messages_per_report: f64,
}

/// An instance of a stream app.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceItem {
    slot: u32,
    /// `running`, `draining`, `stopping`, `backing-off`, `given-up` or `parked`.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// Messages reported since the manager started.
    messages: u64,
    /// Of these, the rejected ones.
    rejected: u64,
    /// From the last report.
    messages_per_second: f64,
    /// Mean processing time of a message, from the last report.
    processing_seconds: f64,
    /// The share of time in which it was storing, from the last report; absent if its app does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    utilization: Option<f64>,
    /// Messages received and not yet acknowledged, from the last report.
    backlog: u64,
    /// Restarts after a crash or a hang, since the manager started.
    restarts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_seconds_ago: Option<u64>,
    /// For how long it has reported nothing, if that is too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent_seconds: Option<u64>,
}

/// A stream that is to have another number of instances.
#[derive(Debug, Serialize)]
pub(crate) struct Scaled {
    before: u32,
    #[serde(flatten)]
    stream: StreamItem,
}

impl Scaled {
    pub(crate) fn new(stream: StreamStatus, before: u32) -> Self {
        Self { before, stream: item(stream) }
    }
}

impl Item for StreamItem {
    const COLUMNS: &'static [&'static str] = &[
        "client",
        "stream",
        "desired",
        "is_manual",
        "min",
        "max",
        "is_ready",
        "waits_for",
        "decisions",
        "instances",
    ];
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// Only the streams of this client.
    client: Option<String>,
}

/// All streams with their instances
///
/// As the running stream-manager reports them.
#[utoipa::path(
    get,
    path = "/api/streams",
    operation_id = "list_streams",
    tag = "streams",
    params(Parameters),
    responses(
        (status = 200, description = "The streams", content(
            (Page<StreamItem> = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        Problem,
    )
)]
pub(crate) async fn list(
    allowed: Allowed<Read>,
    Query(parameters): Query<Parameters>,
    representation: Representation,
) -> Result<Response> {
    let only = allowed.client(parameters.client.as_deref())?;
    let streams = client::list(&allowed.config.layout).await?;
    let streams =
        streams.into_iter().filter(|stream| only.as_ref().is_none_or(|only| *only == stream.client));
    representation.page(Page { items: streams.map(item).collect(), next: None })
}

/// The number of instances that a stream is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScaleRequest {
    /// A number, or `auto`: the policy decides.
    #[schema(schema_with = instances_schema)]
    #[serde(deserialize_with = "instances")]
    instances: Scale,
}

fn instances<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Scale, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(word) if word == "auto" => Ok(Scale::Auto(Auto::Auto)),
        number => whole_number(number)
            .map(Scale::Count)
            .map_err(|_| serde::de::Error::custom("expected a whole number or \"auto\"")),
    }
}

fn instances_schema() -> RefOr<Schema> {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u32::MAX));
    let auto = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["auto"]));
    OneOfBuilder::new().item(number).item(auto).into()
}

/// Which instance is to be stopped.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopRequest {
    #[serde(deserialize_with = "whole_number")]
    pid: u32,
    /// Whether the session of the stream's last instance ends too: then messages published from now on are not kept.
    #[serde(default)]
    forget: bool,
}

/// What the stream-manager did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamAnswer {
    client: String,
    stream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// How many instances are to run, if a person has set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    desired: Option<u32>,
    /// How a stopped instance ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
}

/// Set the number of instances
///
/// A number switches the policy off until `auto` switches it on again.
#[utoipa::path(
    post,
    path = "/api/clients/{client}/streams/{stream}/scale",
    operation_id = "scale_stream",
    tag = "streams",
    params(("client" = String, Path), ("stream" = String, Path)),
    request_body = ScaleRequest,
    responses(
        (status = 200, description = "Done", body = StreamAnswer),
        Problem,
    )
)]
pub(crate) async fn scale(
    tenant: Tenant<Operate>,
    Path((_, stream)): Path<(String, String)>,
    JsonBody(request): JsonBody<ScaleRequest>,
) -> Result<Json<StreamAnswer>> {
    require_stream(&tenant, &stream)?;
    let client = tenant.id.clone();
    let command = ControlCommand::Scale { client, stream: Some(stream), instances: request.instances };
    ask(&tenant.config, command).await
}

/// Start one more instance
///
/// In a slot that was given up, else an idle one, else a new one. Except for a slot that was given up, this switches the
/// policy off until `scale` with `auto` switches it on again.
#[utoipa::path(
    post,
    path = "/api/clients/{client}/streams/{stream}/start",
    operation_id = "start_instance",
    tag = "streams",
    params(("client" = String, Path), ("stream" = String, Path)),
    responses(
        (status = 200, description = "Done", body = StreamAnswer),
        Problem,
    )
)]
pub(crate) async fn start(
    tenant: Tenant<Operate>,
    Path((_, stream)): Path<(String, String)>,
) -> Result<Json<StreamAnswer>> {
    require_stream(&tenant, &stream)?;
    let command = ControlCommand::Start { client: tenant.id.clone(), pid: 0, stream: Some(stream) };
    ask(&tenant.config, command).await
}

/// Drain an instance, and wait until it has ended
#[utoipa::path(
    post,
    path = "/api/clients/{client}/streams/{stream}/stop",
    operation_id = "stop_instance",
    tag = "streams",
    params(("client" = String, Path), ("stream" = String, Path)),
    request_body = StopRequest,
    responses(
        (status = 200, description = "Done", body = StreamAnswer),
        Problem,
    )
)]
pub(crate) async fn stop(
    tenant: Tenant<Operate>,
    Path((_, stream)): Path<(String, String)>,
    JsonBody(request): JsonBody<StopRequest>,
) -> Result<Json<StreamAnswer>> {
    require_stream(&tenant, &stream)?;
    let StopRequest { pid, forget } = request;
    ask(&tenant.config, ControlCommand::Stop { client: tenant.id.clone(), pid, forget }).await
}

fn require_stream<R>(tenant: &Tenant<R>, stream: &str) -> Result<()> {
    if tenant.client().stream(stream).is_some() {
        return Ok(());
    }
    let streams: Vec<&str> = tenant.client().streams.iter().map(|stream| stream.name.as_str()).collect();
    let expected = if streams.is_empty() {
        "it has none".to_owned()
    } else {
        format!("expected {}", streams.join(", "))
    };
    Err(Problem::not_found(format!("client {} has no stream {stream:?}: {expected}", tenant.id)))
}

async fn ask(config: &Config, command: ControlCommand) -> Result<Json<StreamAnswer>> {
    let answer = |client: ClientId, stream: String| StreamAnswer {
        client: client.to_string(),
        stream,
        slot: None,
        pid: None,
        desired: None,
        end: None,
    };
    Ok(Json(match client::ask(&config.layout, command).await? {
        Answer::Started { client, stream, slot, pid, manual_number } => StreamAnswer {
            slot: Some(slot),
            pid: Some(pid),
            desired: manual_number,
            ..answer(client, stream)
        },
        Answer::Stopped { client, stream, slot, pid, end, manual_number } => {
            let end = Some(end.to_string());
            StreamAnswer {
                slot: Some(slot),
                pid: Some(pid),
                desired: manual_number,
                end,
                ..answer(client, stream)
            }
        }
        Answer::Draining { client, stream, slot, pid } => {
            StreamAnswer { slot: Some(slot), pid: Some(pid), ..answer(client, stream) }
        }
        Answer::Scaled { client, stream, desired, .. } => {
            StreamAnswer { desired: Some(desired), ..answer(client, stream) }
        }
        other @ Answer::Listed { .. } => {
            return Err(ControlError::NotAList(Box::new(other)).into());
        }
    }))
}

fn item(stream: StreamStatus) -> StreamItem {
    StreamItem {
        client: stream.client.to_string(),
        stream: stream.stream,
        desired: stream.desired,
        is_manual: stream.is_manual,
        min: stream.min,
        max: stream.max,
        is_ready: stream.ready,
        waits_for: stream.waits_for,
        decisions: stream.decisions.into_iter().map(decision).collect(),
        instances: stream.instances.into_iter().map(instance).collect(),
    }
}

fn decision(decision: DecisionStatus) -> DecisionItem {
    DecisionItem {
        at: decision.at,
        before: decision.before,
        desired: decision.desired,
        recommended: decision.recommended,
        reason: decision.reason,
        running: decision.running,
        reporting: decision.reporting,
        busy: decision.busy,
        processing_seconds: decision.processing_seconds,
        messages_per_report: decision.messages_per_report,
    }
}

fn instance(instance: InstanceStatus) -> InstanceItem {
    InstanceItem {
        slot: instance.slot,
        state: instance.state,
        pid: instance.pid,
        started_at: instance.started_at,
        messages: instance.messages,
        rejected: instance.rejected,
        messages_per_second: instance.messages_per_second,
        processing_seconds: instance.average_processing_seconds,
        utilization: instance.utilization,
        backlog: instance.backlog,
        restarts: instance.restarts,
        reported_seconds_ago: instance.reported_seconds_ago,
        silent_seconds: instance.silent_seconds,
    }
}
