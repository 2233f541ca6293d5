//! Whether the server lives, whether the platform is ready, and what it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mysimbdp_query::snapshot::{self, Condition, Part};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::access;
use crate::api::clients::NoParameters;
use crate::extract::Query;
use crate::problem::{Problem, ProblemCode, RETRY_AFTER_SECONDS, Result};
use crate::server::Server;
use crate::tokens::Right;

/// The version of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    name: &'static str,
    version: &'static str,
}

/// The server runs
///
/// Needs no token, and asks nothing of broker or store: restart the process if it does not answer.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    security(()),
    responses(
        (status = 200, description = "It runs", body = String, content_type = "text/plain"),
        Problem,
    )
)]
pub(crate) async fn livez(Query(NoParameters {}): Query<NoParameters>) -> &'static str {
    "ok\n"
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadinessParameters {
    /// Whether to list each process, connection and stream; present without a value, or `true`. Needs the right to read of
    /// all clients.
    #[param(pattern = "^(true|false)?$")]
    verbose: Option<String>,
}

/// The state of the platform.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    ready: bool,
    /// Each thing that the configuration requires; only with `verbose`.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<ReadinessPart>>,
}

/// A process, connection or stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadinessPart {
    /// `process`, `connection` or `stream`.
    kind: &'static str,
    name: String,
    /// `ok`, `unknown` (on another host), `waits` (may recover by itself) or `missing`.
    condition: &'static str,
    text: String,
}

/// The platform is ready
///
/// Whether everything that the configuration requires is running: processes, broker, store and streams.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    security(()),
    params(ReadinessParameters),
    responses(
        (status = 200, description = "It is ready", body = Readiness),
        (status = 503, description = "Something is missing, or waits", body = Readiness),
        Problem,
    )
)]
pub(crate) async fn readyz(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Query(parameters): Query<ReadinessParameters>,
) -> Result<Response> {
    let is_verbose = match parameters.verbose.as_deref() {
        None | Some("false") => false,
        Some("" | "true") => true,
        Some(other) => {
            return Err(Problem::invalid(format!(
                "invalid verbose {other:?}: expected no value, true or false"
            )));
        }
    };
    if is_verbose && !access::caller(&server, &headers)?.may_for_all(Right::Read) {
        let detail = "the token does not allow to read of all clients";
        return Err(Problem::new(ProblemCode::Forbidden, detail));
    }
    let parts = snapshot::take(&server.config()).await.parts;
    let ready = snapshot::worst(&parts) <= Condition::Unknown;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let parts = is_verbose.then(|| parts.into_iter().map(part).collect());
    let mut response = (status, Json(Readiness { ready, parts })).into_response();
    if !ready {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
    }
    Ok(response)
}

fn part(part: Part) -> ReadinessPart {
    ReadinessPart {
        kind: part.kind.name(),
        name: part.name,
        condition: part.condition.name(),
        text: part.text,
    }
}

/// The version
#[utoipa::path(
    get,
    path = "/version",
    tag = "health",
    security(()),
    responses(
        (status = 200, description = "The version", body = Version),
        Problem,
    )
)]
pub(crate) async fn version(Query(NoParameters {}): Query<NoParameters>) -> Json<Version> {
    Json(Version { name: "mysimbdp", version: env!("CARGO_PKG_VERSION") })
}
